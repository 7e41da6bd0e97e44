"""What the arguments of a function are for, by their names and defaults: a first guess."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from gradverify.errors import UsageError

Role = Literal["input", "param", "buffer", "constant", "default"]

_WEIGHT = re.compile(r"(w|u|weights?|kernels?|filters?|embeddings?|table|emb)(_?\w{1,3})?", re.I)
_BIAS = re.compile(
    r"(a|alpha|b|bias(es)?|gamma|beta|scale|shift|slope|gain|g|offset)(_?\d{1,2})?", re.IGNORECASE
)
_ZEROS = re.compile(r"(b|bias(es)?|beta|shift|offset)(_?\d{1,2})?", re.IGNORECASE)
# Numbers by their name, though they have no default; others of these names may be tensors.
_NUMBERS = ("eps", "epsilon", "momentum", "axis", "stride", "padding", "pad", "dilation", "groups",
            "heads", "num_heads", "n_heads", "kernel_size", "pool_size", "train",
            "training")  # fmt: skip
_BUFFER = re.compile(r"(running|moving|ema|avg)_\w+", re.IGNORECASE)
_INTEGER = re.compile(r"\w*(ids|idx|index|indices|labels?|tokens|classes)", re.IGNORECASE)
_MASK = re.compile(r"\w*mask", re.IGNORECASE)
_ONES = re.compile(r"(gamma|scale|gain|g)(_?\d{1,2})?", re.IGNORECASE)
_SWITCHING = ("relu", "ReLU", "leaky_relu", "maximum", "minimum", "max", "amax", "min", "amin",
              "abs", "absolute", "where", "clip", "clamp", "sign", "select")  # fmt: skip
# What a number of this name usually is, tried in this order where it has no default.
USUAL: Mapping[str, tuple[Any, ...]] = {
    "eps": (1e-5,), "epsilon": (1e-5,), "momentum": (0.9,), "axis": (-1,), "stride": (1, 2),
    "padding": (0, 1), "pad": (0, 1), "dilation": (1,), "groups": (1, 2), "heads": (1, 2),
    "num_heads": (1, 2), "n_heads": (1, 2), "kernel_size": (2,), "pool_size": (2,), "size": (2,),
    "train": (True, False), "training": (True, False), "alpha": (0.1,), "slope": (0.1,),
    "p": (0.5,), "rate": (0.5,), "temperature": (0.5,), "tau": (0.5,),
}  # fmt: skip


@dataclass(frozen=True)
class Argument:
    """An argument: its role, and the values to try of a constant.

    `integer` says that it is likely one of whole numbers, `like` what a tensor looks like by its
    name: a "weight", a "bias", a "mask" or "" for nothing known; `rank` how many dimensions it has,
    where the function's code says so.
    """

    name: str
    role: Role
    values: tuple[Any, ...] = ()
    integer: bool = False
    like: str = ""
    init: str = "normal"
    rank: int | None = None


def switching(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return what a function names of that has kinks, such as relu, in its order."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    named = code.co_names if code is not None else ()
    return tuple(name for name in dict.fromkeys(named) if name in _SWITCHING)


def is_buffer(name: str) -> bool:
    """Whether a tensor is one that a layer goes on with, by its name."""
    return _BUFFER.fullmatch(name) is not None


def arguments_of(function: Callable[..., Any], skip: int = 0) -> tuple[Argument, ...]:
    """Return the arguments of a function but the first `skip`; UsageError where it has no names."""
    try:
        found = list(inspect.signature(function).parameters.values())[skip:]
    except (TypeError, ValueError):
        raise UsageError(
            "the signature cannot be read (compiled code): write a function in Python that calls "
            "it by named arguments, and name that"
        ) from None
    for each in found:
        if each.kind is each.VAR_POSITIONAL or (each.kind is each.POSITIONAL_ONLY):
            raise UsageError(
                f"the argument {each.name} cannot be given by its name, as a spec does: write a "
                "function that takes named arguments and calls this one, and name that"
            )
    named = [p for p in found if p.kind is not p.VAR_KEYWORD]
    names, ranks = {p.name for p in named}, dict(_ranks(function))
    return tuple(
        replace(_argument(p, first=k == 0, names=names), rank=ranks.get(p.name))
        for k, p in enumerate(named)
    )


def _ranks(function: Callable[..., Any]) -> Iterator[tuple[str, int]]:
    """Yield the names and ranks of arrays whose shapes the code takes apart: `N, C = x.shape`."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # compiled, or written at a prompt
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign):
            continue
        pairs = [(node.targets[0], node.value)]
        if isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs = list(zip(node.targets[0].elts, node.value.elts, strict=False))
        for sizes, shape in pairs:
            if isinstance(sizes, ast.Tuple) and isinstance(shape, ast.Attribute):
                whole = not any(isinstance(size, ast.Starred) for size in sizes.elts)
                if shape.attr == "shape" and isinstance(shape.value, ast.Name) and whole:
                    yield shape.value.id, len(sizes.elts)


def _argument(given: inspect.Parameter, *, first: bool, names: set[str]) -> Argument:
    name, default = given.name, given.default
    usual = USUAL.get(name.lower())
    if default is not given.empty and not first:
        if isinstance(default, bool | int | float):
            return Argument(name, "constant", (default,))
        return Argument(name, "default")
    if not first and (given.kind is given.KEYWORD_ONLY or name.lower() in _NUMBERS):
        return Argument(name, "constant", usual or (1, 2, 0.5))
    if first:
        return Argument(name, "input", integer=bool(_INTEGER.fullmatch(name)))
    if is_buffer(name):
        return Argument(name, "buffer", like="bias")
    if _INTEGER.fullmatch(name):
        return Argument(name, "input", integer=True)
    if _MASK.fullmatch(name):
        return Argument(name, "input", like="mask")
    if _WEIGHT.fullmatch(name):
        return Argument(name, "param", like="weight")
    if _BIAS.fullmatch(name) and not {"a", "b"} <= names:
        init = "ones" if _ONES.fullmatch(name) else "zeros" if _ZEROS.fullmatch(name) else "normal"
        return Argument(name, "param", like="bias", init=init)
    return Argument(name, "input")
