"""What a report shows besides its statuses, as data: declaration, equations, curves, heat maps."""

from collections.abc import Iterable
from dataclasses import dataclass, field


def rounded(values: Iterable[float]) -> tuple[float, ...]:
    """Return numbers with as many digits as a picture needs."""
    return tuple(float(f"{float(v):.5g}") for v in values)


def _check(holds: bool, what: str) -> None:
    """Raise ValueError for data that cannot be shown, which a file may hold."""
    if not holds:
        raise ValueError(f"does not hold that it {what}")


@dataclass(frozen=True)
class DeclaredTensor:
    """One tensor as its spec declares it; `note` says what else is declared of it."""

    name: str
    role: str
    shape: str
    note: str = ""


@dataclass(frozen=True)
class Declaration:
    """What a spec declares: tensors, values of constants, and constraints on sizes."""

    tensors: tuple[DeclaredTensor, ...]
    constants: dict[str, tuple[float, ...]] = field(default_factory=dict)
    where: tuple[str, ...] = ()


@dataclass(frozen=True)
class Equations:
    """Equations under a heading, as text and as MathML (one `math` element, "" for none)."""

    title: str
    text: str
    mathml: str = ""


@dataclass(frozen=True)
class DifferenceCurve:
    """How far central differences are from the slope of a layer's forward, against their step.

    The slope is that of <cotangents, outputs> along random signs of one tensor in a case.
    `errors` belong to `steps`; `step` is the one chosen, `error` that of the extrapolation from it
    (None without a definition, where it is what the others are measured from), `allowed` what is
    allowed there and `off` how far the layer's own gradient is off.
    """

    tensor: str
    case: str
    steps: tuple[float, ...]
    errors: tuple[float, ...]
    step: float
    error: float | None
    allowed: float
    off: float

    def __post_init__(self) -> None:
        _check(len(self.steps) == len(self.errors) >= 1, "has as many errors as steps")


@dataclass(frozen=True)
class LossCurve:
    """The loss after one step of gradient descent in one tensor, against the learning rate.

    `slope` is what the gradient predicts at rate 0, minus its squared norm, and `rate` the one
    at which `descent` found the loss to fall, None where it found none.
    """

    tensor: str
    case: str
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    slope: float
    rate: float | None

    def __post_init__(self) -> None:
        _check(len(self.rates) == len(self.losses) >= 2, "has as many losses as rates, at least 2")


@dataclass(frozen=True)
class HeatMap:
    """By how much each element of a wrong gradient is off, in units of what is allowed.

    `rows` are the last axis of the tensor, whose `shape` is given; `cut` says what of a larger
    one is left out.
    """

    tensor: str
    check: str
    case: str
    shape: tuple[int, ...]
    rows: tuple[tuple[float, ...], ...]
    cut: str = ""

    def __post_init__(self) -> None:
        lengths = {len(row) for row in self.rows}
        _check(len(lengths) == 1 and 0 not in lengths, "has rows of one length")


@dataclass(frozen=True)
class Evidence:
    """What a layer is, and what was measured of it to be looked at."""

    declaration: Declaration
    equations: tuple[Equations, ...] = ()
    differences: tuple[DifferenceCurve, ...] = ()
    losses: tuple[LossCurve, ...] = ()
    heat: tuple[HeatMap, ...] = ()
    notes: tuple[str, ...] = ()
