"""Three users' notebooks in real kernels: cells that work, fail, are huge, and hold secrets."""

import os
import sys

import nbformat
from nbclient import NotebookClient

SECRET = "hunter2hunter2hunter2"

NOTEBOOKS = {
    "ali": [
        "import math\nmath.sqrt(2)",
        "print('سلام از علی')",
        "data = list(range(1000))\nsum(data)",
        "1 / 0",
        "%%bash\necho a shell",
        "import asyncio\nawait asyncio.sleep(0.02)",
        f"password = '{SECRET}'",
        "discount = '100%_off'",
    ],
    "سارا": [
        "x = 1",
        "long = '''" + "متن بلند " * 2000 + "'''",
        "for i in range(3): print(i)",
        "undefined_name",
        "import os\nos.environ['AWS_SECRET_ACCESS_KEY'] = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYzzzzzzzKEY'",
    ],
    "reza": ["raise ValueError('یک')", "raise ValueError('دو')", "raise KeyError('three')", "x = 2", "def broken(:"],
}


def run(user):
    """Runs one user's notebook to its end, errors and all."""
    cells = [nbformat.v4.new_code_cell(code) for code in NOTEBOOKS[user]]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=120,
        allow_errors=True,
        extra_arguments=["--InteractiveShellApp.extensions=weir_jupyter"],
    )
    env = {
        **os.environ,
        "JUPYTERHUB_USER": user,
        "JPY_SESSION_NAME": f"{user}.ipynb",
        "WEIR_JUPYTER_MESSAGE": "{user}، آنچه اجرا می‌کنید ثبت می‌شود",
    }
    client.execute(env=env)
    first = notebook.cells[0].outputs[0].text
    assert first.startswith(f"{user}، "), first


if __name__ == "__main__":
    for name in NOTEBOOKS if sys.argv[1] == "demo" else [sys.argv[1]]:
        run(name)
