"""Runs cells in kernels of two languages behind a real Jupyter server, and prints what must be recorded of them."""

import json
import os
import sys
import tempfile

TESTS = os.path.join(os.path.dirname(__file__), *[os.pardir] * 4, "clients", "python", "weir-jupyter", "tests")
sys.path.insert(0, TESTS)

from test_server import Server  # noqa: E402


def run(client, code, status, by):
    reply = client.execute_interactive(code, timeout=60, output_hook=lambda message: None)
    operation = reply["parent_header"]["msg_id"]
    print(json.dumps({"operation_id": operation, "code": code, "status": status, "by": by}), flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="weir-test-") as home:
        server = Server(home, os.environ["WEIR_SPOOL_DIR"], os.environ["WEIR_SERVER_SPOOL_DIR"])
        _, python = server.kernel("python3")
        run(python, "1 + 1", "success", "both")
        run(python, "1 / 0", "error", "both")
        run(python, "%unload_ext weir_jupyter", "success", "both")
        run(python, "hidden = 1", "success", "server")
        _, bash = server.kernel("bash")
        run(bash, "echo سلام", "success", "server")
        for client in (python, bash):
            client.stop_channels()
        server.stop()
