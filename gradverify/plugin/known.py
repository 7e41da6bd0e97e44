"""Failures that pyproject.toml declares as known: which are met, and which entries cannot be."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase

from gradverify.checks.names import NAMES
from gradverify.config import Config, KnownFailure, Override
from gradverify.errors import nearest
from gradverify.outcome import Kind, Outcome, broken, outcome_of
from gradverify.result import Finding, LayerResult


@dataclass(frozen=True)
class Known:
    """What is known of one check: why its failure was expected, "" where something is wrong that
    was not; findings `beside` those that were; and what to say of an entry that did not fail."""

    reason: str = ""
    beside: tuple[Finding, ...] = ()
    unmet: str = ""


def known_of(
    config: Config, layer: str, result: LayerResult, check: str, asked: Sequence[str], today: date
) -> Known:
    """Return what the settings know of a check of a layer that was `asked` these checks."""
    outcome = outcome_of(result, check)
    entries = {k: e for k, e in enumerate(config.known_failures, 1)
               if fnmatchcase(layer, e.layer) and e.counts(today)}  # fmt: skip
    unmet = "" if broken(result) else "\n".join(_unmet(config, entries, result, check, asked))
    if outcome.kind is not Kind.FAILS:
        return Known(unmet=unmet)
    if outcome.findings:
        told = [(f, [e for e in entries.values() if e.covers(f.check, f.tensor)])
                for f in outcome.findings]  # fmt: skip
        beside = tuple(f for f, known in told if not known)
        reasons = [e.reason for e in entries.values() if any(e in known for _, known in told)]
    else:
        beside = ()
        reasons = [e.reason for e in entries.values() if _fails(e, check, outcome)]
    expected = not beside and not unmet
    return Known("; ".join(dict.fromkeys(reasons)) if expected else "", beside, unmet)


def _fails(entry: KnownFailure, check: str, outcome: Outcome) -> bool:
    """Whether a check failed as an entry says, perhaps without a finding."""
    if outcome.kind is not Kind.FAILS or entry.check not in (None, check):
        return False
    return entry.tensor is None or any(entry.covers(f.check, f.tensor) for f in outcome.findings)


def _unmet(
    config: Config,
    entries: Mapping[int, KnownFailure],
    result: LayerResult,
    check: str,
    asked: Sequence[str],
) -> Iterator[str]:
    """Yield what a check has to say of entries that nothing failed of.

    Of an entry that names no check the first one that was asked speaks, once all were.
    """
    ignored = {c.check for c in result.checks if c.ignored}
    for k, entry in entries.items():
        if entry.check is None:
            speaks = check == asked[0] and {*asked} | ignored == {*NAMES}
        else:
            speaks = check == entry.check
        of_entry = asked if entry.check is None else [check]
        if speaks and not any(_fails(entry, c, outcome_of(result, c)) for c in of_entry):
            what = f" for {entry.tensor}" if entry.tensor else ""
            yield (
                f"[XPASS(strict)] {entry.reason}\n\n{place(config, 'known_failures', k)} says that "
                f"{entry.check or 'a check'} fails{what}, and it does not: remove the entry"
            )


def place(config: Config, table: str, number: int) -> str:
    """Return how messages name an entry of the settings."""
    return f"[[tool.gradverify.{table}]] no. {number} in {config.file and config.file.name}"


def impossible(
    config: Config, layers: Collection[str], today: date, *, complete: bool
) -> Iterator[tuple[str, str]]:
    """Yield a name and a message for each entry that cannot be right.

    It has expired, or matches none of the layers, where these are a `complete` list.
    """
    tables: dict[str, Sequence[KnownFailure | Override]] = {
        "known_failures": config.known_failures, "overrides": config.overrides
    }  # fmt: skip
    for table, entries in tables.items():
        for k, entry in enumerate(entries, 1):
            where, glob = place(config, table, k), entry.layer
            wrong = ""
            if not any(fnmatchcase(layer, glob) for layer in layers):
                hint = nearest(glob, sorted(layers))
                wrong = f"{where}: layer = {glob!r} matches no layer; {hint}" if complete else ""
            elif isinstance(entry, KnownFailure) and not entry.counts(today):
                wrong = (
                    f"{where}: the failure of {glob} has been known until {entry.expires}, and "
                    f"counts as one again ({entry.reason}): fix the layer and remove the entry, or "
                    "renew it"
                )
            if wrong:
                yield f"{table}[{k}]", wrong
