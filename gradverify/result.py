"""What a run found, as data: Status, Finding, TensorResult, ..., Coverage, LayerResult, Report."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

SCHEMA = 1
# How the reason of a check starts that the project's settings ignore.
IGNORED = "ignored: "


class Status(StrEnum):
    """The outcome of a check, or of one tensor within a check."""

    PASSED = "passed"
    FAILED = "failed"
    REDUNDANT = "redundant"  # a tensor whose gradient is derived to be zero
    NOT_APPLICABLE = "not applicable"  # the spec proves that there is nothing to ask
    VACUOUS = "vacuous"  # asked, but no case could have told right from wrong
    UNAVAILABLE = "unavailable"  # what the check needs (a definition) is not there
    SKIPPED = "skipped"  # not asked, by choice
    ERROR = "error"  # the question could not be put to its end


class Verdict(StrEnum):
    """The outcome for one layer; only *verified* is green."""

    VERIFIED = "verified"
    FAILED = "failed"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one layer, told to the person who has to act on it.

    `expected`, `got` and `allowed` are the values at `index` of `tensor` and the largest
    difference that rounding explains; they are None where a question is not about a number.
    `diagnosis` says what is wrong and `kind` in a word or two of what kind that is, `why` who set
    the allowance, `derived` the derived equation, `odd_one_out` who is wrong where the sources
    disagree.
    """

    check: str
    question: str
    message: str
    severity: str = "error"
    tensor: str | None = None
    index: tuple[int, ...] | None = None
    expected: float | None = None
    got: float | None = None
    allowed: float | None = None
    why: str | None = None
    case: str | None = None
    diagnosis: str | None = None
    derived: str | None = None
    location: str | None = None
    replay: str | None = None
    kind: str | None = None
    odd_one_out: str | None = None


@dataclass(frozen=True)
class TensorResult:
    """One tensor in one check: `worst` is the largest difference seen, in units of `allowed`.

    `why` says who set that allowance, and `powered` in how many cases a wrong tensor would have
    shown.
    """

    status: Status
    reason: str = ""
    worst: float | None = None
    allowed: float | None = None
    why: str | None = None
    powered: int = 0


@dataclass(frozen=True)
class CheckResult:
    """One check of one layer over all its cases."""

    check: str
    status: Status
    reason: str = ""
    cases: int = 0
    seconds: float = 0.0
    tensors: dict[str, TensorResult] = field(default_factory=dict)

    @property
    def ignored(self) -> bool:
        """Whether it was not asked since the project's settings say so, with the reason."""
        return self.status is Status.SKIPPED and self.reason.startswith(IGNORED)


@dataclass(frozen=True)
class Coverage:
    """What the cases of a layer were like.

    `factors` says in how many of them each value of a constant, dtype, layout, ... occurred,
    `sizes` in how many a dimension was 1, equal to another, unequal to all, prime, a power of 2 or
    large, and `missing` what did not occur, and why.
    """

    cases: int
    factors: dict[str, dict[str, int]]
    sizes: dict[str, dict[str, int]]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerResult:
    """One layer: its verdict, its checks and its findings; `source` is file:line."""

    spec: str
    layer: str
    source: str
    verdict: Verdict
    checks: tuple[CheckResult, ...] = ()
    findings: tuple[Finding, ...] = ()
    remarks: tuple[str, ...] = ()
    coverage: Coverage | None = None

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that make the layer *failed*."""
        return tuple(f for f in self.findings if f.severity == "error")


@dataclass(frozen=True)
class Report:
    """All that a run found. `problems` are inputs that could not be judged at all."""

    version: str
    profile: str
    seed: int
    layers: tuple[LayerResult, ...] = ()
    problems: tuple[str, ...] = ()
    interrupted: bool = False

    @property
    def ok(self) -> bool:
        """Whether something was judged and every layer is verified."""
        return (
            bool(self.layers)
            and not self.problems
            and not self.interrupted
            and all(layer.verdict is Verdict.VERIFIED for layer in self.layers)
        )

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of all layers, in order."""
        return tuple(f for layer in self.layers for f in layer.findings)

    def to_json(self, indent: int | None = 2) -> str:
        """Return the report as JSON text, schema 1."""
        data = {
            "schema": SCHEMA,
            "gradverify": self.version,
            "profile": self.profile,
            "seed": self.seed,
            "interrupted": self.interrupted,
            "problems": list(self.problems),
            "layers": [asdict(layer) for layer in self.layers],
        }
        return json.dumps(_finite(data), indent=indent, ensure_ascii=False)


def _finite(value: Any) -> Any:
    """Return `value` with non-finite floats as strings: JSON has no nan and no infinity."""
    if isinstance(value, float) and not (-float("inf") < value < float("inf")):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _number(value: Any) -> Any:
    return float(value) if value in ("nan", "inf", "-inf") else value


def _layers(data: list[dict[str, Any]]) -> Iterator[LayerResult]:
    for layer in data:
        checks = tuple(
            CheckResult(
                **{
                    **check,
                    "status": Status(check["status"]),
                    "tensors": {
                        name: TensorResult(
                            Status(t["status"]),
                            t["reason"],
                            _number(t["worst"]),
                            _number(t["allowed"]),
                            t.get("why"),
                            t.get("powered", 0),
                        )
                        for name, t in check["tensors"].items()
                    },
                }
            )
            for check in layer["checks"]
        )
        findings = tuple(
            Finding(
                **{
                    **f,
                    **{key: _number(f[key]) for key in ("expected", "got", "allowed")},
                    "index": None if f["index"] is None else tuple(f["index"]),
                }
            )
            for f in layer["findings"]
        )
        yield LayerResult(
            layer["spec"],
            layer["layer"],
            layer["source"],
            Verdict(layer["verdict"]),
            checks,
            findings,
            tuple(layer["remarks"]),
            _coverage(layer.get("coverage")),
        )


def _coverage(data: dict[str, Any] | None) -> Coverage | None:
    return Coverage(**{**data, "missing": tuple(data["missing"])}) if data else None


def report_from_json(text: str) -> Report:
    """Return the Report that `Report.to_json` wrote; ValueError where it is another schema."""
    data = json.loads(text)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise ValueError(f"not a gradverify report of schema {SCHEMA}")
    return Report(
        data["gradverify"],
        data["profile"],
        data["seed"],
        tuple(_layers(data["layers"])),
        tuple(data["problems"]),
        data["interrupted"],
    )
