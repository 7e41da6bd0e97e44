"""Right layers, in the usual ways of writing each, are verified.

A third of them is judged here; `python tests/sweep_right.py` judges all at many seeds.
"""

from pathlib import Path

import pytest

from gradverify import Verdict, verify
from gradverify.loading import load

ROOT = Path(__file__).parent.parent
LAYERS = [
    layer
    for path in sorted((ROOT / "tests" / "right").glob("*.py"))
    for layer in load(path)
    # Those are right at ordinary values only: they overflow where the definition does not.
    if not layer.name.startswith("naive")
]


# They stand in the order of their specs: some ways of each.
@pytest.mark.parametrize("layer", LAYERS[::3], ids=lambda layer: f"{layer.spec.name}-{layer.name}")
def test_a_right_layer_is_verified(layer):
    """Another order of operations, another convention or another memory layout is no mistake."""
    report = verify(layer, profile="quick", seed=len(layer.spec.name))
    (result,) = report.layers
    assert result.errors == ()
    # Fewer cases than the default profile: what they could not tell is vacuous, never failed.
    assert result.verdict in (Verdict.VERIFIED, Verdict.INCOMPLETE)


def test_the_four_usual_batch_norms_are_verified_at_many_seeds():
    """Step by step, closed form, folded and einsum: no seed makes a right batch norm wrong."""
    usual = ("step_by_step", "closed_form", "folded", "einsum")
    layers = [x for x in LAYERS if x.spec.name == "batch_norm" and x.name in usual]
    assert len(layers) == 4
    wrong = [
        (layer.name, seed)
        for layer in layers
        for seed in range(2)
        if not verify(layer, seed=1000 + seed).ok
    ]
    assert wrong == []
