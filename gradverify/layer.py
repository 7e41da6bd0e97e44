"""One implementation of a spec, and how it is called: the pullback convention."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from gradverify.adapter import Adapter, Derivative, Flaw
from gradverify.declare import DTYPES, checked_dtypes
from gradverify.errors import UsageError
from gradverify.spec import REGISTERED, Registration, Spec

Pullback = Callable[..., Any]


class ConventionError(Exception):
    """A layer did not return what the pullback convention asks for; `question` names the part."""

    def __init__(self, question: str, message: str) -> None:
        super().__init__(message)
        self.question = question


@dataclass(frozen=True, init=False)
class Layer:
    """A function that implements a spec.

    The function takes the tensors and constants by name and returns (outputs, pullback):
    outputs is one array, or a tuple in declared order; pullback takes one cotangent per output
    that is not a buffer's next value, and returns the gradients as a dict by name, or as a tuple
    in declared order. What is written otherwise comes in an Adapter. `dtypes` are those it accepts;
    None means whatever it accepts when tried. `jvp` and `double_vjp` are its forward mode and its
    double backward, None where it offers none: functions that take and return what those of
    `gradverify.oracle` do.
    """

    spec: Spec
    function: Callable[..., Any]
    name: str
    dtypes: tuple[str, ...] | None
    file: str
    jvp: Derivative | None
    double_vjp: Derivative | None

    def __init__(
        self,
        spec: Spec,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        dtypes: Sequence[str] | None = None,
        file: str | None = None,
        jvp: Derivative | None = None,
        double_vjp: Derivative | None = None,
    ) -> None:
        if not isinstance(spec, Spec):
            raise UsageError(f"Layer({spec!r}, ...): the first argument is a Spec")
        if not callable(function):
            raise UsageError(f"Layer({spec.name!r}, {function!r}): a layer is a callable")
        label = name or getattr(function, "__name__", type(function).__name__)
        own = file or str(inspect.getsourcefile(_code(function)) or "")
        for key, value in {
            "spec": spec, "function": function, "name": label,
            "dtypes": checked_dtypes(dtypes), "file": own,
            "jvp": jvp or _offered(spec, function, "jvp"),
            "double_vjp": double_vjp or _offered(spec, function, "double_vjp"),
        }.items():  # fmt: skip
            object.__setattr__(self, key, value)

    @property
    def location(self) -> str:
        """Where the layer's code stands, as file:line."""
        return _line(_code(self.function)) or self.file

    def backward_location(self, pullback: Pullback) -> str:
        """Where the code of its backward stands, as file:line; `pullback` is what it returned."""
        adapter = _adapter(self.function)
        return _line(_code(adapter.written[-1] if adapter else pullback)) or self.location

    def derivative_location(self, offered: Derivative) -> str:
        """Where the code of its jvp or double_vjp stands, as file:line."""
        return _line(_code(offered)) or self.location

    @property
    def widest(self) -> str:
        """The most precise dtype that the layer accepts."""
        return next(d for d in DTYPES if self.dtypes is None or d in self.dtypes)

    @property
    def namespaces(self) -> tuple[dict[str, Any], ...]:
        """The globals of the layer's code, of each module that it is written in."""
        found = (getattr(_code(f), "__globals__", {}) for f in self._written)
        return tuple({id(space): space for space in found}.values())

    @property
    def files(self) -> frozenset[str]:
        """The files that the layer is written in."""
        codes = (getattr(_code(f), "__code__", None) for f in self._written)
        return frozenset(code.co_filename for code in codes if code)

    @property
    def _written(self) -> tuple[Callable[..., Any], ...]:
        adapter = _adapter(self.function)
        return adapter.written if adapter else (self.function,)

    def renew(self) -> None:
        """Forget what earlier calls left, where an adapter keeps objects of the layer."""
        if (adapter := _adapter(self.function)) is not None:
            adapter.renew()

    @property
    def keeps_objects(self) -> bool:
        """Whether an adapter keeps objects of the layer, so that to renew it makes a difference."""
        adapter = _adapter(self.function)
        return adapter is not None and type(adapter).renew is not Adapter.renew

    def flaws(
        self,
        tensors: Mapping[str, Any],
        constants: Mapping[str, Any],
        cotangents: Sequence[Any],
    ) -> tuple[Flaw, ...]:
        """Return what is wrong with a layer in the convention that it is written in."""
        adapter = _adapter(self.function)
        if adapter is None:
            return ()
        return tuple(adapter.flaws(self.spec, tensors, constants, cotangents))

    def told(self, question: str, tensor: str | None) -> str:
        """Return what a finding of `contract` means in the words of the layer's convention, "" for
        nothing to add."""
        adapter = _adapter(self.function)
        return "" if adapter is None else adapter.told(question, tensor)

    def forward(
        self, tensors: Mapping[str, Any], constants: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], Pullback]:
        """Call the layer and return (outputs as a tuple, pullback).

        Raises ConventionError where it returns something else, and whatever the layer raises.
        """
        if isinstance(self.function, Adapter):
            result = self.function(self.spec, tensors, constants)
        else:
            result = self.function(**tensors, **constants)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise ConventionError(
                "convention",
                f"the layer returned {_kind(result)} where (output, pullback) is expected",
            )
        outputs, pullback = result
        if not callable(pullback):
            raise ConventionError(
                "convention",
                f"the layer's second result is {_kind(pullback)}, not a pullback that can be "
                "called with the cotangent of its output",
            )
        wanted = self.spec.outputs
        if len(wanted) == 1 and not isinstance(outputs, tuple):
            outputs = (outputs,)
        if not isinstance(outputs, tuple) or len(outputs) != len(wanted):
            raise ConventionError(
                "convention",
                f"the layer returned {_kind(outputs)} as outputs where "
                f"({', '.join(wanted)}) are declared",
            )
        return outputs, pullback

    def gradients(self, pullback: Pullback, cotangents: Sequence[Any]) -> dict[str, Any]:
        """Call a pullback and return the gradients by name, None and undeclared ones left in.

        Raises ConventionError where it returns neither a dict nor a tuple of the right length.
        """
        return self._gradients("the pullback", pullback(*cotangents))

    def _gradients(self, who: str, result: Any) -> dict[str, Any]:
        # A tensor that needs no gradient may be left out of a tuple or be None in it.
        names = self.spec.differentiable, self.spec.given
        return _by_name(who, "gradients", result, *names)

    def tangents(
        self, tensors: Mapping[str, Any], along: Mapping[str, Any], constants: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Call the forward mode of a layer that offers one; return the tangents of its outputs by
        name, undeclared ones left in.

        Raises ConventionError as `gradients` does, where one output needs no tuple.
        """
        assert self.jvp is not None
        names = self.spec.differentiable_outputs
        return _by_name("the jvp", "tangents", self.jvp(tensors, along, constants), names)

    def second_order(
        self,
        tensors: Mapping[str, Any],
        cotangents: Mapping[str, Any],
        seeds: Mapping[str, Any],
        constants: Mapping[str, Any],
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Call the double backward of a layer that offers one; return the gradients of the tensors
        and, by output, those of the cotangents, undeclared ones left in.

        Raises ConventionError where it returns no pair of such as `gradients` takes.
        """
        assert self.double_vjp is not None
        result, who = self.double_vjp(tensors, cotangents, seeds, constants), "the double backward"
        if not (isinstance(result, tuple) and len(result) == 2):
            raise ConventionError(
                "convention",
                f"{who} returned {_kind(result)} where (gradients of the tensors, gradients of "
                "the cotangents) is expected",
            )
        of_cotangents = _by_name(who, "gradients of the cotangents", result[1],
                                 self.spec.differentiable_outputs)  # fmt: skip
        return self._gradients(who, result[0]), of_cotangents


def from_registration(entry: Registration) -> Layer:
    """Return the layer that `spec.register` kept."""
    return Layer(
        entry.spec, entry.function, name=entry.name, dtypes=entry.dtypes, file=entry.file,
        jvp=entry.jvp, double_vjp=entry.double_vjp,
    )  # fmt: skip


def registered(function: Callable[..., Any]) -> Layer:
    """Return the layer that a function is registered as; UsageError where it is not."""
    for entry in REGISTERED.values():
        if entry.function is function:
            return from_registration(entry)
    if isinstance(function, Spec):
        raise UsageError(
            f"{function!r} is a spec, and what is judged are layers: give a function that is "
            "registered with the spec, or Layer(spec, function)"
        )
    raise UsageError(
        f"{getattr(function, '__name__', function)!r} is registered with no spec: write "
        "@spec.register above it, or pass Layer(spec, function)"
    )


def _offered(spec: Spec, function: Callable[..., Any], name: str) -> Derivative | None:
    if not isinstance(function, Adapter) or (offered := getattr(function, name)) is None:
        return None
    bound = partial(offered, spec)
    bound.__wrapped__ = function.written[-1]  # type: ignore[attr-defined] # whose line is told
    return bound


def _adapter(function: Any) -> Adapter | None:
    """Return the adapter that a function is, or that it is wrapped around."""
    while function is not None and not isinstance(function, Adapter):
        function = getattr(function, "__wrapped__", None)
    return function


def _line(written: Any) -> str | None:
    code = getattr(written, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else None


def _code(function: Callable[..., Any]) -> Any:
    """Return what holds the code of a function, a wrapped one or an object with __call__."""
    function = inspect.unwrap(function)
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    if inspect.isfunction(function) or inspect.ismethod(function):
        return function
    return type(function).__call__ if callable(function) else function


def _by_name(who: str, what: str, result: Any, *names: tuple[str, ...]) -> dict[str, Any]:
    """Return what a function returned by name: a dict, a tuple in one of these orders or, for one
    name, the value alone."""
    if isinstance(result, Mapping):
        return dict(result)
    if not isinstance(result, tuple | list) and len(names[0]) == 1:
        result = (result,)
    if isinstance(result, tuple | list):
        for order in names:
            if len(result) == len(order):
                return dict(zip(order, result, strict=True))
    raise ConventionError(
        "convention",
        f"{who} returned {_kind(result)} where a dict of the {what} of "
        f"{', '.join(names[0])} (or a tuple in this order) is expected",
    )


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
