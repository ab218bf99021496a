"""Real kernels for the tests, with a spool of their own."""

import glob
import json
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time

from jupyter_client.manager import KernelManager

PATIENCE = 180


class Kernel:
    """A kernel with the extension loaded by configuration."""

    def __init__(self, spool, environment=None, arguments=("--InteractiveShellApp.extensions=weir_jupyter",), log=None):
        self.spool = spool
        self.manager = KernelManager(kernel_name="python3")
        env = {**os.environ, "WEIR_SPOOL_DIR": spool, "JUPYTERHUB_USER": "سارا", **(environment or {})}
        env.pop("WEIR_URL", None) if "WEIR_URL" not in (environment or {}) else None
        options = {"stderr": log} if log else {}
        self.manager.start_kernel(env=env, extra_arguments=list(arguments), **options)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)

    def run(self, code, timeout=PATIENCE, **options):
        """Runs a cell; its reply, and the text that it printed."""
        printed = []

        def hook(message):
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])
            elif message["msg_type"] == "error":
                printed.append("\n".join(message["content"]["traceback"]))

        reply = self.client.execute_interactive(code, timeout=timeout, output_hook=hook, **options)
        return reply, "".join(printed)

    def stop(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=False)


class Folder:
    """A folder that goes with the test."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix="weir-test-")

    def __enter__(self):
        return self.path

    def __exit__(self, *error):
        shutil.rmtree(self.path, ignore_errors=True)


class SmallDisk(Folder):
    """A file system of its own, of 256 KiB. Needs root, as the project's other tests with full disks do."""

    def __init__(self):
        super().__init__()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", self.path], check=True)

    def remount(self, options):
        subprocess.run(["mount", "-o", f"remount,{options}", "tmpfs", self.path], check=True)

    def __exit__(self, *error):
        subprocess.run(["umount", "-l", self.path], check=True)
        super().__exit__(*error)


def free_ports(count):
    """Below the range from which the system gives ports to whoever asks for any, so that they are free until a server listens."""
    found = []
    while len(found) < count:
        port = random.randrange(10_000, 15_000)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        if port not in found:
            found.append(port)
    return found


def events(spool):
    """Everything in a spool, in the order of time."""
    found = []
    for path in glob.glob(os.path.join(spool, "*")):
        with open(path, encoding="utf-8") as file:
            # A full disk may have taken the beginning of the last one.
            found.extend(json.loads(line) for line in file if line.endswith("\n"))
    return sorted(found, key=lambda event: event["timestamp"])


def eventually(what, is_true):
    deadline = time.monotonic() + PATIENCE
    while True:
        value = is_true()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"never: {what}")
        time.sleep(0.02)


def cells(spool):
    """The executions by operation: what started, and what finished."""
    found = {}
    for event in events(spool):
        found.setdefault(event.get("operation_id"), {})[event["event_type"]] = event
    return found


def by_code(spool, code):
    return [cell for cell in cells(spool).values() if any(event.get("code") == code for event in cell.values())]
