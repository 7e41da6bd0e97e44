"""`gradverify new`: write a spec file to start from, for a function or a class."""

import argparse
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from gradverify.config import read_config
from gradverify.errors import UsageError, complain
from gradverify.options import Command

if TYPE_CHECKING:
    from gradverify.scaffold.target import Target

# Seconds that the search for shapes may take, and what is needed to start.
_TIMEOUT = 120.0
# What a name says besides which layer it is of.
_FILLING = ("my", "numpy", "np", "forward", "fwd", "layer", "fast", "naive", "hand", "own", "new")


def add(command: Command) -> None:
    """Add the command and its options."""
    made = command("new", "write a spec file to start from, for a function or a class")
    made.set_defaults(run=run)
    made.add_argument("target", metavar="MODULE:FUNCTION",
                      help="such as mylib.layers:relu, or mylib/layers.py:relu")  # fmt: skip
    made.add_argument("--output", metavar="FILE",
                      help="where to write it, - for standard output (default: NAME.py in the "
                      "folder that [tool.gradverify] specs names, or in specs)")  # fmt: skip
    made.add_argument("--call", metavar="EXAMPLE",
                      help='an example to take shapes from, such as "relu(np.ones((4, 3)))" '
                      "(default: shapes are tried)")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Write the file, say what to do next, and return the exit code."""
    from gradverify.report.deliver import write
    from gradverify.scaffold.sketch import sketch
    from gradverify.scaffold.target import target_of
    from gradverify.scaffold.write import file_text
    from gradverify.workers import WorkerDied, WorkerPool, WorkerTimeout

    target = target_of(options.target)
    path = None if options.output == "-" else Path(options.output or _place(target))
    if path is not None and path.exists():
        raise UsageError(f"{path} is there already, and stays as it is: name another --output")
    complain(f"calling {target.name} with small arrays of many shapes")
    with WorkerPool(1, _TIMEOUT) as pool:
        try:
            made = pool.submit(sketch, target, options.call).result()
        except (WorkerTimeout, WorkerDied) as error:
            raise UsageError(
                f"{options.target}: while it was called: {error}; give an example by --call"
            ) from None
    text = file_text(made, path)
    if path is None:
        write(text)
        return 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"--output: cannot write {path}: {error.strerror}") from None
    write(_told(target, path, text))
    return 0


def _place(target: "Target") -> str:
    """Return where a spec file goes: into the folder that pyproject.toml names, or specs."""
    config = read_config(Path.cwd())
    folders = [os.path.relpath(config.root / spec) for spec in config.specs]
    folder = next((f for f in folders if not f.endswith(".py")), "specs")
    return os.path.join(folder, f"{target.file_name}.py")


def _told(target: "Target", path: Path, text: str) -> str:
    """Return what was done, and what to do next."""
    from gradverify.again import quoted

    todo = text.count("TODO")
    lines = [f"wrote {path}, with {todo} TODO" + "s" * (todo != 1)]
    if (known := _known(target.name)) is not None:
        found = f'gradverify.catalog("{known}")'
        whole = f"spec.register({target.name})" in text
        lines.append(
            f"the catalogue has a spec {known}, with its definition: if this is the same layer, "
            + (f"{found}.register({target.name}) is all it needs" if whole
               else f"register it with {found} in place of this spec")
        )  # fmt: skip
    return "\n".join([*lines, f"next: gradverify verify {quoted(str(path))}"]) + "\n"


def _known(name: str) -> str | None:
    """Return the spec of the catalogue that is called like a function or a class."""
    from gradverify.loading import catalogue_folder

    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.rpartition(".")[2]).lower()
    names = {file.stem.replace("_", ""): file.stem for file in catalogue_folder().glob("*.py")}
    words = [w for w in snake.split("_") if w not in _FILLING]
    return names.get("".join(words))
