"""Follows the live streams with the libraries that people use, while it posts events itself: what each has got, as JSON."""

import json
import sys

import httpx
from httpx_sse import connect_sse
from websockets.sync.client import connect

EVENTS = 20
PATIENCE = 30

api, ingest, token = sys.argv[1:4]
base, headers = f"http://127.0.0.1:{api}", {"Authorization": f"Bearer {token}"}


def post(first):
    lines = [json.dumps({"event_type": "live", "n": n, "text": "سلام"}) for n in range(first, first + EVENTS)]
    answer = httpx.post(f"http://127.0.0.1:{ingest}/", content="\n".join(lines), timeout=PATIENCE)
    assert answer.json()["accepted"] == EVENTS, answer.text


def number(event):
    return event["metadata"]["n"]


def read_websocket(socket, count):
    found = []
    while len(found) < count:
        frame = json.loads(socket.recv(timeout=PATIENCE))
        if frame["type"] == "logs":
            assert frame["count"] == len(frame["data"]), frame
            found += frame["data"]
    return found


def read_events(source, count):
    found = []
    for event in source.iter_sse():
        if event.event == "log":
            found.append((event.id, number(json.loads(event.data))))
        if len(found) == count:
            return found


def read_admin(source, count):
    found = []
    for event in source.iter_sse():
        frame = json.loads(event.data)
        if frame["type"] == "new_activity":
            found.append(frame["data"]["action_type"])
        if len(found) == count:
            return found


client = httpx.Client(timeout=PATIENCE)
socket = connect(
    f"ws://127.0.0.1:{api}/ws/logs?q=event_type:live", additional_headers=headers, origin=base, proxy=None
)
stream = f"{base}/api/stream?q=event_type:live"
with (
    socket,
    connect_sse(client, "GET", stream, headers=headers) as sse,
    connect_sse(client, "GET", f"{base}/api/admin/activity/stream?q=event_type:live&token={token}") as admin,
):
    post(0)
    frames = read_websocket(socket, EVENTS)
    events = read_events(sse, EVENTS)
    actions = read_admin(admin, EVENTS)
print(json.dumps({"websocket": [number(frame) for frame in frames], "texts": frames[0]["metadata"]["text"]}))
print(json.dumps({"sse": [n for _, n in events], "ids": [int(id) for id, _ in events], "actions": actions}))

# Whoever comes back has what was missed, and then what comes.
post(EVENTS)
with connect_sse(client, "GET", stream, headers={**headers, "Last-Event-ID": events[4][0]}) as sse:
    print(json.dumps({"resumed": [n for _, n in read_events(sse, 2 * EVENTS - 5)]}))
