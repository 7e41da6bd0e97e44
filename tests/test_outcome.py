"""What a check's result means to a verdict and to a test: the same, wherever it is asked."""

import pytest

from gradverify.outcome import Kind, outcome_of
from gradverify.result import IGNORED, CheckResult, LayerResult, Status, Verdict


@pytest.mark.parametrize(
    ("check", "status", "kind"),
    [
        ("symbolic", Status.PASSED, Kind.PASSES),
        ("kinks", Status.NOT_APPLICABLE, Kind.SKIPS),
        ("symbolic", Status.UNAVAILABLE, Kind.SKIPS),
        ("symbolic", Status.VACUOUS, Kind.FAILS),
        ("forward", Status.VACUOUS, Kind.FAILS),
        ("exact", Status.UNAVAILABLE, Kind.SKIPS),
        ("exact", Status.VACUOUS, Kind.SKIPS),
        ("exact", Status.ERROR, Kind.FAILS),
        ("finite_difference", Status.UNAVAILABLE, Kind.FAILS),
    ],
)
def test_a_test_fails_where_the_verdict_is_blocked(check, status, kind):
    """What takes nothing from a verdict, such as an exact that is vacuous, fails no test; what a
    remark says in words of the project's own changes nothing."""
    found = CheckResult(check, status, "why")
    remarks = ("override: never verified without a definition",)
    layer = LayerResult("s", "l", "f.py:1", Verdict.INCOMPLETE, (found,), (), remarks)
    assert outcome_of(layer, check).kind is kind
    assert found.blocks is (kind is Kind.FAILS)


def test_what_the_settings_ignore_blocks_nothing():
    """A check that is ignored with a reason is not needed for a verdict."""
    assert CheckResult("exact", Status.SKIPPED, "not selected").blocks
    assert not CheckResult("exact", Status.SKIPPED, f"{IGNORED}why").blocks
