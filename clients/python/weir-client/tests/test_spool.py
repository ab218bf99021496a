"""The spool keeps what it was given, whatever happens to the process, the disk and the folder."""

import fcntl
import os
import subprocess
import sys
import threading
import unittest

from support import Folder, SmallDisk, eventually, events, lines, python

from weir_client import _spool

EMIT = "import os, signal, weir_client\nfor n in range(100): weir_client.emit({'event_type': 'e', 'n': n})\n"


class Spool(unittest.TestCase):
    def test_a_file_is_of_the_owner_alone_and_locked_while_the_process_lives(self):
        with Folder() as folder:
            spool = _spool.Spool(os.path.join(folder, "a", "b"))
            self.assertTrue(spool.write(b"{}\n"))
            name = os.listdir(spool.path)[0]
            path = os.path.join(spool.path, name)
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
            self.assertEqual(os.stat(spool.path).st_mode & 0o777, 0o700)
            self.assertNotRegex(name.removesuffix(".ndjson"), "[-_.~]", "no name that a rotation could have made")
            with open(path) as other, self.assertRaises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            spool._close()
            with open(path) as other:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_sudden_ends_of_the_process_lose_nothing(self):
        for end in ("os._exit(3)", "os.kill(os.getpid(), signal.SIGKILL)", "os.abort()", "raise SystemExit", "1/0"):
            with Folder() as folder:
                python(EMIT + end, folder)
                self.assertEqual([event["n"] for event in events(folder)], list(range(100)), end)

    def test_nothing_is_printed(self):
        with Folder() as folder:
            self.assertEqual(python(EMIT, folder), (0, ""))
        self.assertEqual(python(EMIT, "/proc/nowhere"), (0, ""))
        self.assertEqual(python(EMIT, "/dev/null"), (0, ""))
        with Folder() as folder:
            self.assertEqual(python(EMIT, folder, WEIR_URL="http://127.0.0.1:1"), (0, ""))
            self.assertEqual(len(lines(folder)), 100)
            self.assertEqual(python(EMIT, folder, WEIR_URL="nonsense"), (0, ""))
            self.assertEqual(len(lines(folder)), 200)

    def test_a_forked_child_writes_to_a_file_of_its_own(self):
        code = EMIT + (
            "child = os.fork()\n"
            "for n in range(50): weir_client.emit({'event_type': 'child' if child == 0 else 'parent', 'n': n})\n"
            "os._exit(0) if child == 0 else os.waitpid(child, 0)\n"
        )
        with Folder() as folder:
            self.assertEqual(python(code, folder), (0, ""))
            self.assertEqual(len(os.listdir(folder)), 2)
            for kind, count in (("e", 100), ("child", 50), ("parent", 50)):
                self.assertEqual(len([e for e in events(folder) if e["event_type"] == kind]), count)

    def test_a_fork_while_another_thread_writes_hangs_nobody(self):
        code = (
            "import os, threading, weir_client\n"
            "stop = threading.Event()\n"
            "def write():\n"
            "    while not stop.is_set(): weir_client.emit({'event_type': 'thread'})\n"
            "threads = [threading.Thread(target=write) for _ in range(4)]\n"
            "[t.start() for t in threads]\n"
            "for _ in range(20):\n"
            "    child = os.fork()\n"
            "    if child == 0:\n"
            "        weir_client.emit({'event_type': 'child'})\n"
            "        os._exit(0)\n"
            "    os.waitpid(child, 0)\n"
            "stop.set()\n"
        )
        with Folder() as folder:
            self.assertEqual(python(code, folder), (0, ""))
            self.assertEqual(len([e for e in events(folder) if e["event_type"] == "child"]), 20)

    def test_many_processes_and_threads_write_whole_lines(self):
        code = (
            "import multiprocessing, threading, weir_client\n"
            "weir_client._spool.LOCK_SECONDS = 60\n"
            "def work(n):\n"
            "    def write():\n"
            "        for m in range(200): weir_client.emit({'event_type': 'e', 'code': 'x' * 5000})\n"
            "    threads = [threading.Thread(target=write) for _ in range(4)]\n"
            "    [t.start() for t in threads]; [t.join() for t in threads]\n"
            "if __name__ == '__main__':\n"
            "    context = multiprocessing.get_context('fork')\n"
            "    processes = [context.Process(target=work, args=(n,)) for n in range(4)]\n"
            "    [p.start() for p in processes]; [p.join() for p in processes]\n"
        )
        with Folder() as folder:
            self.assertEqual(python(code, folder), (0, ""))
            found = events(folder)
            self.assertEqual(len({event["id"] for event in found}), 3200)
            self.assertEqual(len(found), 3200)

    def test_a_full_file_is_closed_and_another_one_begun(self):
        with Folder() as folder:
            spool = _spool.Spool(folder)
            line = b"x" * 1_000_000 + b"\n"
            for _ in range(20):
                self.assertTrue(spool.write(line))
            self.assertEqual(len(os.listdir(folder)), 2)
            self.assertLessEqual(max(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder)), 16 << 20)

    def test_a_removed_file_is_replaced(self):
        with Folder() as folder:
            spool = _spool.Spool(folder)
            spool.write(b"1\n")
            os.remove(os.path.join(folder, os.listdir(folder)[0]))
            spool.write(b"2\n")
            self.assertEqual(lines(folder), [b"2"])

    def test_a_folder_that_is_a_link_is_not_written_through(self):
        with Folder() as folder:
            os.mkdir(os.path.join(folder, "elsewhere"))
            os.symlink("elsewhere", os.path.join(folder, "spool"))
            spool = _spool.Spool(os.path.join(folder, "spool"))
            self.assertFalse(spool.write(b"1\n"))
            self.assertEqual(os.listdir(os.path.join(folder, "elsewhere")), [])

    def test_a_disk_that_is_full_for_a_while_costs_nothing(self):
        disk = SmallDisk()
        with disk as folder:
            spool = _spool.Spool(folder)
            expected = [b"%06d" % n + b"x" * 5000 for n in range(200)]
            for line in expected:
                spool.write(line + b"\n")
            self.assertGreater(len(spool._waiting), 100)
            self.assertEqual(spool.dropped, 0)
            disk.remount("size=8m")
            eventually("all is written, with no further event", lambda: lines(folder) == expected)
            self.assertEqual(len(os.listdir(folder)), 1)

    def test_what_a_full_disk_takes_no_more_is_counted_and_said(self):
        disk = SmallDisk()
        code = (
            "import subprocess, weir_client\n"
            "for n in range(60): weir_client.emit({'event_type': 'e', 'code': 'x' * 250_000 + ' ' * 300_000})\n"
            "for n in range(60): weir_client.emit({'event_type': 'e', 'code': 'x' * 250_000})\n"
            "subprocess.run(['mount', '-o', 'remount,size=64m', 'tmpfs', '%s'], check=True)\n"
            "weir_client.emit({'event_type': 'last'})\n"
        )
        with disk as folder:
            self.assertEqual(python(code % folder, folder), (0, ""))
            found = events(folder)
            said = [event for event in found if event["event_type"] == "events_dropped"]
            dropped = sum(event["metadata"]["dropped"] for event in said)
            self.assertGreater(dropped, 10)
            self.assertEqual(len([e for e in found if e["event_type"] == "e"]) + dropped, 120)
            self.assertEqual(len([e for e in found if e["event_type"] == "last"]), 1)

    def test_a_folder_that_is_read_only_for_a_while_costs_nothing(self):
        disk = SmallDisk()
        with disk as folder:
            disk.remount("ro")
            spool = _spool.Spool(folder)
            self.assertFalse(spool.write(b"1\n"))
            self.assertFalse(spool.write(b"2\n"))
            disk.remount("rw")
            eventually("both are written", lambda: lines(folder) == [b"1", b"2"])
            self.assertTrue(spool.write(b"3\n"))
            # This time the file is open already.
            spool._close()
            disk.remount("ro")
            self.assertFalse(spool.write(b"4\n"))
            disk.remount("rw")
            eventually("the rest is written", lambda: sorted(lines(folder)) == [b"1", b"2", b"3", b"4"])

    def test_a_user_has_a_bound(self):
        with Folder() as folder:
            os.environ["WEIR_SPOOL_MAX_BYTES"] = "1000"
            try:
                first = _spool.Spool(folder)
                self.assertTrue(first.write(b"x" * 2000 + b"\n"))
                second = _spool.Spool(folder)
                self.assertFalse(second.write(b"y\n"))
                self.assertEqual(len(lines(folder)), 1)
            finally:
                del os.environ["WEIR_SPOOL_MAX_BYTES"]
            eventually("it goes on when there is room", lambda: len(lines(folder)) == 2)

    def test_a_foreign_file_under_our_descriptor_is_left_alone(self):
        with Folder() as folder, Folder() as other:
            spool = _spool.Spool(folder)
            spool.write(b"1\n")
            mine = os.open(os.path.join(other, "mine"), os.O_CREAT | os.O_RDWR)
            os.dup2(mine, spool._fd)
            spool.write(b"2\n")
            self.assertEqual(lines(other), [])
            self.assertEqual(sorted(lines(folder)), [b"1", b"2"])
            os.close(mine)

    def test_importing_it_starts_no_thread_and_takes_little_time(self):
        code = "import sys, threading, weir_client\nassert threading.active_count() == 1\nassert 'asyncio' not in sys.modules"
        self.assertEqual(subprocess.run([sys.executable, "-c", code], check=False).returncode, 0)


if __name__ == "__main__":
    unittest.main()
