"""How long a function takes, and the layers of the catalogue to try it on."""

import time
from statistics import median

from gradverify.loading import catalogue_folder, load


def seconds(function, runs=7, least=2e-3):
    """Return the median over runs of the seconds of one call; short calls are repeated in a run."""
    function()
    repeats, taken = 1, 0.0
    while True:
        began = time.perf_counter()
        for _ in range(repeats):
            function()
        taken = time.perf_counter() - began
        if taken >= least:
            break
        repeats = max(2 * repeats, int(1.2 * repeats * least / max(taken, 1e-9)))
    found = []
    for _ in range(runs):
        began = time.perf_counter()
        for _ in range(repeats):
            function()
        found.append((time.perf_counter() - began) / repeats)
    return median(found)


def catalogue():
    """Return the layers of the catalogue, by name."""
    layers = [layer for path in sorted(catalogue_folder().glob("*.py")) for layer in load(path)]
    assert layers
    return sorted(layers, key=lambda layer: layer.name)
