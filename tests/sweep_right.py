"""Counts false alarms: verifies all right layers at many seeds and prints what is failed.

`python tests/sweep_right.py [VERIFICATIONS] [PROFILE]`: as many verifications (default 10,000) of
the layers in specs/ and tests/right, in float64, float32 and, where a layer has half precision,
float16, one of each spec also with its derived forward mode and double backward, each at a seed of
its own, in two processes that spend as long on each spec; exit code 1 if any has an error.
"""

import sys
import time
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from gradverify import Layer, oracle
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
    """Return the right layers in files, those with half precision once more in it alone, and the
    first once more with the derived forward mode and double backward.

    `naive_...` are right at ordinary values only.
    """
    layers = [x for path in paths for x in load(path) if not x.name.startswith("naive")]
    half = [
        Layer(x.spec, x.function, name=f"{x.name} in float16", dtypes=HALF, file=x.file)
        for x in layers
        if x.dtypes is None
    ]
    first, derived = layers[0], oracle(layers[0].spec)
    offering = Layer(
        first.spec, first.function, name=f"{first.name} with all derivatives", file=first.file,
        dtypes=first.dtypes, jvp=derived.jvp, double_vjp=derived.double_vjp,
    )  # fmt: skip
    return [*layers, *half, offering]


def judged(spec, paths, seed, profile):
    """Return, for all right layers of one spec at one seed, (name, verdict, errors), and how long
    it took."""
    began, found = time.perf_counter(), []
    for layer in right_layers(paths):
        result = verify_layer(layer, profile_of(profile), NAMES, seed)
        told = [f"{f.check}/{f.question} {f.tensor} at {f.case}" for f in result.errors]
        found.append((f"{spec} {layer.name}", str(result.verdict), told))
    return spec, seed, found, time.perf_counter() - began


def main(wanted, profile):
    """Print the count of verifications and every error; return whether there is none."""
    specs, spent, seeds = files(), Counter(), Counter()
    verdicts, errors, done = Counter(), [], 0
    with ProcessPoolExecutor(2) as pool:

        def start():
            spec = min(specs, key=lambda s: (seeds[s] > 0, spent[s]))
            mean = spent[spec] / seeds[spec] if seeds[spec] else 1.0
            spent[spec] += mean  # until it is known
            seeds[spec] += 1
            return pool.submit(judged, spec, specs[spec], seeds[spec] - 1, profile), mean

        running = dict(start() for _ in range(4))
        while running:
            future = next(as_completed(running))
            spec, seed, found, seconds = future.result()
            spent[spec] += seconds - running.pop(future)
            for name, verdict, told in found:
                done += 1
                verdicts[verdict] += 1
                for line in told:
                    errors.append(name)
                    print(f"ERROR {name} seed {seed}: {line}", flush=True)
            if done < wanted:
                running.update([start()])
            if done // 500 > (done - len(found)) // 500:
                print(f"{done} verifications, {len(errors)} errors", flush=True)
    print(f"seeds of each spec: {min(seeds.values())} to {max(seeds.values())}")
    tally = ", ".join(f"{n} {verdict}" for verdict, n in sorted(verdicts.items()))
    print(f"{done} verifications ({tally}) at profile {profile}: {len(errors)} errors")
    return not errors


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(not main(int(given[0]) if given else 10_000, given[1] if len(given) > 1 else "quick"))
