"""The project's own wrong layers: those written by hand in tests/wrong and those of table.tsv.

Each row of the table is a fault planted in the catalogue's layer of a spec: the layer, the name of
the fault and the kinds that a diagnosis may name, - where nobody could name one. Run as a script,
this chooses the faults anew, the same each time, and writes the table.
"""

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from zlib import crc32

import numpy as np

from gradverify import Constant, Layer, Spec
from gradverify.audit.faults import KINDS, fault, faults
from gradverify.audit.run import shows
from gradverify.audit.site import sites_of
from gradverify.engine import profile_of
from gradverify.ground import ground_of
from gradverify.loading import catalogue_folder, load
from gradverify.notation.tree import text

HERE = Path(__file__).parent
TABLE, WRITTEN = HERE / "table.tsv", HERE / "written.tsv"
QUICK = profile_of("quick")
# Kinds for each layer of the catalogue; with the layers written by hand that is some 800 faults.
EACH = 8
# Kinds that only some layers have: planted in each of those.
RARE = ("eps", "constant", "miscounted path", "swapped")
# What a fault comes to in one layer, and may be called there as well.
ALSO = {
    "numpy_contrastive swapped:a:b": "sign",  # db is -da
    "numpy_instance_norm miscounted path:dmu:6:W": "size",  # 0 * W/(W-1), infinite at W = 1 only
}


@dataclass(frozen=True)
class Row:
    """A wrong layer: that of the catalogue or of tests/wrong it is, and the fault planted in it."""

    layer: str
    fault: str
    told: str

    @property
    def name(self):
        return f"{self.layer} {self.fault}".strip()


@cache
def catalogue():
    """Return the layers of the catalogue by name."""
    return {x.name: x for path in sorted(catalogue_folder().glob("*.py")) for x in load(path)}


@cache
def written():
    """Return the wrong layers that are written by hand, by name."""
    folder = HERE.parent / "wrong"
    return {x.name: x for path in sorted(folder.glob("*.py")) for x in load(path)}


def planted():
    """Return the rows of the table."""
    return [Row(*line.split("\t")) for line in TABLE.read_text("utf-8").splitlines()]


def by_hand():
    """Return a row for each layer written by hand."""
    lines = WRITTEN.read_text("utf-8").splitlines()
    return [Row(name, "", told) for name, told in (line.split("\t") for line in lines)]


def layer_of(row):
    """Return the wrong layer of a row."""
    if not row.fault:
        return written()[row.layer]
    right = catalogue()[row.layer]
    return fault(right, row.fault).layer(right)


@cache
def undefined(spec):
    """Return a spec with the same declarations and no definition."""
    constants = {name: Constant(*values) for name, values in spec.constants.items()}
    where = [text(condition) for condition in spec.where]
    return Spec(spec.name, where=where, **spec.tensors, **constants)


def without_definition(layer):
    """Return the same layer of a spec without a definition."""
    return Layer(undefined(layer.spec), layer.function, name=layer.name, dtypes=layer.dtypes,
                 file=layer.file)  # fmt: skip


def chosen(right, start):
    """Return a fault of each of EACH kinds, from the one numbered `start` on, and of RARE ones, of
    those that show in a layer."""
    known = faults(right)
    places = sites_of(right.spec, ground_of(right, QUICK, 0).cases)

    def first(kind):
        mine = [f for f in known if f.kind == kind]
        mine.sort(key=lambda f: crc32(f"{right.name} {f.name}".encode()))
        return next((f for f in mine[:3] if shows(f, right, places)), None)

    common = [kind for kind in KINDS if kind not in RARE]
    kinds = [common[(start + k) % len(common)] for k in range(EACH)]
    return [row_of(right, f) for f in map(first, (*kinds, *RARE)) if f]


def row_of(right, found):
    """Return the row of a fault planted in a right layer."""
    told = (found.told or "-", ALSO.get(f"{right.name} {found.name}"))
    return Row(right.name, found.name, "|".join(filter(None, told)))


def main():
    rows, start = [], 0
    for right in catalogue().values():
        rows += chosen(right, start)
        start += EACH
        print(f"{right.name}: {len(rows)}", file=sys.stderr, flush=True)
    lines = ("\t".join((row.layer, row.fault, row.told)) + "\n" for row in rows)
    TABLE.write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    with np.errstate(all="ignore"):
        main()
