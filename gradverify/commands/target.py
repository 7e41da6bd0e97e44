"""The spec that `derive` and `prove` are asked for."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gradverify.config import read_config
from gradverify.errors import UsageError, nearest
from gradverify.survey import files_under

if TYPE_CHECKING:
    from gradverify.spec import Spec


def add_target(made: argparse.ArgumentParser) -> None:
    """Add the argument that names it."""
    made.add_argument("target", metavar="LAYER_OR_SPEC",
                      help="a name of the catalogue, path.py or path.py::name")  # fmt: skip


def specs_of(target: str) -> list["Spec"]:
    """Return the specs that a target names; UsageError where there are none."""
    from gradverify.layer import from_registration
    from gradverify.loading import catalog, loaded
    from gradverify.spec import REGISTERED, Spec

    path, _, name = target.partition("::")
    if not name and not path.endswith(".py") and not os.path.exists(path):
        return [catalog(path)]
    if os.path.isdir(path):
        raise UsageError(f"{path} is a folder: name a file in it, or {path}/FILE.py::NAME")
    (file,) = files_under([path], read_config(Path.cwd()))
    real = str(Path(file).resolve())
    found = [x for x in vars(loaded(Path(file))).values() if isinstance(x, Spec)]
    # Specs that are parts of others stand in files of their own.
    own = [x for x in found if x.location.rpartition(":")[0] == real]
    named = {x.name: x for x in own or found}
    layers = {key: from_registration(e).spec for (where, key), e in REGISTERED.items()
              if where == real}  # fmt: skip
    if name:
        known = layers | named
        if name not in known:
            raise UsageError(f"{path} has no spec or layer {name!r}; {nearest(name, known)}")
        return [known[name]]
    if not named:
        raise UsageError(f"{path} declares no spec")
    return list(named.values())
