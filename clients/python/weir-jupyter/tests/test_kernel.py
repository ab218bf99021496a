"""Cells of real kernels: every one has one start and one finish, whatever it does."""

import os
import signal
import tempfile
import threading
import time
import unittest

from support import PATIENCE, Folder, Kernel, SmallDisk, by_code, cells, eventually, events


def is_whole(spool, code):
    """Whether the code is one execution with a start and a finish."""
    return [set(cell) for cell in by_code(spool, code)] == [{"cell.start", "cell.finish"}]


class Cells(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Folder()
        cls.kernel = Kernel(cls.folder.path)

    @classmethod
    def tearDownClass(cls):
        cls.kernel.stop()
        cls.folder.__exit__()

    def run_one(self, code, **options):
        """Runs a cell and returns its one execution, with nothing in its output that it did not print."""
        reply, printed = self.kernel.run(code, **options)
        self.assertNotIn("weir", printed.lower())
        found = by_code(self.folder.path, code)
        self.assertEqual(len(found), 1, code)
        cell = found[0]
        self.assertEqual(set(cell), {"cell.start", "cell.finish"}, code)
        start, finish = cell["cell.start"], cell["cell.finish"]
        self.assertEqual(start["status"], "in_progress")
        self.assertEqual(start["operation_id"], reply["parent_header"]["msg_id"])
        self.assertEqual(finish["code"], code)
        self.assertEqual(finish["cell_number"], reply["content"].get("execution_count"))
        self.assertEqual(start["cell_number"], finish["cell_number"])
        self.assertEqual(finish["user_id"], "سارا")
        self.assertGreaterEqual(finish["duration_ms"], 0)
        self.assertGreater(finish["max_rss_bytes"], 1_000_000)
        self.assertEqual(finish["session_id"], start["session_id"])
        return finish

    def test_a_cell_that_works_is_a_success(self):
        finish = self.run_one("import time; time.sleep(0.05); print('سلام')")
        self.assertEqual(finish["status"], "success")
        self.assertGreaterEqual(finish["duration_ms"], 50)
        self.assertNotIn("error_type", finish)

    def test_an_error_has_its_type_message_and_trace(self):
        finish = self.run_one("1/0")
        self.assertEqual((finish["status"], finish["error_type"]), ("error", "ZeroDivisionError"))
        self.assertEqual(finish["error_message"], "division by zero")
        self.assertIn("Traceback", finish["error_trace"])

    def test_an_error_that_cannot_be_shown_is_still_recorded(self):
        code = "class E(Exception):\n    def __str__(self): raise RuntimeError('no')\nraise E()"
        self.assertEqual(self.run_one(code)["status"], "error")

    def test_a_syntax_error_is_an_error(self):
        self.assertEqual(self.run_one("def (:")["error_type"], "SyntaxError")
        self.assertEqual(self.run_one("if True:\nx = 1")["error_type"], "IndentationError")

    def test_magics_are_recorded_as_written(self):
        self.assertEqual(self.run_one("%%bash\necho from bash")["status"], "success")
        self.assertEqual(self.run_one("%%bash\nexit 3")["status"], "error")
        self.assertEqual(self.run_one("!echo hello")["status"], "success")
        self.assertEqual(self.run_one("%%time\nsum(range(10))")["status"], "success")

    def test_top_level_await_is_timed(self):
        finish = self.run_one("import asyncio\nawait asyncio.sleep(0.05)")
        self.assertGreaterEqual(finish["duration_ms"], 50)

    def test_threads_and_processes_of_a_cell_do_not_add_to_it(self):
        code = (
            "import os, threading, multiprocessing\n"
            "t = threading.Thread(target=lambda: None); t.start(); t.join()\n"
            "context = multiprocessing.get_context('fork')\n"
            "p = context.Process(target=os.getpid); p.start(); p.join()\n"
            "with context.Pool(2) as pool: pool.map(abs, range(10))\n"
        )
        self.assertEqual(self.run_one(code)["status"], "success")

    def test_a_forked_child_writes_a_file_of_its_own_and_no_cell(self):
        code = (
            "import os\nimport weir_client\n"
            "child = os.fork()\n"
            "if child == 0:\n"
            "    weir_client.add_activity('from_the_child')\n"
            "    os._exit(0)\n"
            "os.waitpid(child, 0)[1]\n"
        )
        before = set(os.listdir(self.folder.path))
        self.assertEqual(self.run_one(code)["status"], "success")
        self.assertEqual(len(set(os.listdir(self.folder.path)) - before), 1)
        self.assertEqual(len([e for e in events(self.folder.path) if e["event_type"] == "from_the_child"]), 1)

    def test_a_child_that_comes_to_the_end_of_the_cell_is_not_the_cell(self):
        # The child's end is seen by nobody; it must not look like a second end of the cell.
        self.kernel.run("import os, signal, atexit\nchild = os.fork()\nif child == 0: os.kill(os.getpid(), 9)")
        self.assertEqual(len([c for c in cells(self.folder.path).values() if "cell.finish" not in c]), 0)

    def test_a_cell_of_five_megabytes_is_one_event_that_says_its_length(self):
        code = "x = '" + "م" * 2_500_000 + "'"
        self.kernel.run(code)
        last = events(self.folder.path)[-1]
        self.assertEqual((last["event_type"], last["status"]), ("cell.finish", "success"))
        self.assertEqual(last["truncated"]["code"]["bytes"], len(code.encode()))
        self.assertTrue(code.startswith(last["code"]))

    def test_a_cell_that_runs_a_cell_is_its_parent(self):
        self.run_one("get_ipython().run_cell('inner = 1')")
        inner = by_code(self.folder.path, "inner = 1")
        self.assertEqual(len(inner), 1)
        outer = by_code(self.folder.path, "get_ipython().run_cell('inner = 1')")[0]["cell.finish"]
        self.assertEqual(inner[0]["cell.finish"]["metadata"]["parent_operation_id"], outer["operation_id"])

    def test_an_application_that_closes_all_descriptors_loses_nothing_and_gets_nothing_into_its_files(self):
        self.run_one(
            "import os, weir_client._emit as e\n"
            "mine = os.open('/tmp/weir-test-mine', os.O_CREAT | os.O_RDWR | os.O_TRUNC)\n"
            "os.dup2(mine, e.spool()._fd)\n"
        )
        self.run_one("print(os.path.getsize('/tmp/weir-test-mine'))")
        self.assertEqual(os.path.getsize("/tmp/weir-test-mine"), 0)
        os.remove("/tmp/weir-test-mine")

    def test_what_a_cell_changes_in_the_environment_moves_no_file_of_an_open_spool(self):
        self.run_one("import os; os.chdir('/'); os.umask(0o777); 'done'")
        self.run_one("os.umask(0o022); 'again'")

    def test_silent_runs_and_completions_are_no_cells(self):
        before = len(events(self.folder.path))
        self.kernel.client.execute("1+1", silent=True)
        self.kernel.client.complete("import o", reply=True, timeout=20)
        self.assertEqual(len(events(self.folder.path)), before)


class Overlapping(unittest.TestCase):
    def test_cells_of_a_subshell_run_beside_those_of_the_shell(self):
        with Folder() as spool:
            kernel = Kernel(spool)
            client = kernel.client
            try:
                features = client.kernel_info(reply=True, timeout=PATIENCE)["content"].get("supported_features", [])
                if "kernel subshells" not in features:
                    # Kernels before ipykernel 7 have none.
                    return
                message = client.session.msg("create_subshell_request")
                client.control_channel.send(message)
                subshell = client.control_channel.get_msg(timeout=PATIENCE)["content"]["subshell_id"]
                with Folder() as marks:
                    until = os.path.join(marks, "ended")
                    slow = f"import os, time\nwhile not os.path.exists({until!r}): time.sleep(0.01)"
                    quick = "'quick'"
                    client.execute(slow)
                    eventually("the slow one has begun", lambda: by_code(spool, slow))
                    content = {"code": quick, "silent": False, "store_history": True, "user_expressions": {}}
                    content.update(allow_stdin=False, stop_on_error=True)
                    message = client.session.msg("execute_request", content)
                    message["header"]["subshell_id"] = subshell
                    client.shell_channel.send(message)
                    eventually("the quick one did not wait", lambda: finished(spool, quick))
                    open(until, "w", encoding="utf-8").close()
                    done = eventually("both have ended", lambda: finished(spool, slow, quick))
                self.assertEqual([event["status"] for event in done], ["success", "success"])
                self.assertLess(done[1]["timestamp"], done[0]["timestamp"])
                self.assertEqual(done[1]["operation_id"], message["header"]["msg_id"])
                self.assertGreaterEqual(done[0]["duration_ms"], done[1]["duration_ms"])
            finally:
                kernel.stop()


def finished(spool, *codes):
    """The ends of these cells, once all are there."""
    found = [cell[0].get("cell.finish") if (cell := by_code(spool, code)) else None for code in codes]
    return found if all(found) else None


def interrupt_once_begun(kernel, mark):
    """Interrupts the cell once its code has made this file, however long the kernel takes until then."""

    def interrupt():
        eventually("the cell has begun", lambda: os.path.exists(mark))
        kernel.manager.interrupt_kernel()

    threading.Thread(target=interrupt).start()


# A cell that lets the recorder be interrupted in one of its functions, once, in the recording of the next cell.
INTERRUPT_AT = """
import os, signal, weir_jupyter.kernel as recorder
def interrupt_at(place):
    real = getattr(recorder, place)
    left = [2 if place == "_max_rss_bytes" else 1]
    def interrupted(*arguments):
        if place == "emit" and arguments[0]["event_type"] != "cell.start":
            return real(*arguments)
        if left[0] == 1:
            setattr(recorder, place, real)
            os.kill(os.getpid(), signal.SIGINT)
        left[0] -= 1
        return real(*arguments)
    setattr(recorder, place, interrupted)
"""


class Interrupted(unittest.TestCase):
    def test_an_interrupted_cell_is_aborted(self):
        with Folder() as spool, Folder() as marks:
            kernel = Kernel(spool)
            try:
                mark = os.path.join(marks, "begun")
                code = f"import time\nopen({mark!r}, 'w').close()\ntime.sleep(600)"
                interrupt_once_begun(kernel, mark)
                kernel.run(code)
                finish = by_code(spool, code)[0]["cell.finish"]
                self.assertEqual((finish["status"], finish["error_type"]), ("aborted", "KeyboardInterrupt"))
            finally:
                kernel.stop()

    def test_an_interrupted_await_is_what_the_kernel_says_of_it(self):
        # Some versions of ipykernel cancel such a cell only once it comes back to the event loop.
        for code in (
            "import asyncio\nMARK\nawait asyncio.sleep(4)",
            "import asyncio\nasync def work():\n    MARK\n    await asyncio.sleep(4)\nawait asyncio.gather(work(), work())",
            "import asyncio, time\nawait asyncio.sleep(0)\nMARK\ntime.sleep(4)",
        ):
            # The code stands in what the kernel prints of an error.
            with Folder() as spool, tempfile.TemporaryDirectory(prefix="begun-") as marks:
                mark = os.path.join(marks, "begun")
                code = code.replace("MARK", f"open({mark!r}, 'w').close()")
                kernel = Kernel(spool)
                try:
                    interrupt_once_begun(kernel, mark)
                    reply, printed = kernel.run(code)
                    self.assertNotIn("weir", printed.lower())
                    found = by_code(spool, code)
                    self.assertEqual([set(cell) for cell in found], [{"cell.start", "cell.finish"}], code)
                    finish = found[0]["cell.finish"]
                    if reply["content"]["status"] == "ok":
                        self.assertEqual(finish["status"], "success", finish)
                    else:
                        self.assertEqual(finish["status"], "aborted", finish)
                        self.assertEqual(finish["error_type"], reply["content"]["ename"])
                        self.assertIn(finish["error_type"], ("KeyboardInterrupt", "CancelledError"))
                    self.assertEqual(finish["operation_id"], reply["parent_header"]["msg_id"])
                    # The kernel goes on, and so does the recording.
                    kernel.run("'after'")
                    self.assertEqual(by_code(spool, "'after'")[0]["cell.finish"]["status"], "success")
                finally:
                    kernel.stop()

    def test_an_interrupt_while_a_cell_is_being_recorded_hides_nothing_and_reaches_the_cell(self):
        # Where the recorder is when the interrupt comes: before it knows the cell, as it writes the start, and the end.
        places = (("_message_id", "aborted"), ("_Cell", "aborted"), ("emit", "aborted"), ("_max_rss_bytes", "success"))
        with Folder() as spool:
            kernel = Kernel(spool)
            try:
                kernel.run(INTERRUPT_AT)
                for place, status in places:
                    kernel.run(f"interrupt_at({place!r})")
                    code = f"import time; time.sleep({10 if status == 'aborted' else 0})  # {place}"
                    reply, printed = kernel.run(code)
                    self.assertNotIn("weir", printed.lower())
                    self.assertEqual(reply["content"]["status"], "ok" if status == "success" else "error", place)
                    self.assertTrue(is_whole(spool, code), place)
                    finish = by_code(spool, code)[0]["cell.finish"]
                    self.assertEqual(finish["status"], status, place)
                    self.assertEqual(finish["operation_id"], reply["parent_header"]["msg_id"])
            finally:
                kernel.stop()

    def test_a_spool_that_is_read_only_for_a_while_costs_no_cell(self):
        disk = SmallDisk()
        with disk as spool:
            disk.remount("ro")
            kernel = Kernel(spool)
            try:
                for n in range(3):
                    reply, printed = kernel.run(f"{n} + 1")
                    self.assertEqual((reply["content"]["status"], printed), ("ok", ""))
                self.assertEqual(os.listdir(spool), [])
                disk.remount("rw")
                eventually("all cells are there", lambda: all(is_whole(spool, f"{n} + 1") for n in range(3)))
            finally:
                kernel.stop()

    def test_a_full_disk_costs_no_cell_and_breaks_none(self):
        disk = SmallDisk()
        with disk as spool:
            kernel = Kernel(spool)
            try:
                codes = [f"x = {n}  # " + "#" * 20_000 for n in range(30)]
                for code in codes:
                    reply, printed = kernel.run(code)
                    self.assertEqual((reply["content"]["status"], printed), ("ok", ""))
                disk.remount("size=16m")
                eventually("all cells are there", lambda: all(is_whole(spool, code) for code in codes))
            finally:
                kernel.stop()

    def test_a_limit_of_the_size_of_files_costs_no_cell(self):
        # The cell sets it for its own process; a write beyond it fails as on a full disk. IPython's own history would meet
        # it, too, and say so in the middle of some cell.
        with Folder() as spool:
            extension, history = "--InteractiveShellApp.extensions=weir_jupyter", "--HistoryManager.hist_file=:memory:"
            kernel = Kernel(spool, arguments=(extension, history))
            try:
                limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))"
                kernel.run(limit)
                codes = [f"y = {n}  # " + "#" * 500 for n in range(20)]
                for code in codes:
                    reply, printed = kernel.run(code)
                    self.assertEqual((reply["content"]["status"], printed), ("ok", ""))
                kernel.run("resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))")
                eventually("all cells are there", lambda: all(is_whole(spool, code) for code in codes))
            finally:
                kernel.stop()

    def test_a_cell_that_ends_the_process_has_left_its_code(self):
        for code in ("import os; os._exit(1)", "import os; os.kill(os.getpid(), 9)", "import os; os.abort()"):
            with Folder() as spool:
                kernel = Kernel(spool)
                kernel.run("'before'")
                kernel.client.execute(code)
                eventually("the kernel is gone", lambda: not kernel.manager.is_alive())
                cell = by_code(spool, code)
                self.assertEqual(len(cell), 1)
                self.assertEqual(set(cell[0]), {"cell.start"})
                self.assertEqual(len(by_code(spool, "'before'")), 1)
                kernel.client.stop_channels()
                kernel.manager.cleanup_resources()

    def test_a_restarted_kernel_is_another_session(self):
        with Folder() as spool:
            kernel = Kernel(spool)
            try:
                kernel.run("first = 1")
                kernel.client.execute("import time; time.sleep(60)")
                eventually("it has started", lambda: by_code(spool, "import time; time.sleep(60)"))
                # A restart interrupts first, and a kernel that has the time ends its cell then.
                os.kill(kernel.manager.provisioner.pid, signal.SIGKILL)
                kernel.manager.restart_kernel(now=True)
                kernel.client.wait_for_ready(timeout=PATIENCE)
                kernel.run("second = 2")
                first, second = (by_code(spool, code)[0]["cell.finish"] for code in ("first = 1", "second = 2"))
                self.assertNotEqual(first["session_id"], second["session_id"])
                self.assertEqual(second["cell_number"], 1)
                self.assertEqual(set(by_code(spool, "import time; time.sleep(60)")[0]), {"cell.start"})
            finally:
                kernel.stop()


class Announced(unittest.TestCase):
    message = "این سرور فعالیت {user} را ثبت می‌کند"
    filled = "این سرور فعالیت سارا را ثبت می‌کند"

    def test_the_message_comes_once_in_the_first_cell_and_in_the_log(self):
        with Folder() as spool, open(os.path.join(spool + "-log"), "w+", encoding="utf-8") as log:
            kernel = Kernel(spool, {"WEIR_JUPYTER_MESSAGE": self.message}, log=log)
            try:
                self.assertEqual(kernel.run("1")[1].count(self.filled), 1)
                self.assertEqual(kernel.run("2")[1], "")
            finally:
                kernel.stop()
            log.seek(0)
            self.assertEqual(log.read().count(self.filled), 1)
            os.remove(log.name)

    def test_a_kernel_that_loads_it_in_a_cell_announces_and_records_that_cell(self):
        with Folder() as spool:
            kernel = Kernel(spool, {"WEIR_JUPYTER_MESSAGE": self.message}, arguments=())
            try:
                self.assertEqual(kernel.run("'not seen'")[1], "")
                self.assertEqual(kernel.run("%load_ext weir_jupyter")[1].count(self.filled), 1)
                self.assertEqual(kernel.run("%load_ext weir_jupyter")[1].count(self.filled), 0)
                self.assertEqual(kernel.run("'seen'")[1], "")
                kernel.run("%unload_ext weir_jupyter")
                kernel.run("'not any more'")
                finished = [e["code"] for e in events(spool) if e["event_type"] == "cell.finish"]
                loads = ["%load_ext weir_jupyter"] * 2
                self.assertEqual(finished, [*loads, "'seen'", "%unload_ext weir_jupyter"])
            finally:
                kernel.stop()

    def test_without_a_message_it_is_silent(self):
        with Folder() as spool:
            kernel = Kernel(spool)
            try:
                self.assertEqual(kernel.run("1")[1], "")
            finally:
                kernel.stop()


if __name__ == "__main__":
    unittest.main()
