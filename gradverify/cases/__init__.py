"""Concrete cases: a covering set first, Hypothesis after it; one line each, arrays from a seed."""

from gradverify.cases.arrays import Array, Arrays, draw, layout_of, with_layout
from gradverify.cases.case import (
    AT_KINKS,
    COTANGENTS,
    LAYOUTS,
    PARAMS,
    VALUES,
    Case,
    parse_case,
    smaller,
    view_of,
)
from gradverify.cases.covering import (
    LARGE,
    MAX_ELEMENTS,
    cases,
    covering_set,
    drawn_cases,
    factors_of,
    pairwise,
    size_patterns,
    solved,
)

__all__ = [
    "AT_KINKS",
    "COTANGENTS",
    "LARGE",
    "LAYOUTS",
    "MAX_ELEMENTS",
    "PARAMS",
    "VALUES",
    "Array",
    "Arrays",
    "Case",
    "cases",
    "covering_set",
    "draw",
    "drawn_cases",
    "factors_of",
    "layout_of",
    "pairwise",
    "parse_case",
    "size_patterns",
    "smaller",
    "solved",
    "view_of",
    "with_layout",
]
