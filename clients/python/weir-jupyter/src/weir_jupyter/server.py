"""The Jupyter Server extension: sees the executions of every kernel from outside, whatever its language."""

import asyncio
import atexit
import os
import re
import time

from jupyter_client.session import Session
from weir_client import _spool, emit
from weir_client._encode import timestamp

from . import _context

# How often kernels that nobody has told us about are looked for.
LOOK_SECONDS = 1.0

# How long a kernel that starts is held back until the server hears it, and how often it is asked to say something.
HEAR_SECONDS = 10.0
ASK_SECONDS = 0.2

# Executions of one kernel that have not ended; the oldest are recorded as they are when there are more.
MAX_OPEN = 1000

# The longest error message, and what is kept of a traceback.
MAX_MESSAGE_CHARS = 10_000
MAX_TRACE_CHARS = 64 * 1024


def default_folder(environ=os.environ):
    """$WEIR_SERVER_SPOOL_DIR, else beside the spool of the kernels. Not theirs: what is in it is stamped as the server's."""
    return environ.get("WEIR_SERVER_SPOOL_DIR") or _spool.default_folder(environ).rstrip("/") + "-server"


def load(server):
    """Called by the server when it starts."""
    try:
        watcher = Watcher(server.kernel_manager, server.log)
        server.weir_watcher = watcher
        server.io_loop.add_callback(watcher.run)
        atexit.register(watcher.stop)
    except Exception as error:
        server.log.warning("weir_jupyter: executions are not recorded by the server: %s", error)


class Watcher:
    """Follows the kernels of a server."""

    def __init__(self, manager, log):
        self._manager = manager
        self._log = log
        self._kernels = {}
        self._folder = default_folder()

    async def run(self):
        self._watch_starts()
        while True:
            try:
                self._look()
            except Exception as error:
                self._log.warning("weir_jupyter: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    def stop(self):
        """Records what has begun, as far as it came."""
        for kernel in list(self._kernels.values()):
            kernel.close()
        self._kernels.clear()

    def _watch_starts(self):
        """Has every kernel heard before its first execution, instead of found at the next look."""
        manager = self._manager
        start, restart = getattr(manager, "start_kernel", None), getattr(manager, "restart_kernel", None)

        async def start_and_hear(*args, **kwargs):
            kernel_id = await start(*args, **kwargs)
            await self._hear(kernel_id)
            return kernel_id

        async def restart_and_hear(kernel_id, *args, **kwargs):
            answer = await restart(kernel_id, *args, **kwargs)
            await self._hear(kernel_id)
            return answer

        if start is not None:
            manager.start_kernel = start_and_hear
        if restart is not None:
            manager.restart_kernel = restart_and_hear

    async def _hear(self, kernel_id):
        """Whoever asked for the kernel gets it when its executions are heard: a subscription takes its time to arrive."""
        try:
            self._look()
            kernel = self._kernels.get(kernel_id)
            if kernel is not None and not await kernel.is_heard():
                self._log.warning("weir_jupyter: kernel %s is not heard yet; its first cells may not be seen", kernel_id)
        except Exception as error:
            self._log.warning("weir_jupyter: %s", error)

    def _look(self):
        present = set(self._manager.list_kernel_ids())
        for kernel_id in present - set(self._kernels):
            self._kernels[kernel_id] = Kernel(self._manager, kernel_id, self._folder)
        for kernel_id in set(self._kernels) - present:
            self._kernels.pop(kernel_id).close()
        for kernel in self._kernels.values():
            kernel.check()


class Kernel:
    """One kernel and the executions that it has begun."""

    def __init__(self, manager, kernel_id, folder):
        self._manager = manager
        self._id = kernel_id
        self._folder = folder
        self._open = {}
        self._session_of_kernel = None
        self._stream = None
        self._heard = asyncio.Event()
        self._connect()

    def _connect(self):
        kernel = self._manager.get_kernel(self._id)
        self._kernel = kernel
        # A session of our own, with the key of the kernel's, which a restart keeps: one that others use as well takes a
        # message that they have read for a repeat.
        self._session = Session(config=kernel.session.config, key=kernel.session.key)
        self._stream = self._manager.connect_iopub(self._id)
        self._stream.on_recv(self._receive)
        self._always = _context.without_none(
            {
                "user_id": _context.user(),
                "kernel_id": self._id,
                "language": _language(kernel),
                "host": _context.host(),
            }
        )

    async def is_heard(self):
        """Asks the kernel who it is until something of it arrives here; false if nothing does."""
        self._heard.clear()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HEAR_SECONDS
        shell = self._manager.connect_shell(self._id)
        try:
            while not self._heard.is_set() and not self._has_died() and loop.time() < deadline:
                self._session.send(shell, "kernel_info_request")
                try:
                    await asyncio.wait_for(self._heard.wait(), ASK_SECONDS)
                except asyncio.TimeoutError:
                    pass
        finally:
            shell.close(linger=0)
        return self._heard.is_set()

    def check(self):
        """A kernel that has died ends nothing by itself."""
        if self._has_died():
            self._give_up()

    def _has_died(self):
        process = getattr(self._kernel, "provisioner", None)
        process = getattr(process, "process", None)
        return process is not None and process.poll() is not None

    def close(self):
        self._give_up()
        stream, self._stream = self._stream, None
        if stream is not None and not stream.closed():
            try:
                stream.close()
            except Exception:
                pass

    def _receive(self, parts):
        self._heard.set()
        try:
            _, parts = self._session.feed_identities(parts)
            message = self._session.deserialize(parts)
            self._handle(message)
        except Exception:
            # A message that cannot be read is not ours to report: its execution ends with the next ones.
            pass

    def _handle(self, message):
        kind, content = message["msg_type"], message["content"]
        parent = message.get("parent_header") or {}
        operation = parent.get("msg_id")
        session = message.get("header", {}).get("session")
        if session and session != self._session_of_kernel:
            # The kernel was restarted: what it had begun before is over.
            if self._session_of_kernel is not None:
                self._give_up()
            self._session_of_kernel = session
        if kind == "execute_input" and operation:
            self._begin(operation, content, message["header"])
        elif kind == "error" and operation in self._open:
            self._open[operation].error = content
        elif kind == "status" and content.get("execution_state") == "idle" and operation in self._open:
            self._finish(self._open.pop(operation), ended=message["header"])

    def _begin(self, operation, content, header):
        if len(self._open) >= MAX_OPEN:
            self._finish(self._open.pop(next(iter(self._open))), "lost")
        self._open[operation] = Execution(operation, content, header)

    def _give_up(self):
        while self._open:
            _, execution = self._open.popitem()
            self._finish(execution, "lost")

    def _finish(self, execution, status=None, ended=None):
        event = {
            "timestamp": execution.timestamp,
            "event_type": "cell.seen",
            "operation_id": execution.operation,
            "code": execution.code,
            "cell_number": execution.number,
            "session_id": self._session_of_kernel,
            **self._always,
            "status": status or "success",
        }
        if status is None:
            event["duration_ms"] = execution.milliseconds(ended)
        if execution.error is not None:
            error = execution.error
            name = error.get("ename") or "Error"
            event["status"] = "aborted" if name == "KeyboardInterrupt" else "error"
            event["error_type"] = name
            event["error_message"] = str(error.get("evalue") or "")[:MAX_MESSAGE_CHARS]
            event["error_trace"] = _plain("\n".join(error.get("traceback") or []))[:MAX_TRACE_CHARS]
        emit(_context.without_none(event), folder=self._folder)


class Execution:
    """Code that runs in a kernel."""

    def __init__(self, operation, content, header):
        self.operation = operation
        self.code = content.get("code")
        self.number = content.get("execution_count")
        self.started = time.perf_counter()
        self.date = header.get("date")
        self.timestamp = timestamp()
        self.error = None

    def milliseconds(self, ended):
        """By the dates of the messages: they come in bunches when the server has much to do."""
        try:
            seconds = (ended["date"] - self.date).total_seconds()
        except (KeyError, TypeError):
            seconds = time.perf_counter() - self.started
        return round(max(seconds, 0.0) * 1000, 3)


def _language(kernel):
    try:
        return kernel.kernel_spec.language or None
    except Exception:
        return None


def _plain(text):
    """Without the colours of a terminal."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
