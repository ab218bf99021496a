"""A chat product's backend behind the ASGI middleware, and people who use it."""

import asyncio
import socket
import sys
import threading
import time

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from weir_client import WeirMiddleware, flush, log_activity

ALI = "00000000-0000-4000-8000-000000000001"
SARA = "00000000-0000-4000-8000-000000000002"
SUPPORT = "00000000-0000-4000-8000-0000000000a1"
FAILING = "00000000-0000-4000-8000-00000000bad1"


async def chat(request):
    if request.method == "POST":
        await asyncio.sleep(0.005 * (1 + int(request.query_params.get("slow", 0))))
    return JSONResponse({"messages": []})


async def login(request):
    body = await request.json()
    # The middleware records the request; this adds who it was that could not come in.
    request.state.user_id = body["user"]
    right = body["password"] == "right"
    return JSONResponse({"ok": right}, 200 if right else 401)


async def broken(request):
    raise RuntimeError("the model is not there")


async def remove_user(request):
    request.state.user_id = request.headers["x-user"]
    request.state.is_admin = True
    await log_activity(
        request=request, user_id=request.headers["x-user"], action_type="admin_delete_user", success=True, status_code=200,
        target_user_id=request.path_params["user"], resource_type="user", is_admin=True, details={"reason": "spam"},
    )  # fmt: skip
    return JSONResponse({})


def identify(scope):
    """What the backend knows of a request once it is over."""
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    state = scope.get("state", {})
    return {
        "user_id": state.get("user_id") or headers.get("x-user") or "anon-unknown",
        "is_admin": state.get("is_admin", False),
        # Set by the product's own proxy, in front of which nobody comes.
        "ip_address": headers.get("x-forwarded-for", scope["client"][0]),
    }


def action(scope):
    path, method = scope["path"], scope["method"].lower()
    return {"/api/login": "login", "/api/chat": "chat_read" if method == "get" else "chat_send"}.get(path, "request")


application = Starlette(
    routes=[
        Route("/api/chat", chat, methods=["GET", "POST"]),
        Route("/api/login", login, methods=["POST"]),
        Route("/api/broken", broken),
        Route("/api/users/{user}", remove_user, methods=["DELETE"]),
    ]
)
application = WeirMiddleware(application, identify=identify, event_type=action, exclude=["/healthz"])


class Backend:
    def __enter__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.server = uvicorn.Server(uvicorn.Config(application, log_level="critical"))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        return httpx.Client(base_url=f"http://127.0.0.1:{self.socket.getsockname()[1]}")

    def __exit__(self, *error):
        self.server.should_exit = True
        self.thread.join()


def people(client):
    """A day in the life of the product: 34 requests."""
    for n in range(5):
        visitor = {"x-user": f"anon-{n}", "x-forwarded-for": f"198.51.100.{n}"}
        client.get("/api/chat", headers=visitor)
        client.post("/api/chat", headers=visitor)
    for user, address in ((ALI, "203.0.113.1"), (SARA, "203.0.113.2")):
        headers = {"x-forwarded-for": address}
        client.post("/api/login", json={"user": user, "password": "right"}, headers=headers)
        for n in range(6):
            client.post("/api/chat", params={"slow": n}, headers={**headers, "x-user": user})
    for _ in range(4):
        body = {"user": FAILING, "password": "wrong"}
        client.post("/api/login", json=body, headers={"x-forwarded-for": "192.0.2.66"})
    client.post("/api/login", json={"user": ALI, "password": "wrong"}, headers={"x-forwarded-for": "203.0.113.1"})
    for path in ("/api/broken", "/api/nowhere"):
        client.get(path, headers={"x-user": SARA, "x-forwarded-for": "203.0.113.2"})
    client.delete(f"/api/users/{FAILING}", headers={"x-user": SUPPORT, "x-forwarded-for": "203.0.113.9"})
    client.get("/api/chat", headers={"x-user": ALI, "x-forwarded-for": "203.0.113.1"})


def one(client):
    client.post("/api/chat", headers={"x-user": SARA, "x-forwarded-for": "203.0.113.2"}, params={"slow": 30})


if __name__ == "__main__":
    with Backend() as browser:
        one(browser) if sys.argv[1] == "one" else people(browser)
    flush(10)
