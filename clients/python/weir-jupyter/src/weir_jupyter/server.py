"""The Jupyter Server extension: sees the executions of every kernel from outside, whatever its language."""

import asyncio
import atexit
import json
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

# Executions of one kernel that have not ended; the oldest are recorded as they are when there are more. "Run all" asks
# for every cell of a notebook at once.
MAX_OPEN = 10_000

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
    """One kernel and the executions that it was asked for or has begun."""

    def __init__(self, manager, kernel_id, folder):
        self._manager = manager
        self._id = kernel_id
        self._folder = folder
        self._open = {}
        self._session_of_kernel = None
        self._stream = None
        self._is_dead = False
        self._heard = asyncio.Event()
        self._connect()
        self._watch_requests()

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

    def _watch_requests(self):
        """Notes each request to execute when the server forwards it: what ends the process at once has been read by the
        kernel and is said by nobody, and a silent request is not said at all."""
        for name in ("connect_shell", "connect_control"):
            connect = getattr(self._kernel, name, None)
            if connect is not None:
                setattr(self._kernel, name, self._noting(connect))

    def _noting(self, connect):
        def connect_and_note(*args, **kwargs):
            stream = connect(*args, **kwargs)
            try:
                send = stream.send_multipart

                def send_and_note(parts, *args, **kwargs):
                    sent = send(parts, *args, **kwargs)
                    self._note(parts)
                    return sent

                stream.send_multipart = send_and_note
            except Exception:
                # The channel is worth more than what is known of it.
                pass
            return stream

        return connect_and_note

    def _note(self, parts):
        try:
            _, parts = self._session.feed_identities(list(parts))
            # Behind the signature: header, parent, metadata, content.
            if self._stream is None or b"execute_request" not in bytes(parts[1]):
                return
            header = self._session.unpack(bytes(parts[1]))
            if header.get("msg_type") == "execute_request":
                request = self._session.unpack(bytes(parts[4]))
                self._open_as(_operation(header), Execution(_operation(header), request, self._living_process()))
        except Exception:
            # What cannot be read the kernel cannot read either.
            pass

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
        was_dead, self._is_dead = self._is_dead, self._has_died()
        # What it said last may not have been read at the first look.
        if was_dead and self._is_dead:
            # What was sent to nobody waits for the process that comes next.
            self._give_up(lambda execution: execution.is_begun or execution.process is not None)

    def _process(self):
        return getattr(getattr(self._kernel, "provisioner", None), "process", None)

    def _has_died(self):
        process = self._process()
        return process is not None and process.poll() is not None

    def _living_process(self):
        return None if self._has_died() else self._process()

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
        operation = _operation(parent)
        session = message.get("header", {}).get("session")
        if session and session != self._session_of_kernel:
            # The kernel was restarted: what it had begun before is over, and so is what was sent to the process before.
            if self._session_of_kernel is not None:
                process = self._living_process()
                self._give_up(lambda execution: execution.is_begun or process is None or execution.process not in (None, process))
                for execution in self._open.values():
                    execution.process = process
            self._session_of_kernel = session
        if kind == "execute_input" and operation:
            self._begin(operation, content, message["header"])
        elif operation in self._open:
            self._follow(self._open[operation], kind, content, message["header"])

    def _begin(self, operation, content, header):
        execution = self._open.get(operation)
        if execution is None or execution.is_said:
            # Asked for by somebody who does not go through the server.
            execution = Execution(operation, content, self._living_process())
            self._open_as(operation, execution)
        execution.begin(header)
        execution.is_said = True
        execution.number = content.get("execution_count")

    def _follow(self, execution, kind, content, header):
        state = content.get("execution_state") if kind == "status" else None
        if kind == "error":
            execution.error = content
        elif state == "busy":
            execution.begin(header)
        elif state == "idle":
            del self._open[execution.operation]
            # By the protocol a kernel says what it runs unless it is to be silent. What it does not say it has passed over,
            # because a cell before it failed.
            is_passed_over = not execution.is_said and not execution.is_silent
            if is_passed_over:
                execution.metadata["passed_over"] = True
            self._finish(execution, "aborted" if is_passed_over else None, header)

    def _open_as(self, operation, execution):
        former = self._open.pop(operation, None)
        if former is None and len(self._open) >= MAX_OPEN:
            former = self._open.pop(next(iter(self._open)))
        if former is not None:
            self._finish(former, "lost")
        self._open[operation] = execution

    def _give_up(self, is_over=lambda execution: True):
        for operation, execution in list(self._open.items()):
            if is_over(execution):
                del self._open[operation]
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
        if execution.metadata:
            event["metadata"] = execution.metadata
        emit(_context.without_none(event), folder=self._folder)


class Execution:
    """Code that a kernel was asked to run, or runs."""

    def __init__(self, operation, content, process):
        self.operation = operation
        self.code = content.get("code")
        self.is_silent = bool(content.get("silent"))
        self.metadata = {"silent": True} if self.is_silent else {}
        if content.get("user_expressions"):
            # Code as well, which runs behind the cell's.
            expressions = content["user_expressions"]
            self.metadata["user_expressions"] = json.dumps(expressions, ensure_ascii=False)[:MAX_MESSAGE_CHARS]
        # The process that it was sent to; none if that had died already.
        self.process = process
        self.number = None
        self.error = None
        # Whether the kernel has taken it, and whether it has said its code.
        self.is_begun = self.is_said = False
        self.started = time.perf_counter()
        self.date = None
        self.timestamp = timestamp()

    def begin(self, header):
        """It may have waited behind others."""
        if not self.is_begun:
            self.is_begun = True
            self.started = time.perf_counter()
            self.date = header.get("date")
            self.timestamp = timestamp()

    def milliseconds(self, ended):
        """By the dates of the messages: they come in bunches when the server has much to do."""
        try:
            seconds = (ended["date"] - self.date).total_seconds()
        except (KeyError, TypeError):
            seconds = time.perf_counter() - self.started
        return round(max(seconds, 0.0) * 1000, 3)


def _operation(header):
    """The id of a message. Nobody forces a client to send a text."""
    operation = header.get("msg_id")
    return operation if operation is None or isinstance(operation, str) else json.dumps(operation)


def _language(kernel):
    try:
        return kernel.kernel_spec.language or None
    except Exception:
        return None


def _plain(text):
    """Without the colours of a terminal."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
