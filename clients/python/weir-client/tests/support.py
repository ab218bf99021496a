"""Folders, file systems and processes for the tests."""

import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

PATIENCE = 120


class Folder:
    """A folder that goes with the test."""

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="weir-test-")
        return self.path

    def __exit__(self, *error):
        shutil.rmtree(self.path, ignore_errors=True)


class SmallDisk(Folder):
    """A file system of its own, of 256 KiB. Needs root, as the project's other tests with full disks do."""

    def __enter__(self):
        path = super().__enter__()
        self.remount("size=256k", first=True)
        return path

    def remount(self, options, first=False):
        command = ["mount", "-t", "tmpfs", "-o", options if first else f"remount,{options}", "tmpfs", self.path]
        subprocess.run(command, check=True)

    def __exit__(self, *error):
        subprocess.run(["umount", "-l", self.path], check=True)
        super().__exit__(*error)


def lines(folder):
    found = []
    for path in sorted(glob.glob(os.path.join(folder, "*"))):
        with open(path, "rb") as file:
            found.extend(file.read().splitlines())
    return found


def events(folder):
    return sorted((json.loads(line) for line in lines(folder)), key=lambda event: event["timestamp"])


def python(code, folder, **environment):
    """Runs a program and returns how it ended and everything it printed."""
    # Newer Pythons warn of what some of the programs do on purpose: forking with threads.
    env = {**os.environ, "PYTHONWARNINGS": "ignore", "WEIR_SPOOL_DIR": folder, **environment}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, timeout=PATIENCE, check=False)
    return done.returncode, (done.stdout + done.stderr).decode()


def eventually(what, is_true):
    deadline = time.monotonic() + PATIENCE
    while True:
        value = is_true()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"never: {what}")
        time.sleep(0.01)
