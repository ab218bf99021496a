"""What recording adds to a notebook cell: run with the interpreter that `clients/python/install` prints."""

import os
import statistics
import tempfile
import time

from jupyter_client.manager import KernelManager

CELLS = 3000

# In a real kernel, without the messages around a cell: those take milliseconds and hide what is measured.
INSIDE = f"""
import gc, json, time
shell = get_ipython()
def run(count):
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        shell.run_cell("x = 1")
        times.append((time.perf_counter() - begun) * 1e6)
    return times
run(200)
without, recorded = [], []
for _ in range({CELLS} // 100):
    without += run(100)
    shell.extension_manager.load_extension("weir_jupyter")
    recorded += run(100)
    shell.extension_manager.unload_extension("weir_jupyter")
print(json.dumps([without, recorded]))
"""


def percentile(times, share):
    return sorted(times)[int(len(times) * share)]


def kernel(spool, arguments=()):
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env={**os.environ, "WEIR_SPOOL_DIR": spool}, extra_arguments=list(arguments))
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    return manager, client


def inside(spool):
    import json

    manager, client = kernel(spool)
    printed = []
    hook = lambda message: printed.append(message["content"].get("text", ""))  # noqa: E731
    client.execute_interactive(INSIDE, timeout=600, output_hook=hook)
    manager.shutdown_kernel(now=True)
    return json.loads("".join(printed).strip())


def outside(spool):
    """The whole way of a cell, as a front end sees it; the two kernels take turns."""
    loaded = ("--InteractiveShellApp.extensions=weir_jupyter",)
    kernels = [kernel(spool), kernel(spool, loaded)]
    times = [[], []]
    for _ in range(CELLS // 100):
        for which, (_, client) in enumerate(kernels):
            for _ in range(100):
                begun = time.perf_counter()
                client.execute_interactive("x = 1", timeout=60, output_hook=lambda message: None)
                times[which].append((time.perf_counter() - begun) * 1e6)
    for manager, _ in kernels:
        manager.shutdown_kernel(now=True)
    return times


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="weir-bench-", dir="/var/tmp") as spool:
        for name, measure in (("run_cell in the kernel", inside), ("request to reply", outside)):
            without, recorded = measure(spool)
            for what, times in (("without", without), ("recorded", recorded)):
                row = f"median {statistics.median(times):8.1f} us   p99 {percentile(times, 0.99):8.1f} us"
                print(f"{name:24} {what:10} {row}", flush=True)
            added = statistics.median(recorded) - statistics.median(without)
            print(f"{name:24} added      median {added:8.1f} us", flush=True)
