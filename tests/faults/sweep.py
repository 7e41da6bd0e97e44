"""Verify every wrong layer of the collection at some seeds, and say which are not failed.

`python tests/faults/sweep.py [SEEDS] [LAYER...]`: how many are failed at each of the first SEEDS
seeds (default 5), every miss by name; the same without the definitions; and, at seed 0, how many
diagnoses name the kind of fault that is planted. LAYERs are those of the catalogue, or names of
layers written by hand.
"""

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


def judged(row, seeds):
    layer = layer_of(row)
    bare = without_definition(layer_of(row))  # another: some remember their calls
    out = Outcome(row.name, row.fault.partition(":")[0] or "by hand", row.told)
    out.missed = [s for s in range(seeds) if first_error(layer_of(row), PROFILE, seed=s) is None]
    out.missed_undefined = [s for s in range(seeds) if first_error(bare, PROFILE, seed=s) is None]
    if 0 not in out.missed and row.told != "-":
        result = verify_layer(layer, PROFILE, NAMES, 0)
        out.named = sorted({f.kind for f in result.errors if f.kind})
    return out


def of_spec(rows, seeds):
    """Judge the wrong layers of one spec, which share all that follows from it."""
    return [judged(row, seeds) for row in rows]


def groups(wanted):
    found = defaultdict(list)
    for row in (*planted(), *by_hand()):
        if not wanted or row.layer in wanted:
            found[layer_of(row).spec.name].append(row)
    return sorted(found.values(), key=len, reverse=True)


def table(outcomes, seeds):
    print(f"\n{'kind':<18}{'layers':>8}{'failed':>8}{'bare':>8}{'named':>10}")
    kinds = dict.fromkeys(o.fault for o in outcomes)
    for kind in (*kinds, "all"):
        mine = [o for o in outcomes if kind in (o.fault, "all")]
        tried = len(mine) * seeds
        failed = tried - sum(len(o.missed) for o in mine)
        bare = tried - sum(len(o.missed_undefined) for o in mine)
        scored = [o for o in mine if o.told != "-" and 0 not in o.missed]
        right = sum(any(k in o.told.split("|") for k in o.named) for o in scored)
        print(f"{kind:<18}{len(mine):>8}{failed / tried:>8.1%}{bare / tried:>8.1%}"
              f"{right:>6}/{len(scored)}")  # fmt: skip


def main(seeds, wanted):
    outcomes = []
    with ProcessPoolExecutor(2) as pool:
        futures = [pool.submit(of_spec, rows, seeds) for rows in groups(wanted)]
        for future in as_completed(futures):
            outcomes += future.result()
            print(f"{len(outcomes)} layers judged", file=sys.stderr, flush=True)
    outcomes.sort(key=lambda o: (o.fault, o.name))
    for how, missed in (("", "missed"), (" without the definition", "missed_undefined")):
        found = [o for o in outcomes if getattr(o, missed)]
        print(f"\nnot failed{how}: {len(found)} of {len(outcomes)}")
        for o in found:
            print(f"  {o.name}  at seeds {getattr(o, missed)}")
    wrong = [o for o in outcomes if o.told != "-" and 0 not in o.missed
             and not any(k in o.told.split("|") for k in o.named)]  # fmt: skip
    print(f"\nfailed, but diagnosed as something else: {len(wrong)}")
    for o in wrong:
        print(f"  {o.name}  is {o.told}, told {', '.join(o.named) or 'nothing'}")
    mixed = Counter((o.told, tuple(o.named)) for o in wrong)
    for (told, named), times in mixed.most_common(20):
        print(f"  {times} x {told} told as {', '.join(named) or 'nothing'}")
    table(outcomes, seeds)
    return 1 if any(o.missed for o in outcomes) else 0


if __name__ == "__main__":
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    sys.exit(main(seeds, set(sys.argv[2:])))
