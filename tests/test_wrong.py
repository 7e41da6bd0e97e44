"""Wrong layers, of many kinds over the catalogue, are failed, and the right tensor is named."""

from pathlib import Path

import pytest

from gradverify import Verdict, verify
from gradverify.loading import load

LAYERS = [
    layer for path in sorted((Path(__file__).parent / "wrong").glob("*.py")) for layer in load(path)
]
# The kind of mistake that no case of today shows; each is told in the README.
UNSEEN = {"y_of_softmax_without_the_maximum": "overflows at values that are not tried"}


def marked(layer):
    marks = ()
    if layer.name in UNSEEN:
        marks = (pytest.mark.xfail(reason=UNSEEN[layer.name], strict=True),)
    return pytest.param(layer, id=f"{layer.spec.name}-{layer.name}", marks=marks)


@pytest.mark.parametrize("layer", [marked(layer) for layer in LAYERS])
def test_a_wrong_layer_is_failed(layer):
    """d<tensor>_... has a wrong gradient of that tensor, y_... a wrong forward: it is named."""
    (result,) = verify(layer).layers
    assert result.verdict is Verdict.FAILED
    tensor = layer.name.partition("_")[0]
    named = {finding.tensor for finding in result.errors}
    assert tensor in named or tensor.removeprefix("d") in named


def test_many_kinds_are_tried():
    """The collection is no handful: a hundred layers over a dozen specs."""
    assert len(LAYERS) >= 100
    assert len({layer.spec.name for layer in LAYERS}) >= 12
