"""Counts false alarms: verifies all right layers at many seeds and prints what is failed.

`python tests/sweep_right.py [VERIFICATIONS] [PROFILE]`: as many verifications (default 10,000) of
the layers in specs/ and tests/right, in float64, float32 and, where a layer has half precision,
float16, each at a seed of its own, in two processes; exit code 1 if any has an error.
"""

import sys
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import count, islice
from pathlib import Path

from gradverify import Layer
from gradverify.checks.names import NAMES
from gradverify.engine import profile_of, verify_layer
from gradverify.loading import load

ROOT = Path(__file__).parent.parent
HALF = ("float16",)


def files():
    """Return, by spec, the files that hold right layers of it."""
    found = defaultdict(list)
    for folder in ("specs", "tests/right"):
        for path in sorted((ROOT / folder).glob("*.py")):
            found[path.stem].append(path)
    return found


def right_layers(paths):
    """Return the right layers in files, those with half precision once more in it alone.

    `naive_...` are right at ordinary values only.
    """
    layers = [x for path in paths for x in load(path) if not x.name.startswith("naive")]
    half = [
        Layer(x.spec, x.function, name=f"{x.name} in float16", dtypes=HALF, file=x.file)
        for x in layers
        if x.dtypes is None
    ]
    return layers + half


def judged(paths, seed, profile):
    """Return, for all right layers of one spec at one seed, (name, verdict, errors)."""
    found = []
    for layer in right_layers(paths):
        result = verify_layer(layer, profile_of(profile), NAMES, seed)
        told = [f"{f.check}/{f.question} {f.tensor} at {f.case}" for f in result.errors]
        found.append((f"{layer.spec.name} {layer.name}", str(result.verdict), told))
    return found


def main(wanted, profile):
    """Print the count of verifications and every error; return whether there is none."""
    specs = list(files().values())
    verdicts, errors, done = Counter(), [], 0
    work = ((paths, seed) for seed in count() for paths in specs)
    with ProcessPoolExecutor(2) as pool:
        running = {
            pool.submit(judged, paths, seed, profile): seed for paths, seed in islice(work, 4)
        }
        while running:
            future = next(as_completed(running))
            seed = running.pop(future)
            for name, verdict, told in future.result():
                done += 1
                verdicts[verdict] += 1
                for line in told:
                    errors.append(name)
                    print(f"ERROR {name} seed {seed}: {line}", flush=True)
            if done < wanted:
                paths, seed = next(work)
                running[pool.submit(judged, paths, seed, profile)] = seed
            if done // 500 > (done - len(future.result())) // 500:
                print(f"{done} verifications, {len(errors)} errors", flush=True)
    tally = ", ".join(f"{n} {verdict}" for verdict, n in sorted(verdicts.items()))
    print(f"{done} verifications ({tally}) at profile {profile}: {len(errors)} errors")
    return not errors


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(not main(int(given[0]) if given else 10_000, given[1] if len(given) > 1 else "quick"))
