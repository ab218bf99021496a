"""A real Jupyter server with kernels of two languages: what it sees from outside, in a folder of its own."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import unittest
import urllib.request
import uuid

from jupyter_client.blocking import BlockingKernelClient
from support import Folder, by_code, cells, eventually, events
from websockets.sync.client import connect


class Server:
    """A Jupyter server with the extension, as an installation enables it."""

    def __init__(self, home, spool=None, seen=None, configuration=""):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.token = secrets.token_hex(16)
        self.spool = spool or os.path.join(home, "spool")
        self.seen = seen or os.path.join(home, "seen")
        self.runtime = os.path.join(home, "runtime")
        ipython = os.path.join(home, "ipython", "profile_default")
        os.makedirs(ipython)
        with open(os.path.join(ipython, "ipython_config.py"), "w", encoding="utf-8") as file:
            file.write('c = get_config()\nc.InteractiveShellApp.extensions = ["weir_jupyter"]\n')
        settings = os.path.join(home, "server_config.py")
        with open(settings, "w", encoding="utf-8") as file:
            file.write(configuration)
        env = {
            **os.environ,
            "IPYTHONDIR": os.path.join(home, "ipython"),
            "WEIR_SPOOL_DIR": self.spool,
            "WEIR_SERVER_SPOOL_DIR": self.seen,
            "JUPYTER_RUNTIME_DIR": self.runtime,
            "JUPYTERHUB_USER": "سارا",
        }
        self.log = open(os.path.join(home, "log"), "w+", encoding="utf-8")
        options = [f"--port={self.port}", f"--IdentityProvider.token={self.token}", f"--ServerApp.root_dir={home}"]
        options += ["--allow-root", "--no-browser", f"--config={settings}"]
        command = [sys.executable, "-m", "jupyter_server", *options]
        self.process = subprocess.Popen(command, env=env, stdout=self.log, stderr=self.log)
        eventually("the server answers", self._answers)

    def _answers(self):
        assert self.process.poll() is None, self.said()
        try:
            return self.ask("GET", "/api/status")
        except OSError:
            return None

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def ask(self, method, path, body=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        request.add_header("Authorization", f"token {self.token}")
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(request, data, timeout=60) as answer:
            text = answer.read()
            return json.loads(text) if text else {}

    def kernel(self, name):
        """Starts a kernel by the server, and a client beside the server's own."""
        kernel_id = self.ask("POST", "/api/kernels", {"name": name})["id"]
        client = BlockingKernelClient(connection_file=os.path.join(self.runtime, f"kernel-{kernel_id}.json"))
        client.load_connection_file()
        client.start_channels()
        eventually("the kernel answers", lambda: is_ready(client))
        return kernel_id, client

    def channels(self, kernel_id, protocols=None):
        """The way of a browser."""
        address = f"ws://127.0.0.1:{self.port}/api/kernels/{kernel_id}/channels?session_id={secrets.token_hex(8)}"
        return connect(address, additional_headers={"Authorization": f"token {self.token}"}, subprotocols=protocols, max_size=None)

    def stop(self):
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


# Subscriptions of the extension, and of nobody else, that arrive late: as on a machine that has much to do.
LATE = """
import asyncio
from jupyter_client.multikernelmanager import MultiKernelManager

connect = MultiKernelManager.connect_iopub

def connect_late(self, kernel_id, *args, **kwargs):
    stream = connect(self, kernel_id, *args, **kwargs)
    stream.socket.unsubscribe(b"")
    asyncio.get_running_loop().call_later(3, stream.socket.subscribe, b"")
    return stream

MultiKernelManager.connect_iopub = connect_late
"""


# A cell after which the kernel's thread that sends is busy with something else when a cell begins.
SLOW_TO_SEND = """
import time
kernel = get_ipython().kernel
publish = kernel._publish_execute_input
def publish_late(*arguments):
    kernel.iopub_thread.schedule(lambda: time.sleep(0.5))
    publish(*arguments)
kernel._publish_execute_input = publish_late
"""


# What a cell does whose author wants no record of the next one.
CLEAR_HOOKS = "for hooks in get_ipython().events.callbacks.values(): hooks.clear()"

FRAMED = "v1.kernel.websocket.jupyter.org"


def request(code, channel="shell", framed=False, **content):
    """A request to execute as a page sends it; its id, and the message."""
    header = {"msg_id": str(uuid.uuid4()), "msg_type": "execute_request", "session": "page", "username": "", "version": "5.3", "date": ""}
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "stop_on_error": True, **content}
    if not framed:
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": channel, "buffers": []}
        return header["msg_id"], json.dumps(message)
    parts = [channel.encode(), *(json.dumps(part).encode() for part in (header, {}, {}, content))]
    offsets = [8 * (2 + len(parts))]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return header["msg_id"], b"".join(number.to_bytes(8, "little") for number in (len(offsets), *offsets)) + b"".join(parts)


def is_ready(client):
    """A kernel that has only been started does not beat yet, and is taken for dead."""
    try:
        client.wait_for_ready(timeout=60)
        return True
    except RuntimeError:
        return False


def run(client, code):
    """Runs a cell and waits for its reply. What the kernel publishes of it may pass this client by: right after a restart its
    own subscription is under way."""
    client.execute(code, reply=True, timeout=60)


class Seen(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Folder()
        cls.server = Server(cls.folder.path)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.folder.__exit__()

    def seen(self, code):
        found = eventually(f"{code} is seen", lambda: by_code(self.server.seen, code))
        self.assertEqual(len(found), 1)
        return found[0]["cell.seen"]

    def test_the_kernel_and_the_server_say_the_same_of_one_cell(self):
        _, client = self.server.kernel("python3")
        for code in ("x = 'سلام'", "1/0", "def (:"):
            run(client, code)
            seen = self.seen(code)
            finish = by_code(self.server.spool, code)[0]["cell.finish"]
            same = ("operation_id", "code", "cell_number", "session_id", "kernel_id", "status", "language", "user_id", "host")
            self.assertEqual({name: seen[name] for name in same}, {name: finish[name] for name in same})
            self.assertEqual(seen.get("error_type"), finish.get("error_type"))
            self.assertGreaterEqual(seen["duration_ms"], finish["duration_ms"])
        self.assertNotIn("\x1b", self.seen("1/0")["error_trace"])
        client.stop_channels()

    def test_a_kernel_of_another_language_is_seen_as_well(self):
        _, client = self.server.kernel("bash")
        for number, code in enumerate(("echo hello", "echo سلام"), 1):
            run(client, code)
            seen = self.seen(code)
            self.assertEqual((seen["language"], seen["cell_number"], seen["status"]), ("bash", number, "success"))
        client.stop_channels()

    def test_a_cell_that_ends_the_kernel_is_seen_as_lost(self):
        _, client = self.server.kernel("python3")
        client.execute("import os; os._exit(1)")
        self.assertEqual(self.seen("import os; os._exit(1)")["status"], "lost")
        client.stop_channels()

    def test_a_cell_that_ends_the_kernel_before_its_messages_are_sent_is_seen_all_the_same(self):
        _, client = self.server.kernel("python3")
        code = "import os; os._exit(2)"
        run(client, SLOW_TO_SEND)
        client.execute(code)
        self.assertEqual(self.seen(code)["status"], "lost")
        client.stop_channels()

    def test_a_cell_after_the_extension_was_unloaded_is_seen_by_the_server_alone(self):
        _, client = self.server.kernel("python3")
        for code in ("%unload_ext weir_jupyter", "secret = 1"):
            run(client, code)
        self.seen("secret = 1")
        self.assertEqual(by_code(self.server.spool, "secret = 1"), [])
        client.stop_channels()

    def test_the_first_cell_is_seen_although_the_subscription_arrives_late(self):
        with Folder() as home:
            server = Server(home, configuration=LATE)
            kernel, client = server.kernel("python3")
            run(client, "first = 1")
            eventually("the first cell is seen", lambda: by_code(server.seen, "first = 1"))
            server.ask("POST", f"/api/kernels/{kernel}/restart")
            run(client, "again = 1")
            eventually("the first cell after a restart is seen", lambda: by_code(server.seen, "again = 1"))
            client.stop_channels()
            server.stop()

    def seen_of(self, operation):
        return eventually(f"{operation} is seen", lambda: cells(self.server.seen).get(operation, {}).get("cell.seen"))

    def test_a_cell_that_kills_its_kernel_at_once_is_seen_although_nobody_says_that_it_began(self):
        code = "import os; os.kill(os.getpid(), 9)"
        for framed in (False, True):
            kernel, client = self.server.kernel("python3")
            run(client, CLEAR_HOOKS)
            # The thread that sends is held up, so that the kernel says nothing of the cell in any case.
            run(client, SLOW_TO_SEND)
            with self.server.channels(kernel, [FRAMED] if framed else None) as channels:
                operation, message = request(code, framed=framed)
                channels.send(message)
                seen = self.seen_of(operation)
            self.assertEqual((seen["status"], seen["code"], seen["kernel_id"]), ("lost", code, kernel))
            client.stop_channels()

    def test_a_silent_request_is_seen_however_it_comes(self):
        kernel, client = self.server.kernel("python3")
        with self.server.channels(kernel) as channels:
            for channel, code, status in (("shell", "quiet = 1", "success"), ("control", "quiet = 2", "success"), ("shell", "0/0", "error")):
                operation, message = request(code, channel, silent=True)
                channels.send(message)
                seen = self.seen_of(operation)
                self.assertEqual((seen["code"], seen["status"], seen["metadata"]), (code, status, {"silent": True}))
                self.assertGreaterEqual(seen["duration_ms"], 0)
            operation, message = request("", silent=True, user_expressions={"x": "open('/dev/null')"})
            channels.send(message)
            self.assertIn("/dev/null", self.seen_of(operation)["metadata"]["user_expressions"])
        client.stop_channels()

    def test_cells_behind_one_that_failed_are_seen_as_aborted_and_the_next_as_ever(self):
        kernel, client = self.server.kernel("python3")
        with self.server.channels(kernel) as channels:
            asked = [request(code) for code in ("import time; time.sleep(1); 1/0", "behind = 1", "behind = 2")]
            for _, message in asked:
                channels.send(message)
            seen = [self.seen_of(operation) for operation, _ in asked]
            self.assertEqual([cell["status"] for cell in seen], ["error", "aborted", "aborted"])
            self.assertNotIn("duration_ms", seen[1])
            self.assertEqual(seen[1]["metadata"], {"passed_over": True})
            operation, message = request("after = 1")
            eventually("the kernel takes cells again", lambda: by_code(self.server.seen, "behind = 2"))
            channels.send(message)
            self.assertEqual(self.seen_of(operation)["status"], "success")
        client.stop_channels()

    def test_a_request_to_a_kernel_that_is_restarted_by_the_server_is_seen_once(self):
        kernel, client = self.server.kernel("python3")
        with self.server.channels(kernel) as channels:
            killing, message = request("import os; os.kill(os.getpid(), 9)")
            channels.send(message)
            time.sleep(0.3)
            # To nobody: the process that comes next may find it.
            waiting, message = request("waits = 1")
            channels.send(message)
            self.assertEqual(self.seen_of(killing)["status"], "lost")
            time.sleep(6)
            operation, message = request("again = 2")
            channels.send(message)
            self.assertEqual(self.seen_of(operation)["status"], "success")
            found = [event for event in events(self.server.seen) if event["operation_id"] in (killing, waiting)]
            self.assertLessEqual(len(found), 2, found)
        client.stop_channels()

    def test_messages_that_no_kernel_understands_change_nothing_for_the_others(self):
        kernel, client = self.server.kernel("python3")
        with self.server.channels(kernel) as channels:
            _, message = request("odd = 1")
            for odd in ({"msg_id": ["a"]}, {"msg_id": {"a": 1}}, {"msg_id": ""}, {"msg_id": 7}):
                broken = json.loads(message)
                broken["header"].update(odd)
                channels.send(json.dumps(broken))
            operation, message = request("even = 1")
            channels.send(message)
            self.assertEqual(self.seen_of(operation)["status"], "success")
        client.stop_channels()

    def test_what_runs_when_the_server_stops_is_seen(self):
        with Folder() as home:
            server = Server(home)
            _, client = server.kernel("python3")
            client.execute("import time; time.sleep(60)")
            eventually("it has begun", lambda: by_code(server.spool, "import time; time.sleep(60)"))
            time.sleep(0.2)
            server.stop()
            client.stop_channels()
            statuses = [cell["cell.seen"]["status"] for cell in by_code(server.seen, "import time; time.sleep(60)")]
            self.assertEqual(len(statuses), 1, events(server.seen))
            self.assertIn(statuses[0], ("lost", "aborted"))

    def test_nothing_is_seen_twice(self):
        found = [event["operation_id"] for event in events(self.server.seen)]
        self.assertEqual(len(found), len(set(found)))
        self.assertTrue(all(set(cell) == {"cell.seen"} for cell in cells(self.server.seen).values()))


if __name__ == "__main__":
    unittest.main()
