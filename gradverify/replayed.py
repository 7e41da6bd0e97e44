"""A layer replayed on 50-digit dual numbers: its own forward and pullback, without rounding."""

import ast
import linecache
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import Any

import mpmath
import numpy as np

from gradverify.cases import Array
from gradverify.errors import innermost
from gradverify.layer import Layer, Pullback
from gradverify.numerics.allowance import unit_roundoff
from gradverify.numerics.dual import (
    DIGITS,
    Arithmetic,
    Dual,
    NotExact,
    OverBudget,
    computing,
    current,
)
from gradverify.numerics.dual_arrays import Duals, dual_array
from gradverify.numerics.dual_modules import on_duals
from gradverify.trial import Trial

# Operations on numbers in one forward or pullback, each about a microsecond.
BUDGET = 40_000
# A layer that gives other outputs on 50-digit numbers does not compute there what it does in
# float64. Its own rounding is far below this fraction of the largest, or of 1 where they cancel.
SAME = 1e-6
# A step that is small beside everything, and of which 50 digits leave enough.
NEAR = Decimal("1e-25")


class Stopped(Exception):
    """A replay came to no end; the text is the reason."""


@dataclass(frozen=True)
class Products:
    """<dy, J v> of a forward and <J^T dy, v> of its pullback for one v, and their difference.

    `terms` is the sum of the absolute values of all that both products add up.
    """

    forward: float
    backward: float
    difference: float
    terms: float


@dataclass(frozen=True)
class Replay:
    """A layer at a case in arithmetic of so many digits, with `moved` as of Arithmetic.

    All of it raises Stopped where the layer's code takes no such numbers, or too long.
    """

    trial: Trial
    digits: int = DIGITS
    moved: int | None = None

    @cached_property
    def gradients(self) -> dict[str, Array]:
        """The gradients of the layer's pullback as arrays of Decimal, those that it gives."""
        trial = self.trial
        with self._running():
            outputs, pullback = self._forward({})
            self._check_outputs(outputs)
            cotangents = [_numbers(dy) for dy in trial.wide.cotangents]
            found = trial.layer.gradients(pullback, cotangents)
            return {k: _values(found[k]) for k in trial.gradients if found.get(k) is not None}

    def of(
        self, offered: Callable[..., Mapping[str, Any]], along: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Return what `offered(tensors, cotangents, along)` gives, as arrays of Decimal."""
        trial = self.trial
        with self._running():
            cotangents = map(_numbers, trial.wide.cotangents)
            named = dict(zip(trial.spec.differentiable_outputs, cotangents, strict=True))
            directions = {k: _numbers(np.asarray(v, float)) for k, v in along.items()}
            found = offered(self._tensors({}), named, directions)
            return {k: _values(v) for k, v in found.items()}

    def along(self, directions: Mapping[str, Array]) -> tuple[Array, ...]:
        """Return the derivative of each differentiable output, in order, along float64
        directions of some tensors."""
        spec = self.trial.spec
        with self._running():
            outputs, _ = self._forward(directions)
            named = dict(zip(spec.outputs, outputs, strict=True))
            return tuple(_tangents(named[y]) for y in spec.differentiable_outputs)

    def slopes(self, directions: Mapping[str, Array]) -> tuple[float, float]:
        """Return the slopes of <dy, outputs> to both sides of the point along float64 directions:
        of the values alone, whatever derivative the code has."""
        before, middle, after = (self._loss(directions, sign) for sign in (-1, 0, 1))
        with computing(self._arithmetic):
            return float((after - middle) / NEAR), float((middle - before) / NEAR)

    def _loss(self, directions: Mapping[str, Array], sign: int) -> Decimal:
        spec, wide = self.trial.spec, self.trial.wide.tensors
        with self._running():
            steps = {k: _numbers(wide[k], v, sign * NEAR) for k, v in directions.items()}
            outputs, _ = self.trial.layer.forward(self._tensors({}) | steps, self.trial.constants)
            named = dict(zip(spec.outputs, outputs, strict=True))
            found = [_values(named[y]) for y in spec.differentiable_outputs]
            pairs = zip(self.trial.wide.cotangents, found, strict=True)
            return sum((dy * y for dys, ys in pairs for dy, y in _zipped(dys, ys)), Decimal(0))

    def products(self, directions: Mapping[str, Array]) -> Products:
        """Return both products along directions of tensors that have a gradient."""
        gradients = self.gradients
        tangents = self.along(directions)
        pairs = [*zip(self.trial.wide.cotangents, tangents, strict=True)]
        with computing(self._arithmetic):
            forward = [dy * t for dys, ts in pairs for dy, t in _zipped(dys, ts)]
            backward = [v * g for k in directions for v, g in _zipped(directions[k], gradients[k])]
            zero = Decimal(0)
            total, other = sum(forward, zero), sum(backward, zero)
            terms = sum((abs(term) for term in forward + backward), zero)
            return Products(float(total), float(other), float(other - total), float(terms))

    @property
    def _arithmetic(self) -> Arithmetic:
        return Arithmetic(self.digits, self.moved, BUDGET, unit_roundoff(self.trial.case.dtype))

    @cached_property
    def _spaces(self) -> list[dict[str, Any]]:
        return _namespaces(self.trial.layer)

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Run the layer's code on dual numbers; whatever it raises is why they do not suit it."""
        try:
            # The layer's own results, if no one has asked for them yet, are those of its own NumPy.
            _ = self.trial.outputs, self.trial.gradients
            with on_duals(self._arithmetic, self._spaces), np.errstate(all="ignore"):
                yield
        except Stopped:
            raise
        except OverBudget:
            raise Stopped(f"it takes more than {BUDGET} operations on 50-digit numbers") from None
        except (Exception, SystemExit) as error:
            raise Stopped(_reason(error, self.trial.layer)) from error

    def _forward(self, directions: Mapping[str, Array]) -> tuple[tuple[Any, ...], Pullback]:
        return self.trial.layer.forward(self._tensors(directions), self.trial.constants)

    def _tensors(self, directions: Mapping[str, Array]) -> dict[str, Array]:
        trial, arithmetic = self.trial, current()
        assert arithmetic is not None
        arithmetic.spend(sum(a.size for a in trial.wide.tensors.values()))
        return {
            k: _numbers(a, directions.get(k)) if a.dtype.kind == "f" else a.copy()
            for k, a in trial.wide.tensors.items()
        }

    def _check_outputs(self, outputs: tuple[Any, ...]) -> None:
        for (name, expected), y in zip(self.trial.outputs.items(), outputs, strict=True):
            got = _values(y).astype(float)
            near = SAME * (1 + np.max(np.abs(expected), initial=0.0))
            if got.shape != expected.shape or not np.all(np.abs(got - expected) <= near):
                raise Stopped(f"the forward gives another {name} on 50-digit numbers")


@dataclass(frozen=True)
class Unavailable:
    """Why a layer could not be replayed."""

    reason: str


def replay(trial: Trial) -> dict[str, Array] | Unavailable:
    """Return the gradients of the layer's own pullback to 50 digits, as arrays of mpmath numbers.

    What differs from them in the layer's own gradients is rounding, and nothing else. Only those
    that the layer gives in their declared shape are there.
    """
    if trial.failure is not None:
        return Unavailable(trial.failure.message)
    mp = mpmath.mp.clone()
    mp.dps = DIGITS
    try:
        found = Replay(trial).gradients
    except Stopped as stopped:
        return Unavailable(str(stopped))
    # mpmath knows an infinity only by its short name.
    convert = np.frompyfunc(lambda value: mp.mpf(str(value).replace("Infinity", "inf")), 1, 1)
    return {k: np.asarray(convert(g), object) for k, g in found.items()}


def _namespaces(layer: Layer) -> list[dict[str, Any]]:
    """Return the globals of a layer's code, and of the files beside it that it uses."""
    folders = _folders(layer)
    found: list[dict[str, Any]] = []
    todo = list(layer.namespaces)
    while todo:
        space = todo.pop()
        if any(space is other for other in found):
            continue
        found.append(space)
        for value in list(space.values()):
            name = value.__name__ if isinstance(value, ModuleType) else (
                getattr(value, "__module__", None)
            )  # fmt: skip
            module = sys.modules.get(name) if isinstance(name, str) else None
            file = getattr(module, "__file__", None)
            if file and any(_written_beside(Path(file).resolve(), f) for f in folders):
                todo.append(vars(module))
    return found


def _written_beside(file: Path, folder: Path) -> bool:
    """Whether a file is of the project in a folder: what is installed there, as in a virtual
    environment, is not, and neither is what computes here."""
    if not file.is_relative_to(folder) or file.is_relative_to(Path(__file__).resolve().parent):
        return False
    return not {"site-packages", "dist-packages"} & {*file.relative_to(folder).parts}


def _folders(layer: Layer) -> set[Path]:
    """Return where a layer is registered and written, of a package of the user's the whole."""
    files = [layer.file, *(space.get("__file__") for space in layer.namespaces)]
    found = set()
    for path in (Path(file).resolve().parent for file in files if file):
        package = list(takewhile(_is_package, (path, *path.parents)))
        found.add(package[-1] if package and "site-packages" not in path.parts else path)
    return found


def _is_package(folder: Path) -> bool:
    return (folder / "__init__.py").is_file()


def _reason(error: BaseException, layer: Layer) -> str:
    """Return what in the user's code takes no dual numbers, and where that stands."""
    own = innermost(error, layer.files.__contains__)
    told, place = str(error) if isinstance(error, NotExact) else layer.name, ""
    if own is not None:
        told = told if isinstance(error, NotExact) and told != "float" else _operation(own)
        place = f" at {Path(own.filename).name}:{own.lineno}"
    if isinstance(error, NotExact):
        return f"{told}{place} takes no 50-digit numbers"
    return f"{told}{place} raised {type(error).__name__} on 50-digit numbers: {error}"


def _operation(frame: traceback.FrameSummary) -> str:
    """Return the function that a line of code was calling, or else the whole operation."""
    line = linecache.getline(frame.filename, frame.lineno or 0)
    code = line[frame.colno : frame.end_colno] if frame.end_lineno == frame.lineno else line.strip()
    try:
        tree = ast.parse(code, mode="eval").body
    except SyntaxError:
        return code
    return ast.unparse(tree.func) if isinstance(tree, ast.Call) else code


def _zipped(floats: Array, numbers: Array) -> list[tuple[Decimal, Decimal]]:
    return [(Decimal(float(a)), b) for a, b in zip(floats.flat, numbers.flat, strict=True)]


def _numbers(values: Array, direction: Array | None = None, step: Decimal | None = None) -> Duals:
    """Return float64 values as dual numbers that are exactly these, none of them a constant; a
    direction is their derivative or, with a step, where they are moved."""
    made = np.empty(values.shape, object)
    slopes = [None] * values.size if direction is None else map(Decimal, direction.flat)
    for index, value, slope in zip(np.ndindex(values.shape), values.flat, slopes, strict=True):
        exact = Decimal(float(value))
        made[index] = Dual(exact, slope) if step is None or slope is None else (
            Dual(exact + step * slope, None)
        )  # fmt: skip
    return made.view(Duals)


def _values(result: Any) -> Array:
    numbers = dual_array(result).view(np.ndarray)
    return np.asarray(np.frompyfunc(lambda number: number.v, 1, 1)(numbers), object)


def _tangents(result: Any) -> Array:
    numbers = dual_array(result).view(np.ndarray)
    return np.asarray(np.frompyfunc(lambda number: number.t or Decimal(0), 1, 1)(numbers), object)
