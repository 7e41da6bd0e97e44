"""Concrete cases: a covering set first, Hypothesis after it; one line each, arrays from a seed."""

from gradverify.cases.arrays import Array, Arrays, draw, draw_tangents, layout_of, with_layout
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
    cases,
    covering_set,
    drawn_cases,
    factors_of,
    pairwise,
    size_patterns,
    solved,
)
from gradverify.cases.large import MAX_ELEMENTS, give_back, is_large, least_elements
from gradverify.cases.tables import signs

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
    "draw_tangents",
    "drawn_cases",
    "factors_of",
    "give_back",
    "is_large",
    "layout_of",
    "least_elements",
    "pairwise",
    "parse_case",
    "signs",
    "size_patterns",
    "smaller",
    "solved",
    "view_of",
    "with_layout",
]
