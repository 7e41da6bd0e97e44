"""The names of all checks, in the order in which they run, and which a verdict needs."""

from gradverify.result import CheckResult, Status

NAMES = ("contract", "forward", "symbolic", "finite_difference", "exact", "forward_mode",
         "second_order", "kinks", "buffers", "descent")  # fmt: skip

# Without a definition these cannot be asked, and the verdict is "verified without a definition".
NEED_DEFINITION = ("forward", "symbolic", "kinks")

# These a layer may be written so that they cannot be asked; the verdict does without them then.
MAY_BE_UNAVAILABLE = ("exact",)

GOOD = (Status.PASSED, Status.NOT_APPLICABLE)
_UNKNOWN = (Status.UNAVAILABLE, Status.VACUOUS)


def holds_up(check: CheckResult, *, bare: bool) -> bool:
    """Whether a check keeps a layer from being verified; `bare` is one without a definition."""
    needless = (
        check.ignored
        or (bare and check.check in NEED_DEFINITION)
        or (check.check in MAY_BE_UNAVAILABLE and check.status in _UNKNOWN)
    )
    return check.status not in GOOD and not needless
