"""value_and_grad: functions of a parameter vector as scipy.optimize takes them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradverify.adapter import Adapter
from gradverify.adapters.arguments import alike, arranged, name_of, signature_of
from gradverify.adapters.pair import check_names, named
from gradverify.errors import UsageError
from gradverify.layer import ConventionError
from gradverify.spec import Spec

_REMEDY = 'say what it is called there with names={"...": "..."}'


def value_and_grad(
    function: Callable[..., Any],
    gradient: Callable[..., Any] | None = None,
    *,
    flat: Sequence[str] | None = None,
    names: Mapping[str, str] | None = None,
) -> Adapter:
    """Return a layer of `function(theta, ...) -> (value, gradient)`, for a spec of one number.

    With a second function the first returns the value alone, and `gradient(theta, ...)` the
    gradient: what `scipy.optimize.minimize` takes as fun and jac. theta is one vector of the
    parameters (of the differentiable inputs where there are none) in declared order, each in C
    order, and so is the gradient. Where the function has arguments for them by their names, or
    there is only one, they are given, and their gradients returned, as they are. `flat=("w", "b")`
    says which are in theta, `flat=()` that none is. Then come the other tensors, by name or in
    declared order, and the constants by name; `names={"lam": "alpha"}` says what is called
    otherwise.
    """
    for what, each in (("function", function), ("gradient", gradient)):
        if not callable(each) and (each is not None or what == "function"):
            raise UsageError(f"value_and_grad: the {what} is {each!r}, which cannot be called")
    return _ValueAndGrad(function, gradient, None if flat is None else tuple(flat),
                         dict(names or {}))  # fmt: skip


class _ValueAndGrad(Adapter):
    def __init__(
        self,
        function: Callable[..., Any],
        gradient: Callable[..., Any] | None,
        flat: tuple[str, ...] | None,
        names: dict[str, str],
    ) -> None:
        super().__init__((function, gradient or function), name_of(function))
        self._function, self._gradient, self._flat, self._names = function, gradient, flat, names

    def __call__(
        self, spec: Spec, tensors: Mapping[str, Any], constants: Mapping[str, Any]
    ) -> tuple[Any, Callable[..., Any]]:
        check_names(spec, self._names, dict.fromkeys(self._flat or ()))
        (output, *more) = spec.outputs
        if more or spec.shapes[output]:
            raise ConventionError(
                "convention", f"{spec.name} declares ({', '.join(spec.outputs)}), and a value with "
                f'its gradient is one number: declare {output}=Output("")',
            )  # fmt: skip
        wanted = spec.params or spec.differentiable
        flat = self._in_theta(wanted)
        if not flat:
            return self._called(spec, wanted, tensors, constants)
        theta = np.concatenate([tensors[k].reshape(-1) for k in flat])
        return self._called(spec, flat, tensors, constants, theta)

    def _in_theta(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """Return the tensors that are parts of one vector, none where they are arguments."""
        if self._flat is not None:
            return self._flat
        signature = signature_of(self._function)
        own = [*signature.parameters] if signature else []
        by_name = all(alike(self._names.get(k, k), own) is not None for k in wanted)
        return () if by_name or len(wanted) == 1 else tuple(wanted)

    def _called(
        self,
        spec: Spec,
        wanted: Sequence[str],
        tensors: Mapping[str, Any],
        constants: Mapping[str, Any],
        theta: Any = None,
    ) -> tuple[Any, Callable[..., Any]]:
        """Call the function with tensors as they are, or those that are wanted in one vector."""
        told = {self._names.get(k, k): v for k, v in constants.items()}
        given = {} if theta is None else {f"the vector of ({', '.join(wanted)})": theta}
        given |= {self._names.get(k, k): v for k, v in tensors.items()
                  if theta is None or k not in wanted}  # fmt: skip

        order: list[str] = []  # of the arguments, in which gradients come too

        def asked(function: Callable[..., Any]) -> Any:
            found = arranged(function, given, told, _REMEDY)
            if theta is None:
                by_argument = {self._names.get(k, k): k for k in wanted}
                order[:] = [by_argument[name] for name in found.order if name in by_argument]
                return function(*found.args, **found.kwargs)
            before = theta.copy()
            result = function(*found.args, **found.kwargs)
            if not np.all((theta == before) | (before != before)):
                raise ConventionError(
                    "mutates", f"{name_of(function)} changed the vector of ({', '.join(wanted)}) "
                    "in place: the caller still uses it; work on a copy",
                )  # fmt: skip
            return result

        def gradients(result: Any) -> dict[str, Any]:
            if theta is None:
                return self._apart(spec, order, result)
            return _split(wanted, tensors, result)

        value = asked(self._function)
        if self._gradient is not None:
            later = self._gradient
            return value, lambda dy: _scaled(dy, gradients(asked(later)))
        if not (isinstance(value, tuple) and len(value) == 2):
            raise ConventionError(
                "convention", f"{name_of(self._function)} returned a {type(value).__name__} where "
                "(value, gradient) is expected; where the gradient is a function of its own, write "
                "value_and_grad(value, gradient)",
            )  # fmt: skip
        value, found = value
        return value, lambda dy: _scaled(dy, gradients(found))

    def _apart(self, spec: Spec, wanted: Sequence[str], result: Any) -> dict[str, Any]:
        """Return gradients that are not in one vector, by name."""
        if isinstance(result, Mapping):
            return named(spec, result, self._names)
        listed = result if isinstance(result, tuple) else (result,)
        if len(listed) != len(wanted):
            count = f"{len(listed)} {'was' if len(listed) == 1 else 'were'}"
            raise ConventionError(
                "convention",
                f"the gradients of ({', '.join(wanted)}) are expected, and {count} returned",
            )
        return dict(zip(wanted, listed, strict=True))

    def told(self, question: str, tensor: str | None) -> str:
        """Return what a missing gradient means here."""
        if question != "missing":
            return ""
        return (
            f"what is data to the function takes no gradient: declare {tensor}=Input(..., "
            "differentiable=False)"
        )


def _scaled(dy: Any, gradients: Mapping[str, Any]) -> dict[str, Any]:
    return {k: None if g is None else dy * g for k, g in gradients.items()}


def _split(wanted: Sequence[str], tensors: Mapping[str, Any], vector: Any) -> dict[str, Any]:
    """Return the parts of a vector of gradients, in the shapes of their tensors."""
    sizes = {k: tensors[k].size for k in wanted}
    total = sum(sizes.values())
    if np.shape(vector) != (total,):
        parts = " + ".join(f"{n} of {k}" for k, n in sizes.items())
        raise ConventionError(
            "shape", f"the gradient has shape {np.shape(vector)}, and the vector of "
            f"({', '.join(wanted)}) has {total} elements: {parts}",
        )  # fmt: skip
    ends = np.cumsum([0, *sizes.values()])
    return {k: vector[a:b].reshape(tensors[k].shape)
            for k, a, b in zip(wanted, ends, ends[1:], strict=False)}  # fmt: skip
