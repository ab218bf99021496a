"""The spool: one file for each process, to which every event is appended with one write, and which the agent tails."""

import atexit
import os
import re
import stat
import threading
import time

try:
    import fcntl
except ImportError:  # not on Windows, where nobody tails a spool
    fcntl = None

# A file of this size is closed and another one begun, so that the agent can remove what it has taken.
ROTATE_BYTES = 16 * 1024 * 1024

# What waits in memory while the disk is full or the folder cannot be written.
MAX_WAITING_BYTES = 16 * 1024 * 1024

# How often a spool that could not be written is tried again.
RETRY_SECONDS = 1.0

# How long an event waits for another thread that is writing. Only a fork at an unlucky moment makes it so long.
LOCK_SECONDS = 1.0

# What all files of one user in the folder may take, unless WEIR_SPOOL_MAX_BYTES says otherwise.
DEFAULT_MAX_BYTES = 1024 * 1024 * 1024


_FILE_NAME = re.compile(r"p\d+t[0-9a-f]+r[0-9a-f]+\.ndjson")


def default_folder(environ=os.environ):
    """$WEIR_SPOOL_DIR, else the place where Weir's quick start looks."""
    named = environ.get("WEIR_SPOOL_DIR")
    if named:
        return named
    state = environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "weir", "spool")


class Spool:
    """Appends lines to a file of this process. Never raises, never prints, and loses nothing that a disk can take.

    A shared lock on the file says that the process lives; the agent removes a file only when nobody holds one.
    """

    def __init__(self, folder=None):
        self._folder = folder
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)
        atexit.register(self._at_exit)

    def _reset(self):
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._fd = None
        self._file = None
        self._size = 0
        self._at_line_start = True
        self._waiting = []
        self._waiting_bytes = 0
        self._retrying = False
        self.dropped = 0

    def _after_fork(self):
        # What the parent holds back is the parent's to write. The descriptor is shared with it, so it is only closed.
        fd = self._fd
        self._reset()
        if fd is not None:
            try:
                os.close(fd)
            except OSError:
                pass

    def write(self, line):
        """Appends one line (with its end). True if it is in the file, False if it waits or had to be dropped."""
        if self._pid != os.getpid():
            self._after_fork()
        if not self._lock.acquire(timeout=LOCK_SECONDS):
            self.dropped += 1
            return False
        try:
            return self._write(line)
        finally:
            self._lock.release()

    def _write(self, line):
        if self._waiting:
            self._hold(line)
            return self._write_waiting()
        try:
            self._ready(len(line))
            written = os.write(self._fd, line)
            self._size += written
            if written == len(line):
                return True
            # A full disk took a part of it; the rest follows in the same place.
            self._at_line_start = False
            line = line[written:]
        except OSError:
            pass
        self._hold(line, force=not self._at_line_start)
        self._retry_later()
        return False

    def _hold(self, line, force=False):
        if not force and self._waiting_bytes + len(line) > MAX_WAITING_BYTES:
            self.dropped += 1
            return
        self._waiting.append(line)
        self._waiting_bytes += len(line)

    def _write_waiting(self):
        """Writes what waits. A torn line is finished in its own file before another file is begun."""
        while self._waiting:
            line = self._waiting[0]
            try:
                if self._at_line_start:
                    self._ready(len(line))
                elif not self._is_ours():
                    # The file with the beginning of this line is gone.
                    self._waiting.pop(0)
                    self._waiting_bytes -= len(line)
                    self._at_line_start = True
                    self.dropped += 1
                    continue
                written = os.write(self._fd, line)
            except OSError:
                self._retry_later()
                return False
            self._size += written
            self._waiting_bytes -= written
            if written < len(line):
                self._waiting[0] = line[written:]
                self._at_line_start = False
                self._retry_later()
                return False
            self._waiting.pop(0)
            self._at_line_start = True
        return True

    def _ready(self, length):
        """Makes sure that the descriptor is our own file's, and that the file has room."""
        if self._fd is not None and self._size + length > ROTATE_BYTES and self._size > 0:
            self._close()
        if not self._is_ours():
            self._open()

    def _is_ours(self):
        """The application may have closed our descriptor and opened a file of its own under the number."""
        if self._fd is None:
            return False
        try:
            status = os.fstat(self._fd)
        except OSError:
            self._fd = None
            return False
        if (status.st_dev, status.st_ino) != self._file:
            self._fd = None
            return False
        if status.st_nlink == 0:
            # Somebody removed the file: nobody would read what we append.
            self._close()
            return False
        return True

    def _open(self):
        path = os.path.normpath(self._folder or default_folder())
        os.makedirs(path, mode=0o700, exist_ok=True)
        flags = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        # Held by a descriptor, so that the folder cannot be exchanged for a link between two steps.
        folder = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | flags) if _readable(path) else None
        try:
            if folder is not None and self._spooled(folder) >= _max_bytes():
                raise OSError("the spool is full")
            for _ in range(3):
                name = f"p{os.getpid()}t{time.time_ns() // 1000000:x}r{os.urandom(4).hex()}.ndjson"
                mode = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | flags
                if folder is not None and os.open in os.supports_dir_fd:
                    fd = os.open(name, mode, 0o600, dir_fd=folder)
                else:
                    fd = os.open(os.path.join(path, name), mode, 0o600)
                _share_lock(fd)
                status = os.fstat(fd)
                # Between making the file and locking it, an agent may have taken it for finished.
                if status.st_nlink > 0:
                    self._fd, self._file, self._size = fd, (status.st_dev, status.st_ino), 0
                    return
                os.close(fd)
            raise OSError("the spool file is removed as soon as it is made")
        finally:
            if folder is not None:
                os.close(folder)

    @staticmethod
    def _spooled(folder):
        """Bytes of this user's files in the folder."""
        if os.scandir not in os.supports_fd:
            return 0
        user, total = os.geteuid(), 0
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if status.st_uid == user and stat.S_ISREG(status.st_mode):
                    total += status.st_size
        return total

    def hand_over(self, take):
        """Gives each file of this user that no process writes any more to `take`, and removes those that it has taken.
        True if there is nothing left."""
        if fcntl is None or os.open not in os.supports_dir_fd or os.scandir not in os.supports_fd:
            return True
        with self._lock:
            if self._waiting:
                return False
            self._close()
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            folder = os.open(self.path, flags | os.O_DIRECTORY)
        except FileNotFoundError:
            return True
        try:
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries if _FILE_NAME.fullmatch(entry.name))
            return all([_hand_over(folder, name, flags, take) for name in names])
        finally:
            os.close(folder)

    def _close(self):
        fd, self._fd = self._fd, None
        if fd is not None:
            try:
                os.close(fd)
            except OSError:
                pass

    def _retry_later(self):
        """What waits is written as soon as it can be, also when no other event comes."""
        if self._retrying:
            return
        try:
            threading.Thread(target=self._retry, args=(self._pid,), name="weir-spool", daemon=True).start()
            self._retrying = True
        except RuntimeError:
            pass  # no threads any more: the interpreter ends, and `_at_exit` tries once more

    def _retry(self, pid):
        while pid == self._pid:
            time.sleep(RETRY_SECONDS)
            with self._lock:
                if self._write_waiting():
                    self._retrying = False
                    return

    def _at_exit(self):
        if self._pid == os.getpid() and self._waiting and self._lock.acquire(timeout=LOCK_SECONDS):
            try:
                self._write_waiting()
            finally:
                self._lock.release()

    @property
    def path(self):
        """The folder."""
        return os.path.normpath(self._folder or default_folder())

    def owns(self, name):
        """Whether a name in the folder is the file that is written now."""
        try:
            status = os.lstat(os.path.join(self.path, name))
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._file


def _hand_over(folder, name, flags, take):
    try:
        fd = os.open(name, flags | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return True  # an agent has taken it, or it is not ours to read
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode):
            return True
        try:
            # Its process lives, or an agent or another process is taking it.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        if not take(file):
            return False
        os.unlink(name, dir_fd=folder)
        return True


def _readable(path):
    # In a folder that all may write and nobody may list, files are made by path.
    return os.access(path, os.R_OK)


def _share_lock(fd):
    if fcntl is not None:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            pass  # a file system without locks; the agent then goes by how long the file is quiet


def _max_bytes():
    try:
        return int(os.environ.get("WEIR_SPOOL_MAX_BYTES") or DEFAULT_MAX_BYTES)
    except ValueError:
        return DEFAULT_MAX_BYTES
