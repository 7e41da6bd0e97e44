"""How benchmarks are run: by `pytest -n 0 tests/benchmarks`, one thread, one after the other."""

import os
import sys
from textwrap import fill

import pytest

ALONE = "PYTEST_XDIST_WORKER" not in os.environ and "numpy" not in sys.modules
# NumPy reads these when it is imported; processes that are started inherit them.
for name in ("MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"


@pytest.fixture(autouse=True)
def alone():
    """Measure nothing where other processes, or more threads, would be measured too."""
    if not ALONE:
        pytest.fail("benchmarks are run alone: pytest -n 0 tests/benchmarks", pytrace=False)


@pytest.fixture
def show(capsys):
    """Return a function that prints a title and a table on the terminal, captured or not."""

    def show(title, rows):
        cells = [[f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row]
                 for row in rows]  # fmt: skip
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        with capsys.disabled():
            print(f"\n\n{fill(title, 100)}\n")
            for first, *others in cells:
                figures = (cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True))
                print(f"  {first.ljust(widths[0])}", *figures, sep="  ")

    return show
