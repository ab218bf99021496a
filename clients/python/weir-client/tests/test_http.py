"""With WEIR_URL events go to the agent in the background, and to the spool where they cannot."""

import json
import os
import socketserver
import threading
import unittest
from http.server import BaseHTTPRequestHandler

from support import Folder, lines, python

# A process gives a request and its own end two seconds. A busy machine may take longer, and then sends again what has arrived.
PATIENT = "import weir_client\nfrom weir_client import _http\n_http.TIMEOUT_SECONDS = _http.EXIT_SECONDS = 60\n"
EMIT = PATIENT + "for n in range(500): weir_client.emit({'event_type': 'e', 'n': n})\n"


class Collector:
    """A server that keeps what it is sent and answers as it is told to."""

    def __init__(self, path=None, status=200, failures=0):
        collector = self
        self.received, self.tokens, self.status, self.failures = [], set(), status, failures

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if collector.status == "hang":
                    collector.ended.wait()
                    return
                status = collector.status
                if collector.failures > 0:
                    collector.failures -= 1
                    status = 503
                if status == 200:
                    collector.received += [json.loads(line) for line in body.splitlines()]
                    collector.tokens.add(self.headers["Authorization"])
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                pass

            def address_string(self):
                return ""

        if path:
            self.server = socketserver.ThreadingUnixStreamServer(path, Handler)
        else:
            self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
            self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.server.daemon_threads = True
        self.ended = threading.Event()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()


class Http(unittest.TestCase):
    def test_all_events_arrive_in_order_and_none_is_spooled(self):
        with Folder() as folder, Collector() as collector:
            self.assertEqual(python(EMIT, folder, WEIR_URL=collector.url, WEIR_TOKEN="t"), (0, ""))
            self.assertEqual([event["n"] for event in collector.received], list(range(500)))
            self.assertEqual(collector.tokens, {"Bearer t"})
            self.assertEqual(lines(folder), [])

    def test_a_unix_socket_does_as_well(self):
        with Folder() as folder, Folder() as other, Collector(os.path.join(other, "s")) as collector:
            self.assertEqual(python(EMIT, folder, WEIR_URL=f"unix:{other}/s"), (0, ""))
            self.assertEqual(len(collector.received), 500)

    def test_what_cannot_be_sent_is_spooled(self):
        for status in (401, 429, 503):
            with Folder() as folder, Collector(status=status) as collector:
                python(EMIT, folder, WEIR_URL=collector.url)
                self.assertEqual(len(lines(folder)), 500, status)

    def test_what_was_spooled_is_sent_once_the_server_answers_again(self):
        code = (
            PATIENT + "import os, time\n_http.PAUSE_SECONDS = 0.2\n"
            "for n in range(500): weir_client.emit({'event_type': 'e', 'n': n, 'pad': 'x' * 5000})\n"
            "weir_client.flush(60)\n"
            "end = time.monotonic() + 100\n"
            "while os.listdir(os.environ['WEIR_SPOOL_DIR']) and time.monotonic() < end: time.sleep(0.05)\n"
        )
        with Folder() as folder, Collector(failures=3) as collector:
            self.assertEqual(python(code, folder, WEIR_URL=collector.url), (0, ""))
            self.assertEqual(lines(folder), [])
            self.assertEqual(sorted({event["n"] for event in collector.received}), list(range(500)))
            self.assertEqual((len(collector.received), collector.failures), (500, 0))

    def test_what_an_ended_process_has_spooled_is_sent_by_the_next_one(self):
        with Folder() as folder, Collector(status=503) as collector:
            python(EMIT, folder, WEIR_URL=collector.url)
            self.assertEqual(len(lines(folder)), 500)
            # A line that a sudden end has torn, and files that are nobody's business.
            left = [name for name in os.listdir(folder) if name.endswith(".ndjson")]
            with open(os.path.join(folder, left[0]), "ab") as file:
                file.write(b'{"torn":')
            with open(os.path.join(folder, "notes.ndjson"), "wb") as file:
                file.write(b'{"foreign":1}\n')
            os.symlink("/etc/passwd", os.path.join(folder, "p1t1r1.ndjson"))
            collector.status = 200
            code = (
                PATIENT + "import os, time\nweir_client.emit({'event_type': 'e', 'n': 500})\n"
                "end = time.monotonic() + 100\n"
                "while len(os.listdir(os.environ['WEIR_SPOOL_DIR'])) > 2 and time.monotonic() < end: time.sleep(0.05)\n"
            )
            self.assertEqual(python(code, folder, WEIR_URL=collector.url), (0, ""))
            self.assertEqual(sorted(event["n"] for event in collector.received), list(range(501)))
            self.assertEqual(sorted(os.listdir(folder)), ["notes.ndjson", "p1t1r1.ndjson"])

    def test_a_server_that_hangs_delays_no_event(self):
        # The server would be waited for far longer than the test waits for the process.
        code = EMIT.replace("_http.EXIT_SECONDS = 60", "3600\n_http.EXIT_SECONDS = 1")
        with Folder() as folder, Collector(status="hang") as collector:
            self.assertEqual(python(code, folder, WEIR_URL=collector.url), (0, ""))
            self.assertEqual(len({json.loads(line)["id"] for line in lines(folder)}), 500)

    def test_a_child_sends_its_own_events_alone(self):
        code = EMIT + (
            "import os\nchild = os.fork()\n"
            "weir_client.emit({'event_type': 'child' if child == 0 else 'parent'})\n"
            "weir_client.flush(60)\n"
            "os._exit(0) if child == 0 else os.waitpid(child, 0)\n"
        )
        with Folder() as folder, Collector() as collector:
            self.assertEqual(python(code, folder, WEIR_URL=collector.url), (0, ""))
            kinds = [event["event_type"] for event in collector.received]
            self.assertEqual({kind: kinds.count(kind) for kind in set(kinds)}, {"e": 500, "child": 1, "parent": 1})


if __name__ == "__main__":
    unittest.main()
