"""What a check's result means to a verdict and to a test: the same, wherever it is asked."""

import pytest

from gradverify.checks.names import holds_up
from gradverify.outcome import Kind, outcome_of
from gradverify.result import IGNORED, CheckResult, LayerResult, Status, Verdict


@pytest.mark.parametrize(
    ("check", "status", "bare", "kind"),
    [
        ("symbolic", Status.PASSED, False, Kind.PASSES),
        ("kinks", Status.NOT_APPLICABLE, False, Kind.SKIPS),
        ("symbolic", Status.UNAVAILABLE, True, Kind.SKIPS),
        ("symbolic", Status.VACUOUS, False, Kind.FAILS),
        ("exact", Status.UNAVAILABLE, False, Kind.SKIPS),
        ("exact", Status.VACUOUS, False, Kind.SKIPS),
        ("exact", Status.ERROR, False, Kind.FAILS),
        ("finite_difference", Status.UNAVAILABLE, False, Kind.FAILS),
    ],
)
def test_a_test_fails_where_the_verdict_is_held_up(check, status, bare, kind):
    """What takes nothing from a verdict, such as an exact that is vacuous, fails no test."""
    found = CheckResult(check, status, "why")
    remarks = ("without a definition",) * bare
    layer = LayerResult("s", "l", "f.py:1", Verdict.INCOMPLETE, (found,), (), remarks)
    assert outcome_of(layer, check).kind is kind
    assert holds_up(found, bare=bare) is (kind is Kind.FAILS)


def test_what_the_settings_ignore_holds_nothing_up():
    """A check that is ignored with a reason is not needed for a verdict."""
    assert holds_up(CheckResult("exact", Status.SKIPPED, "not selected"), bare=False)
    assert not holds_up(CheckResult("exact", Status.SKIPPED, f"{IGNORED}why"), bare=False)
