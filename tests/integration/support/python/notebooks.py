"""Runs cells in real kernels and prints, for each, what must be recorded of it: one JSON line a cell."""

import glob
import json
import os
import signal
import subprocess
import sys
import threading
import time

from jupyter_client.manager import KernelManager

PATIENCE = 60


class Kernel:
    def __init__(self, user):
        self.manager = KernelManager(kernel_name="python3")
        self.user = user
        env = {**os.environ, "JUPYTERHUB_USER": user}
        arguments = ["--InteractiveShellApp.extensions=weir_jupyter"]
        self.manager.start_kernel(env=env, extra_arguments=arguments, stderr=subprocess.DEVNULL)
        self.connect()

    def connect(self):
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)

    def run(self, code, status="success", timeout=PATIENCE, at_output=lambda message: None):
        reply = self.client.execute_interactive(code, timeout=timeout, output_hook=at_output)
        self.expect(code, reply["parent_header"]["msg_id"], status, reply["content"].get("execution_count"))

    def send(self, code, status):
        """Without waiting for its end."""
        operation = self.client.execute(code)
        self.expect(code, operation, status, None)
        begun = json.dumps(code, ensure_ascii=False)[:1000]
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            time.sleep(0.05)
            if not self.manager.is_alive() or is_spooled(operation):
                return
        raise AssertionError(f"never begun: {begun}")

    def expect(self, code, operation, status, number):
        cell = {"user_id": self.user, "operation_id": operation, "status": status, "number": number}
        cell.update(code=code[:200], length=len(code))
        print(json.dumps(cell), flush=True)

    def stop(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=False)


def is_spooled(operation):
    """Also true once the agent has taken the file away."""
    paths = glob.glob(os.path.join(os.environ["WEIR_SPOOL_DIR"], "*"))
    return any(operation in open(path, encoding="utf-8").read() for path in paths)


def everything():
    """Every way in which a cell can run and end."""
    kernel = Kernel("سارا")
    kernel.run("print('سلام دنیا')")
    kernel.run("1/0", "error")
    kernel.run("def (:", "error")
    kernel.run("%%bash\necho hello")
    kernel.run("%%bash\nexit 3", "error")
    kernel.run("import asyncio\nawait asyncio.sleep(0.01)")
    kernel.run("import threading\nt = threading.Thread(target=print); t.start(); t.join()")
    kernel.run("import os\nchild = os.fork()\nif child == 0: os._exit(0)\nos.waitpid(child, 0)[1]")
    kernel.run(
        "import multiprocessing\ncontext = multiprocessing.get_context('fork')\n"
        "with context.Pool(2) as pool: pool.map(abs, range(10))"
    )
    kernel.run("x = '" + "م" * 2_500_000 + "'")
    kernel.run("raise ValueError('بد')", "error")
    begun = threading.Event()
    threading.Thread(target=lambda: begun.wait() and kernel.manager.interrupt_kernel()).start()
    # Not at the first message: that the kernel is busy is said before its interrupts mean this cell.
    at_output = lambda message: message["msg_type"] == "stream" and begun.set()
    kernel.run("import time\nprint('begun', flush=True)\ntime.sleep(30)", "aborted", at_output=at_output)
    kernel.send("import time; time.sleep(30)", "lost")
    # A restart interrupts first, and a kernel that has the time ends its cell then.
    os.kill(kernel.manager.provisioner.pid, signal.SIGKILL)
    kernel.manager.restart_kernel(now=True)
    kernel.client.wait_for_ready(timeout=PATIENCE)
    kernel.run("'after the restart'")
    kernel.send("import os; os._exit(1)", "lost")
    kernel.manager.cleanup_resources()
    kernel.client.stop_channels()


def many(count):
    """Cells one after another in one kernel."""
    kernel = Kernel("reza")
    for n in range(count):
        kernel.run(f"n = {n}")
    kernel.stop()


if __name__ == "__main__":
    many(int(sys.argv[2])) if sys.argv[1] == "many" else everything()
