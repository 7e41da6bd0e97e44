"""Calibrates the two factors of the allowances on right layers and prints the table.

Run as `python tests/calibrate.py [SEEDS]`. For every right way of writing every layer of the
catalogue (specs/ and tests/right/) it prints the largest factor that any tensor in any case
would have needed, and at the end, for each precision and kind of values, the power that the factor
in use leaves: the smallest error, relative to the largest element of the gradient, that is caught
in 99% of the powered cases.
"""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from gradverify.cases import VALUES, cases
from gradverify.checks.finite_difference import slope
from gradverify.layer import Layer
from gradverify.loading import load
from gradverify.numerics import allowance, finite_difference
from gradverify.regular import settled
from gradverify.trial import LayerRaised, Trial, make_oracle

ROOT = Path(__file__).parent.parent
DTYPES = ("float64", "float32", "float16")


def right_layers() -> dict[str, list[Layer]]:
    """Return spec name -> all right layers of it, the catalogue's own first."""
    found: dict[str, list[Layer]] = defaultdict(list)
    for folder in (ROOT / "specs", ROOT / "tests" / "right"):
        for path in sorted(folder.glob("*.py")):
            for layer in load(path):
                found[layer.spec.name].append(layer)
    return dict(sorted(found.items()))


def judged(trial: Trial) -> bool:
    """Whether the results of a right layer can be compared in a case."""
    accepted = trial.layer.dtypes
    if accepted is not None and trial.case.dtype not in accepted:
        return False
    return trial.failure is None and not trial.kinked and not trial.overflowed


def needed(trial: Trial) -> dict[str, float]:
    """Return, per tensor, the factor that would just have been enough; vacuous ones left out."""
    reference = trial.reference
    result = {}
    for got, expected, allowed in (
        (trial.outputs, reference.outputs, reference.allowed_outputs),
        (trial.gradients, reference.gradients, reference.allowed_gradients),
    ):
        for name, value in got.items():
            if not allowed[name].vacuous and value.size:
                unit = allowed[name].value / allowance.FACTOR
                result[name] = float(np.max(np.abs(value - expected[name]))) / unit
    return result


def power(trial: Trial) -> list[float]:
    """Return, per gradient that is not vacuous, the relative error that would just be caught."""
    reference = trial.reference
    result = []
    for name, expected in reference.gradients.items():
        allowed = reference.allowed_gradients[name]
        top = float(np.max(np.abs(expected), initial=0.0))
        if not allowed.vacuous and top >= allowed.power * allowed.value:
            result.append(allowed.value / top)
    return result


def differences(trial: Trial, rng: np.random.Generator) -> list[float]:
    """Return, per gradient, the factor that the finite differences would have needed."""
    result = []
    for name, gradient in trial.gradients.items():
        direction = rng.choice([-1.0, 1.0], gradient.shape)
        try:
            found = slope(trial, name, direction)
        except LayerRaised:
            continue
        if found is None or not np.isfinite(found.allowed) or found.allowed == 0:
            continue
        unit = found.allowed / finite_difference.FACTOR
        signal = max(float(np.linalg.norm(gradient)), abs(found.value))
        if found.allowed <= finite_difference.CAP * signal:
            result.append(abs(float(np.sum(gradient * direction)) - found.value) / unit)
    return result


def main(seeds: int) -> None:
    """Print one row per layer of the catalogue, the largest of each column, and the power."""
    columns = "".join(f"{d:>9}" for d in DTYPES)
    print(f"{'spec':22} ways  cases   needed:{columns}  (where)                differences")
    totals: dict[str, float] = defaultdict(float)
    regimes: dict[tuple[str, str], list[float]] = defaultdict(list)
    for spec, layers in right_layers().items():
        top: dict[str, float] = defaultdict(float)
        where, count = "", 0
        for layer in layers:
            oracle = make_oracle(layer.spec)
            for seed in range(seeds):
                for k, drawn in enumerate(cases(layer.spec, DTYPES, 20, seed)):
                    if layer.name.startswith("naive") and not drawn.ordinary:
                        continue
                    case = settled(layer.spec, oracle, drawn)
                    trial = Trial(layer, case, oracle) if case is not None else None
                    if trial is None or not judged(trial):
                        continue
                    count += 1
                    for tensor, factor in needed(trial).items():
                        if factor > top[case.dtype]:
                            top[case.dtype] = factor
                            if case.dtype == "float64":
                                where = f"{layer.name}.{tensor}"
                    regimes[case.dtype, case.values] += power(trial)
                    if k % 5 == 0 and case.dtype == "float64":
                        rng = np.random.default_rng(case.seed)
                        top["fd"] = max(top["fd"], *differences(trial, rng), 0.0)
        columns = "".join(f"{top[d]:9.2f}" for d in DTYPES)
        print(f"{spec:22} {len(layers):4} {count:6}          {columns}  {where:28}"
              f"{top['fd']:6.2f}", flush=True)  # fmt: skip
        for key, value in top.items():
            totals[key] = max(totals[key], value)
    largest = ", ".join(f"{totals[d]:.2f} in {d}" for d in DTYPES)
    print(f"largest factor needed: {largest} (in use: {allowance.FACTOR:g}); finite differences "
          f"{totals['fd']:.2f} (in use: {finite_difference.FACTOR:g})")  # fmt: skip
    print("\nsmallest error, relative to a gradient's largest element, that is caught in 99% of "
          "cases:")  # fmt: skip
    print(f"{'values':12}" + "".join(f"{d:>10}" for d in DTYPES))
    for values in VALUES:
        shown = (regimes[d, values] for d in DTYPES)
        print(f"{values:12}" + "".join(
            f"{np.quantile(found, 0.99):10.1e}" if found else f"{'-':>10}" for found in shown
        ))  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
