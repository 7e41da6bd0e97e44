"""The layers of torch.nn in specs/third_party hold up; `gradverify verify` asks them everything."""

from pathlib import Path

import pytest

from gradverify import Status, Verdict, verify
from gradverify.config import Profile
from gradverify.loading import load

GALLERY = Path(__file__).parents[1] / "specs" / "third_party"
LAYERS = {x.name: x for path in sorted(GALLERY.glob("torch_*.py")) for x in load(path)}
# What costs little at few cases.
CHECKS = ("contract", "forward", "symbolic", "kinks", "buffers")
FEW = Profile(covering=8, drawn=0, sampled=3)


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_a_layer_of_torch_is_right(layer):
    """Nothing is found in it at a few cases of both precisions."""
    (result,) = verify(layer, profile=FEW, checks=CHECKS).layers
    assert not result.errors
    asked = {c.check: c.status for c in result.checks if c.check in CHECKS}
    assert asked["contract"] is asked["forward"] is Status.PASSED
    assert set(asked.values()) <= {Status.PASSED, Status.NOT_APPLICABLE, Status.VACUOUS}


@pytest.mark.parametrize("name", ["torch_embedding", "torch_batch_norm_1d_running"])
def test_a_layer_of_torch_is_verified(name):
    """Asked everything in the quick profile, it is verified without a remark but its precision."""
    (result,) = verify(LAYERS[name], profile="quick").layers
    assert result.verdict is Verdict.VERIFIED
    assert not result.findings


def test_the_gallery_has_the_layers_that_everybody_uses():
    """The layers that most networks are made of are there, each under a name of its own."""
    wanted = {"batch_norm_1d", "batch_norm_2d", "layer_norm", "group_norm", "linear", "conv2d",
              "prelu", "gelu", "multihead_attention", "lstm_cell", "embedding",
              "cross_entropy_loss"}  # fmt: skip
    assert {f"torch_{name}" for name in wanted} <= LAYERS.keys()
