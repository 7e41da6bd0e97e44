"""Verify every wrong layer of the collection at some seeds, and say which are not failed.

`python tests/faults/sweep.py [SEEDS] [LAYER...] [--brief]`: how many are failed at each of the
first SEEDS seeds (default 5), every miss by name; the same without the definitions; and, at seed
0, how many diagnoses name the kind of fault that is planted. --brief leaves the last two out,
which take most of the time. LAYERs are those of the catalogue, or written by hand.
"""

import argparse
import sys
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field

from collection import by_hand, layer_of, planted, without_definition

from gradverify.checks.names import NAMES
from gradverify.engine import first_error, profile_of, verify_layer

PROFILE = profile_of("default")


@dataclass
class Outcome:
    """What became of one wrong layer: the seeds at which it was not failed, with and without the
    definition, and the kinds that its diagnoses name."""

    name: str
    fault: str
    told: str
    missed: list = field(default_factory=list)
    missed_undefined: list = field(default_factory=list)
    named: list = field(default_factory=list)


def judged(row, seeds, brief):
    out = Outcome(row.name, row.fault.partition(":")[0] or "by hand", row.told)
    # A layer of its own for each question: some remember their calls.
    out.missed = [s for s in range(seeds) if first_error(layer_of(row), PROFILE, seed=s) is None]
    if brief:
        return out
    bare = without_definition(layer_of(row))
    out.missed_undefined = [s for s in range(seeds) if first_error(bare, PROFILE, seed=s) is None]
    if 0 not in out.missed and row.told != "-":
        result = verify_layer(layer_of(row), PROFILE, NAMES, 0)
        out.named = sorted({f.kind for f in result.errors if f.kind})
    return out


def of_spec(rows, seeds, brief):
    """Judge the wrong layers of one spec, which share all that follows from it."""
    return [judged(row, seeds, brief) for row in rows]


def groups(wanted):
    found = defaultdict(list)
    for row in (*planted(), *by_hand()):
        if not wanted or row.layer in wanted:
            found[layer_of(row).spec.name].append(row)
    return sorted(found.values(), key=len, reverse=True)


def table(outcomes, seeds, brief):
    print(
        f"\n{'kind':<18}{'layers':>8}{'failed':>8}" + ("" if brief else f"{'bare':>8}{'named':>10}")
    )
    for kind in (*dict.fromkeys(o.fault for o in outcomes), "all"):
        mine = [o for o in outcomes if kind in (o.fault, "all")]
        tried = len(mine) * seeds
        failed = tried - sum(len(o.missed) for o in mine)
        line = f"{kind:<18}{len(mine):>8}{failed / tried:>8.1%}"
        if not brief:
            bare = tried - sum(len(o.missed_undefined) for o in mine)
            scored = [o for o in mine if o.told != "-" and 0 not in o.missed]
            line += f"{bare / tried:>8.1%}{sum(map(named, scored)):>6}/{len(scored)}"
        print(line)


def named(outcome):
    """Whether a diagnosis names the kind of fault."""
    return any(kind in outcome.told.split("|") for kind in outcome.named)


def misses(outcomes, how, missed):
    found = [o for o in outcomes if getattr(o, missed)]
    print(f"\nnot failed{how}: {len(found)} of {len(outcomes)}")
    for o in found:
        print(f"  {o.name}  at seeds {getattr(o, missed)}")


def misdiagnosed(outcomes):
    wrong = [o for o in outcomes if o.told != "-" and 0 not in o.missed and not named(o)]
    print(f"\nfailed, but diagnosed as something else: {len(wrong)}")
    for o in wrong:
        print(f"  {o.name}  is {o.told}, told {', '.join(o.named) or 'nothing'}")
    for (told, others), times in Counter((o.told, tuple(o.named)) for o in wrong).most_common(20):
        print(f"  {times} x {told} told as {', '.join(others) or 'nothing'}")


def main(seeds, wanted, brief):
    outcomes = []
    with ProcessPoolExecutor(2) as pool:
        futures = [pool.submit(of_spec, rows, seeds, brief) for rows in groups(wanted)]
        for future in as_completed(futures):
            outcomes += future.result()
            print(f"{len(outcomes)} layers judged", file=sys.stderr, flush=True)
    outcomes.sort(key=lambda o: (o.fault, o.name))
    misses(outcomes, "", "missed")
    if not brief:
        misses(outcomes, " without the definition", "missed_undefined")
        misdiagnosed(outcomes)
    table(outcomes, seeds, brief)
    return 1 if any(o.missed for o in outcomes) else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("seeds", type=int, nargs="?", default=5)
    parser.add_argument("layers", nargs="*")
    parser.add_argument("--brief", action="store_true")
    options = parser.parse_args()
    sys.exit(main(options.seeds, set(options.layers), options.brief))
