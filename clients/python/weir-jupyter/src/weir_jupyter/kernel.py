"""The IPython extension: an event before and an event after every cell, and nothing that the cell could notice."""

import _thread
import os
import re
import signal
import sys
import threading
import time
import uuid
import weakref

from weir_client import emit
from weir_client.activity import _ABORTED, failure

from . import _context

try:
    import resource
except ImportError:  # not on Windows
    resource = None

# The cells that overlap in one kernel (subshells, and cells that run cells).
MAX_OPEN_CELLS = 1000

# How long a cell waits until the kernel's messages of its begin are sent. It takes a tenth of a millisecond.
SAID_SECONDS = 1.0

# After this time IPython has come from its callbacks to the code of the cell.
INTERRUPT_AGAIN_SECONDS = 0.02

_recorders = weakref.WeakKeyDictionary()


def load(shell):
    """Starts recording the shell's cells. A second time changes nothing."""
    try:
        if shell not in _recorders:
            _recorders[shell] = Recorder(shell)
            _recorders[shell].begin()
    except Exception:
        pass


def unload(shell):
    """Stops, after the present cell."""
    try:
        recorder = _recorders.pop(shell, None)
        if recorder is not None:
            recorder.stop()
    except Exception:
        pass


class Recorder:
    """Records the cells of one shell."""

    def __init__(self, shell):
        self._shell = shell
        self._pid = os.getpid()
        self._open = {}
        self._is_announced = False
        self._is_stopping = False
        kernel = getattr(shell, "kernel", None)
        self._kernel = kernel
        self._always = _context.without_none(
            {
                "user_id": _context.user(),
                "session_id": _session_of(kernel),
                "kernel_id": _kernel_id(),
                "notebook": os.environ.get("JPY_SESSION_NAME") or None,
                "language": "python",
                "host": _context.host(),
            }
        )
        # By how much the shell's count is ahead of a cell's number when the cell begins: IPython 9 counts before.
        self._ahead = None
        self._count_at_load = getattr(shell, "execution_count", 1)

    def begin(self):
        events = self._shell.events
        events.register("pre_run_cell", self.before)
        events.register("post_run_cell", self.after)
        if self._is_in_a_cell():
            # Loaded by a cell, which is recorded from here on.
            cell = _Cell(self._operation_id(), None)
            self._open[cell.operation_id] = cell
            self._announce()

    def stop(self):
        self._unregister("pre_run_cell", self.before)
        # The cell that unloads is recorded to its end; `after` unregisters itself then.
        self._is_stopping = True
        if not self._open:
            self._unregister("post_run_cell", self.after)

    def before(self, info):
        """Called by IPython before a cell. A cell that ends the process has left its code by then."""
        try:
            if _undisturbed(lambda: self._before(info)):
                self._interrupt_again(info)
        except BaseException:
            # Whatever it is, IPython would print it into the cell.
            pass

    def _before(self, info):
        if os.getpid() != self._pid:
            return
        self._announce()
        cell = _Cell(self._operation_id(), getattr(info, "raw_cell", None))
        if getattr(info, "store_history", False):
            cell.number = self._number()
        if len(self._open) < MAX_OPEN_CELLS:
            self._open[cell.operation_id] = cell
        info._weir_cell = cell
        event = {
            "event_type": "cell.start",
            "operation_id": cell.operation_id,
            "status": "in_progress",
            "code": cell.code,
            "cell_number": cell.number,
            **self._always,
        }
        if cell.parent is not None:
            event["metadata"] = {"parent_operation_id": cell.parent}
        self._wait_until_said()
        emit(_context.without_none(event))
        cell.start_clocks()

    def _wait_until_said(self):
        """The kernel says by another thread that the cell begins. A cell that ends the process could be faster, and then
        the server would not have seen it."""
        thread = getattr(self._kernel, "iopub_thread", None)
        is_said = threading.Event()
        try:
            thread.schedule(is_said.set)
        except Exception:
            return  # a terminal, or a kernel that sends in another way
        is_said.wait(SAID_SECONDS)

    def _interrupt_again(self, info):
        """Whoever interrupted meant the cell, which begins now. IPython keeps from it what is raised in a callback."""
        cell = getattr(info, "_weir_cell", None)

        def interrupt():
            if cell is not None and cell.operation_id in self._open:
                _interrupt_main_thread()

        timer = threading.Timer(INTERRUPT_AGAIN_SECONDS, interrupt)
        timer.daemon = True
        timer.start()

    def after(self, result):
        """Called by IPython after a cell, however it ended."""
        try:
            # The cell is over, and so is what an interrupt could have meant.
            _undisturbed(lambda: self._after(result))
        except BaseException:
            pass

    def _after(self, result):
        if os.getpid() != self._pid:
            # A child that the cell forked came to the cell's end too.
            return
        ended, cpu = time.perf_counter(), time.process_time()
        cell = self._cell_of(result)
        if cell is None:
            return
        self._open.pop(cell.operation_id, None)
        event = {
            "event_type": "cell.finish",
            "operation_id": cell.operation_id,
            "status": "success",
            "code": cell.code,
            "cell_number": cell.number,
            "duration_ms": round((ended - cell.started) * 1000, 3),
            "cpu_ms": round((cpu - cell.cpu_started) * 1000, 3),
            "max_rss_bytes": _max_rss_bytes(),
            **self._always,
        }
        error = _error_of(result)
        if error is not None:
            event["status"] = "aborted" if type(error).__name__ in _ABORTED else "error"
            event.update(failure(error))
        if cell.parent is not None:
            event["metadata"] = {"parent_operation_id": cell.parent}
        emit(_context.without_none(event))
        if self._is_stopping and not self._open:
            self._unregister("post_run_cell", self.after)

    def _cell_of(self, result):
        """The open cell that a result belongs to. IPython makes another result, or none, for a cell that it gave up."""
        info = getattr(result, "info", None)
        cell = getattr(info, "_weir_cell", None)
        if cell is None:
            message = _message_id(self._shell, self._kernel)
            cell = self._open.get(message)
            if cell is None and message is None and len(self._open) == 1:
                # A terminal has no messages, and one cell at a time.
                cell = next(iter(self._open.values()))
        if cell is None:
            return None
        if cell.code is None:
            cell.code = getattr(info, "raw_cell", None)
        number = getattr(result, "execution_count", None)
        if number is not None:
            cell.number = number
        return cell

    def _number(self):
        """The number of the cell that begins."""
        count = self._shell.execution_count
        if self._ahead is None:
            self._ahead = 1 if count > self._count_at_load else 0
        return count - self._ahead

    def _operation_id(self):
        """The id of the Jupyter message that asked for the cell; a cell run by a cell gets one of its own."""
        message = _message_id(self._shell, self._kernel)
        if message is None or message in self._open:
            return str(uuid.uuid4()), message
        return message, None

    def _is_in_a_cell(self):
        """By configuration the extension is loaded before there is any message."""
        return _message_id(self._shell, self._kernel) is not None or _is_executing(self._shell)

    def _announce(self):
        """Once, in the output of the first cell and in the kernel's log."""
        if self._is_announced:
            return
        self._is_announced = True
        message = _context.announcement()
        if message is None:
            return
        print(message)
        log = getattr(self._kernel, "log", None)
        if log is not None:
            log.warning("%s", message)

    def _unregister(self, event, callback):
        try:
            self._shell.events.unregister(event, callback)
        except ValueError:
            pass


class _Cell:
    """A cell that runs."""

    def __init__(self, ids, code):
        self.operation_id, self.parent = ids
        self.code = code
        self.number = None
        self.start_clocks()

    def start_clocks(self):
        self.started = time.perf_counter()
        self.cpu_started = time.process_time()


def _undisturbed(record):
    """Calls `record`, once, and to its end. An interrupt would end it in the middle, and what runs next were recorded by
    half or not at all. Returns whether one came. What `record` raises is nobody's: IPython would print it into the cell."""
    interrupts, is_done = [], False
    # In other threads nothing is raised, and a handler that Python did not set cannot be put back.
    is_raised_here = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is not None
    while not is_done:
        try:
            former = signal.signal(signal.SIGINT, lambda *_: interrupts.append(None)) if is_raised_here else None
            try:
                record()
            except Exception:
                pass
            finally:
                is_done = True
                if is_raised_here:
                    signal.signal(signal.SIGINT, former)
        except KeyboardInterrupt:
            # It came before the handler was exchanged or after it was put back.
            interrupts.append(None)
    return bool(interrupts)


def _interrupt_main_thread():
    if hasattr(signal, "pthread_kill"):
        # As a signal, which also ends a call that waits.
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    else:
        _thread.interrupt_main()


def _error_of(result):
    """The error that a cell ended with, also where IPython has only raised it."""
    if result is None:
        return sys.exc_info()[1] or RuntimeError("the cell ended without a result")
    error = getattr(result, "error_before_exec", None) or getattr(result, "error_in_exec", None)
    return error if error is None or isinstance(error, BaseException) else Exception(str(error))


def _message_id(shell, kernel):
    for holder, arguments in ((kernel, ("shell",)), (shell, ())):
        get = getattr(holder, "get_parent", None)
        if get is None:
            continue
        try:
            message = (get(*arguments) or {}).get("header", {}).get("msg_id")
        except Exception:
            continue
        if message:
            return message
    return None


def _is_executing(shell):
    """In a terminal: whether a cell runs, told by the frames of this call."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "run_code" and frame.f_locals.get("self") is shell:
            return True
        frame = frame.f_back
    return False


def _session_of(kernel):
    session = getattr(getattr(kernel, "session", None), "session", None)
    return session or str(uuid.uuid4())


def _kernel_id():
    """From the name of the connection file, by which the server knows the kernel."""
    try:
        from ipykernel.connect import get_connection_file

        found = re.search(r"kernel-(.+)\.json$", get_connection_file())
        return found.group(1) if found else None
    except Exception:
        return None


def _max_rss_bytes():
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes, but bytes on macOS.
    return peak if sys.platform == "darwin" else peak * 1024
