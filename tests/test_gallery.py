"""The gallery of other people's gradients: all of it can be listed, each package has a layer that
is verified here, and what was found wrong is still wrong. `gradverify verify specs/third_party` asks
everything of everything."""

from pathlib import Path

import pytest

from gradverify import UsageError, Verdict, catalog, verify
from gradverify.config import read_config
from gradverify.loading import load

ROOT = Path(__file__).parents[1]
GALLERY = ROOT / "specs" / "third_party"
FILES = {path.stem: path for path in sorted(GALLERY.glob("*.py"))}


def layer(file, name):
    """Return a layer of the gallery."""
    return {x.name: x for x in load(FILES[file])}[name]


@pytest.mark.parametrize("file", FILES)
def test_every_file_registers_layers_of_its_package(file):
    """A file is named after the package that it needs, and so is each of its layers."""
    names = [x.name for x in load(FILES[file])]
    package, _, _ = file.partition("_")
    assert names
    assert all(name.startswith(f"{package}_") for name in names)


VERIFIED = {
    "sklearn_linear": "sklearn_linear_logistic",
    "sklearn_losses": "sklearn_half_multinomial_loss_gradient",
    "scipy_optimize": "scipy_rosenbrock",
    "scipy_special": "scipy_kelvin_kei",
}


@pytest.mark.parametrize("file", VERIFIED)
def test_a_layer_is_verified(file):
    """One layer of a file is verified without a finding, by the quick profile."""
    (result,) = verify(layer(file, VERIFIED[file]), profile="quick").layers
    assert (result.verdict, result.findings) == (Verdict.VERIFIED, ())


FOUND = {
    # file, layer, a check that fails: tensor -> how the diagnosis begins
    ("sklearn_mlp", "sklearn_mlp_squared_outputs", "symbolic"): {
        "w1": "the path through a is K times what is derived",
        "b1": "the gradient of b1 is K times what is derived",
        "w2": "the path through z is K times what is derived",
        "b2": "the gradient of b2 is K times what is derived",
    },
    ("sklearn_embeddings", "sklearn_tsne_in_space", "symbolic"): {
        "y": "the term -1/2 of the path from w to d is 2 times what is derived",
    },
    ("sklearn_gp", "sklearn_matern_general", "finite_difference"): {"length": "unexplained"},
}  # fmt: skip


@pytest.mark.parametrize(("file", "name", "check"), FOUND)
def test_what_was_found_is_still_wrong(file, name, check):
    """What the README tells of a package is so; where a release mends it, that is to be told."""
    report = verify(layer(file, name), profile="quick", checks=[check])
    told = {f.tensor: f.diagnosis.partition(":")[0] for f in report.findings}
    assert told == FOUND[file, name, check]


def test_the_settings_know_what_was_found():
    """`gradverify verify specs/third_party` shows it as known failures, and nothing else as such."""
    known = {failure.layer for failure in read_config(ROOT, {}).known_failures}
    assert {name for name in known if name.startswith(("scipy", "sklearn"))} == {
        name for _, name, _ in FOUND
    }


def test_the_gallery_is_no_part_of_the_catalogue():
    """Its specs need packages that nobody has to have: none is found by name."""
    assert catalog("huber").tensors.keys() == {"x", "t", "loss"}
    with pytest.raises(UsageError, match="the catalogue has no spec 'nca'"):
        catalog("nca")
