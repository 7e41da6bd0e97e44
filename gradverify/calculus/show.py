"""A derivation as equations to read: in unicode, in LaTeX, or as NumPy code to paste."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fractions import Fraction
from itertools import zip_longest

import sympy
from sympy import Expr as Scalar

from gradverify.calculus.code import LARGEST_DENOMINATOR
from gradverify.calculus.compile import Oracle
from gradverify.calculus.derive import Derivation, Step
from gradverify.calculus.time import ordered_index
from gradverify.errors import UsageError
from gradverify.notation.dims import affine, negative, plus, same, tidy, times
from gradverify.notation.schedule import Block
from gradverify.notation.statements import Loops, Statement
from gradverify.notation.tree import (
    ONE,
    ZERO,
    Call,
    Expr,
    Name,
    Number,
    Read,
    Reduce,
    free_names,
    rebuild,
    text,
    walk,
)

STYLES = ("unicode", "latex", "numpy")
