"""Calibrates the two factors of the allowances on right layers and prints the table.

Run as `python tests/calibrate.py [SEEDS]`. For every right way of writing every layer of the
catalogue (specs/ and tests/right/) it prints the largest factor that any tensor in any case
would have needed, and the power that the factor in use leaves: the smallest error, relative to
the largest element of the gradient, that is caught in 99% of the powered cases.
"""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from gradverify.cases import cases
from gradverify.checks.finite_difference import slope
from gradverify.layer import Layer
from gradverify.loading import load
from gradverify.numerics import allowance, finite_difference
from gradverify.trial import LayerRaised, Trial, make_oracle, settled

ROOT = Path(__file__).parent.parent


def right_layers() -> dict[str, list[Layer]]:
    """Return spec name -> all right layers of it, the catalogue's own first."""
    found: dict[str, list[Layer]] = defaultdict(list)
    for folder in (ROOT / "specs", ROOT / "tests" / "right"):
        for path in sorted(folder.glob("*.py")):
            for layer in load(path):
                found[layer.spec.name].append(layer)
    return dict(sorted(found.items()))


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
    """Print one row per layer of the catalogue, and the largest of each column."""
    print(f"{'spec':24} ways  cases   needed: float64  (where)        float32  differences"
          "   caught in 99%: float64  float32")  # fmt: skip
    totals: dict[str, float] = defaultdict(float)
    for spec, layers in right_layers().items():
        top: dict[str, float] = defaultdict(float)
        where, count = "", 0
        caught: dict[str, list[float]] = defaultdict(list)
        for layer in layers:
            oracle = make_oracle(layer.spec)
            naive = layer.name.startswith("naive")
            for seed in range(seeds):
                for k, drawn in enumerate(cases(layer.spec, ("float64", "float32"), 20, seed)):
                    if naive and drawn.values in ("large", "huge", "offset"):
                        continue
                    case = settled(layer.spec, oracle, drawn)
                    if case is None:
                        continue
                    trial = Trial(layer, case, oracle)
                    count += 1
                    for tensor, factor in needed(trial).items():
                        if factor > top[case.dtype]:
                            top[case.dtype] = factor
                            if case.dtype == "float64":
                                where = f"{layer.name}.{tensor}"
                    caught[case.dtype] += power(trial)
                    if k % 5 == 0 and case.dtype == "float64":
                        rng = np.random.default_rng(case.seed)
                        top["fd"] = max(top["fd"], *differences(trial, rng), 0.0)
        shown = {d: np.quantile(v, 0.99) if v else float("nan") for d, v in caught.items()}
        print(f"{spec:24} {len(layers):4} {count:6}   {top['float64']:15.2f}  {where:28} "
              f"{top['float32']:7.2f}  {top['fd']:11.2f}   {shown['float64']:22.1e}  "
              f"{shown['float32']:7.1e}", flush=True)  # fmt: skip
        for key, value in top.items():
            totals[key] = max(totals[key], value)
    print(f"largest factor needed: {totals['float64']:.2f} in float64, {totals['float32']:.2f} in "
          f"float32 (in use: {allowance.FACTOR:g}); finite differences {totals['fd']:.2f} "
          f"(in use: {finite_difference.FACTOR:g})")  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
