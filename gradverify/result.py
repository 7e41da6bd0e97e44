"""What a run found, as data: Status, Finding, TensorResult, ..., Coverage, LayerResult, Report."""

import json
import re
from dataclasses import dataclass, field
from enum import StrEnum

from gradverify.evidence import Evidence
from gradverify.plain import from_plain, to_plain

SCHEMA = 1
# How the reason of a check starts that the project's settings ignore, and of what a layer need not
# offer and does not.
IGNORED, NOT_OFFERED = "ignored: ", "the layer offers no "
# Without a definition these cannot be asked, and the verdict is "verified without a definition".
NEED_DEFINITION = ("forward", "symbolic", "kinks")
# These a layer may be written so that they cannot be asked; the verdict does without them then.
MAY_BE_UNAVAILABLE = ("exact",)


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


GOOD = (Status.PASSED, Status.NOT_APPLICABLE)


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
    disagree, and `follows` names the tensor of whose fault it is only a consequence.
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
    follows: str | None = None


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
    def offered(self) -> bool:
        """Whether the layer has what the check is about, where it need not."""
        absent = self.status is Status.NOT_APPLICABLE and self.reason.startswith(NOT_OFFERED)
        return not absent

    @property
    def ignored(self) -> bool:
        """Whether it was not asked since the project's settings say so, with the reason."""
        return self.status is Status.SKIPPED and self.reason.startswith(IGNORED)

    @property
    def undefined(self) -> bool:
        """Whether it was not asked since the spec has no definition."""
        return self.status is Status.UNAVAILABLE and self.check in NEED_DEFINITION

    @property
    def blocks(self) -> bool:
        """Whether it keeps a layer from being verified."""
        unknown = self.status in (Status.UNAVAILABLE, Status.VACUOUS)
        needless = unknown and self.check in MAY_BE_UNAVAILABLE
        return self.status not in GOOD and not (self.ignored or self.undefined or needless)


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
    """One layer: its verdict, its checks and its findings; `source` is file:line.

    `evidence` is there where a view was asked for that shows it; `known` says why and until when
    the layer may fail, where the settings know that of all that is wrong; such findings are of the
    severity *known*.
    """

    spec: str
    layer: str
    source: str
    verdict: Verdict
    checks: tuple[CheckResult, ...] = ()
    findings: tuple[Finding, ...] = ()
    remarks: tuple[str, ...] = ()
    coverage: Coverage | None = None
    evidence: Evidence | None = None
    known: str = ""

    @property
    def passes(self) -> bool:
        """Whether the layer is verified, or fails only as known."""
        return self.verdict is Verdict.VERIFIED or bool(self.known)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that make the layer *failed*."""
        return tuple(f for f in self.findings if f.severity == "error")


@dataclass(frozen=True)
class Report:
    """All that a run found. `problems` are inputs that could not be judged at all.

    `environment` says when and with what it ran, which makes no two reports differ, and `folder`
    where: the paths of findings are shown relative to it; `root` is the folder of the whole
    project, as a repository has it. `notes` say what was chosen to be judged and why.
    """

    version: str
    profile: str
    seed: int
    layers: tuple[LayerResult, ...] = ()
    problems: tuple[str, ...] = ()
    interrupted: bool = False
    environment: dict[str, str] = field(default_factory=dict, compare=False)
    folder: str = ""
    root: str = ""
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether something was judged and every layer is verified, or fails as known."""
        return (
            bool(self.layers)
            and not self.problems
            and not self.interrupted
            and all(layer.passes for layer in self.layers)
        )

    @property
    def idle(self) -> bool:
        """Whether nothing had to be judged, for a reason that the notes tell."""
        return bool(self.notes) and not (self.layers or self.problems or self.interrupted)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of all layers, in order."""
        return tuple(f for layer in self.layers for f in layer.findings)

    def to_json(self, indent: int | None = 2) -> str:
        """Return the report as JSON text, schema 1."""
        data = to_plain(self)
        layers, version = data.pop("layers"), data.pop("version")
        data = {"schema": SCHEMA, "gradverify": version, **data, "layers": layers}
        written = json.dumps(data, indent=indent, ensure_ascii=False)
        # Numbers in a row stand in a row, not one below the other.
        return re.sub(r'\[\n\s+([^][{}"]+?)\s+\]', lambda m: f"[{' '.join(m[1].split())}]", written)


def report_from_json(text: str) -> Report:
    """Return the Report that `Report.to_json` wrote.

    ValueError says in one line why it cannot: cut short, no report, of a newer version, or what
    is wrong in it, and where.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        whole = "it is empty" if not text.strip() else f"it is no JSON, or cut short: {error}"
        raise ValueError(whole) from None
    except RecursionError:
        raise ValueError("it is no report: it is nested too deeply") from None
    schema = data.get("schema") if isinstance(data, dict) else None
    if type(schema) is not int or "layers" not in data:
        raise ValueError(f"it is not a gradverify report of schema {SCHEMA}")
    if schema != SCHEMA:
        by = f"gradverify {data.get('gradverify', 'of another version')}"
        remedy = "update gradverify" if schema > SCHEMA else "verify again"
        raise ValueError(
            f"it is of schema {schema}, written by {by}, where {SCHEMA} is read: {remedy}"
        )
    return from_plain(Report, {**data, "version": data.get("gradverify")})
