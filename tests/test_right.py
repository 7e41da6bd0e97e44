"""Right layers, in the usual ways of writing each, are verified.

A fifth of them is judged here; `python tests/sweep_right.py` judges all at many seeds.
"""

from pathlib import Path

import pytest

from gradverify import Layer, Status, Verdict, verify
from gradverify.cases import parse_case
from gradverify.checks import CHECKS
from gradverify.loading import load
from gradverify.trial import Trial, make_oracle

RIGHT = Path(__file__).parent / "right"
LAYERS = [
    layer
    for path in sorted(RIGHT.glob("*.py"))
    for layer in load(path)
    # Those are right at ordinary values only: they overflow where the definition does not.
    if not layer.name.startswith("naive")
]


# They stand in the order of their specs: some ways of each.
@pytest.mark.parametrize("layer", LAYERS[::5], ids=lambda layer: f"{layer.spec.name}-{layer.name}")
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


@pytest.mark.parametrize(
    ("spec", "name", "check", "line"),
    [
        # Running sums that are subtracted lose digits, whatever the values.
        ("embedding", "differences_of_running_sums", "symbolic",
         "N=66 V=3 D=2 dtype=float64 layout=broadcast values=ordinary cotangent=signed "
         "seed=2831681385"),
        # 1 - s is 0 in 50 digits, where s is saturated.
        ("squeeze_excite", "recomputed_with_tanh", "exact",
         "N=1 C=3 H=1 W=1 R=19 dtype=float64 layout=C values=negative params=equal "
         "cotangent=signed seed=3553598660"),
        # On a kink beside ordinary values a step in float16 overflows.
        ("residual_block", "object_with_chain", "kinks",
         "N=1 D=2 H=1 norm_eps=1e-05 dtype=float16 layout=C values=ordinary cotangent=signed "
         "seed=3549136632"),
        # What is beyond delta is subtracted from what is far larger.
        ("huber", "huber_nearest_point", "symbolic",
         "N=3 C=3 delta=0.3 dtype=float64 layout=readonly values=huge cotangent=signed "
         "seed=3884535365"),
    ],
    ids=lambda value: value if " " not in value else "",
)  # fmt: skip
def test_what_was_failed_once_is_not(spec, name, check, line):
    """Rare cases in which a right layer was accused, kept as they were found."""
    (layer,) = (x for x in load(RIGHT / f"{spec}.py") if x.name == name)
    layer = Layer(layer.spec, layer.function, dtypes=[parse_case(line, layer.spec).dtype])
    trial = Trial(layer, parse_case(line, layer.spec), make_oracle(layer.spec))
    seen = list(CHECKS[check].observe(trial))
    assert seen
    assert not [s for s in seen if s.outcome is Status.FAILED and s.severity == "error"]
