"""Sends events to the agent over HTTP or a Unix socket, from a thread; what cannot be sent goes to the spool, and is sent
from there once the agent answers again."""

import atexit
import codecs
import http.client
import os
import queue
import socket
import threading
import time
from urllib.parse import urlsplit

# Lines that may wait for the thread; one more goes to the spool.
MAX_QUEUED = 10_000

# What one request holds.
BATCH_LINES = 1000
BATCH_BYTES = 1024 * 1024

# How long a request may take, and how long the process waits for the thread at its end.
TIMEOUT_SECONDS = 2.0
EXIT_SECONDS = 2.0

# After a failure everything goes to the spool for so long.
PAUSE_SECONDS = 5.0


class Sender:
    """One thread and one connection for a URL: `http://`, `https://` or `unix:/path`."""

    def __init__(self, url, store):
        self._url = url
        self._store = store
        # Imported here rather than by the thread: a process that forks in the middle of it could never resolve a name.
        codecs.lookup("idna")
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)
        atexit.register(self._at_exit)

    def _reset(self):
        # What the parent of a fork has queued is the parent's to send.
        self._pid = os.getpid()
        self._queue = queue.Queue(MAX_QUEUED)
        self._thread = None
        self._lock = threading.Lock()
        self._connection = None
        self._paused_until = 0.0
        self._ending = False
        self._sending = []
        # There may be something in the spool: of this process, or left by one that ended while the agent was away.
        self._may_be_spooled = True

    def put(self, line):
        if self._pid != os.getpid():
            self._reset()
        if self._ending:
            return self._store.write(line)
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="weir-http", daemon=True)
                    try:
                        thread.start()
                    except RuntimeError:
                        return self._store.write(line)
                    self._thread = thread
        try:
            self._queue.put_nowait(line)
            return True
        except queue.Full:
            return self._store.write(line)

    def flush(self, timeout):
        deadline = time.monotonic() + timeout
        while self._queue.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.005)
        return not self._queue.unfinished_tasks

    def _run(self):
        pending = self._queue
        while True:
            # Under the queue's lock, so that every line is at any time in the queue or among those that are being sent.
            with pending.not_empty:
                if not pending.queue:
                    pending.not_empty.wait(PAUSE_SECONDS if self._may_be_spooled else None)
                lines = self._sending = _first_of(pending.queue)
            if not lines:
                self._resend()
                continue
            try:
                self._deliver(lines)
            except Exception:
                self._spool(lines)
            self._sending = []
            for _ in lines:
                pending.task_done()
            if pending.empty():
                self._resend()

    def _deliver(self, lines):
        if time.monotonic() >= self._paused_until:
            status = self._post(b"".join(lines))
            if status == 413 and len(lines) > 1:
                middle = len(lines) // 2
                self._deliver(lines[:middle])
                self._deliver(lines[middle:])
                return
            # 400 means that no event of the batch is one; sending it again would change nothing.
            if status in (200, 202, 400):
                return
            self._paused_until = time.monotonic() + PAUSE_SECONDS
        self._spool(lines)

    def _spool(self, lines):
        self._may_be_spooled = True
        for line in lines:
            self._store.write(line)

    def _resend(self):
        """Sends what is in the spool. Where an agent takes it from there as well, the ids make a repeat harmless."""
        if not self._may_be_spooled or self._ending or time.monotonic() < self._paused_until:
            return
        try:
            is_done = self._store.hand_over(self._take_spooled)
            self._may_be_spooled = not is_done
        except Exception:
            pass
        if self._may_be_spooled:
            self._paused_until = max(self._paused_until, time.monotonic() + PAUSE_SECONDS)

    def _take_spooled(self, file):
        """Whether all lines of a file have arrived."""
        batch, size = [], 0
        for line in file:
            if not line.endswith(b"\n"):
                break  # its process ended while it was written
            batch.append(line)
            size += len(line)
            if len(batch) == BATCH_LINES or size >= BATCH_BYTES:
                if not self._has_arrived(batch):
                    return False
                batch, size = [], 0
        return not batch or self._has_arrived(batch)

    def _has_arrived(self, lines):
        if self._ending:
            return False
        status = self._post(b"".join(lines))
        if status == 413 and len(lines) > 1:
            middle = len(lines) // 2
            return self._has_arrived(lines[:middle]) and self._has_arrived(lines[middle:])
        return status in (200, 202, 400)

    def _post(self, body):
        """The status of the answer, or 0 if there was none."""
        headers = {"Content-Type": "application/x-ndjson"}
        token = _token()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        # A connection that was idle may have been closed by the other side; a new one gets one more try. The events'
        # ids make a repeat harmless.
        for fresh in (False, True):
            is_reused = self._connection is not None and not fresh
            try:
                if not is_reused:
                    self._connection, self._path = _connect(self._url)
                self._connection.request("POST", self._path, body, headers)
                answer = self._connection.getresponse()
                answer.read()
                if answer.will_close:
                    self._drop_connection()
                return answer.status
            except (OSError, http.client.HTTPException, ValueError):
                self._drop_connection()
                if not is_reused:
                    return 0
        return 0

    def _drop_connection(self):
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _at_exit(self):
        if self._pid != os.getpid():
            return
        self._ending = True
        if not self.flush(EXIT_SECONDS):
            # Nobody knows whether the batch under way arrives: it is spooled as well, under the same ids.
            with self._queue.mutex:
                lines = [*self._sending, *self._queue.queue]
                self._queue.queue.clear()
            self._spool(lines)


def _first_of(waiting):
    """What one request holds of the lines that wait, taken from them."""
    lines, size = [], 0
    while waiting and len(lines) < BATCH_LINES and size < BATCH_BYTES:
        lines.append(waiting.popleft())
        size += len(lines[-1])
    return lines


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._socket_path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._socket_path)


def _connect(url):
    if url.startswith("unix:"):
        return _UnixConnection(url[len("unix:"):]), "/"
    parts = urlsplit(url)
    if parts.scheme == "https":
        kind = http.client.HTTPSConnection
    elif parts.scheme == "http":
        kind = http.client.HTTPConnection
    else:
        raise ValueError("WEIR_URL begins with http://, https:// or unix:")
    return kind(parts.hostname, parts.port, timeout=TIMEOUT_SECONDS), parts.path or "/"


def _token():
    path = os.environ.get("WEIR_TOKEN_FILE")
    if path:
        try:
            with open(path, encoding="utf-8") as file:
                return file.read().strip()
        except OSError:
            return None
    return os.environ.get("WEIR_TOKEN")
