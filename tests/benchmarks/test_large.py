"""A torch module of 10 million parameters: how many forwards and backwards it takes to verify it."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("large_module.py")


def test_a_module_of_ten_million_parameters(show):
    found = [
        json.loads(subprocess.check_output([sys.executable, SCRIPT, *option]))
        for option in (["definition"], [])
    ]
    figures = [name for name in found[0] if name != "checks"]
    show(
        "A torch module of 10 million parameters verified with profile quick, in a process of its "
        "own. One forward and backward is torch's, with the gradients of all tensors: the median "
        "of 5, meant over the cases of the run. Memory is the most that the process has held "
        "beyond what it held before.",
        [
            ["", "with a definition", "without one"],
            *([name, *(float(f[name]) for f in found)] for name in figures),
        ],
    )
    assert found[0]["parameters"] > 10_000_000
