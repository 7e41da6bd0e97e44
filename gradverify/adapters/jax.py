"""JAX's functions, `custom_vjp` and `custom_jvp` as layers, with jit and without."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from gradverify.adapter import Adapter, NotOffered
from gradverify.adapters.framework import framework
from gradverify.adapters.named import call, checked_tree, globals_called, outputs, place
from gradverify.layer import ConventionError
from gradverify.spec import Spec

Arrays = Mapping[str, Any]

CHOICE = (
    "the function needs the value of an array while JAX traces it: write jnp.where, lax.cond or "
    "lax.fori_loop where data decide; or have it judged as it runs without jit, "
    "jax_function(f, jit=False)"
)
# What to do about the errors of tracing, by their names in jax.errors.
REMEDIES = {
    "TracerArrayConversionError": "NumPy is called on an array that JAX traces: use jax.numpy",
    "UnexpectedTracerError": "an array of one call is used in another: what fwd keeps for bwd "
                             "belongs among the residuals that it returns, not in a global or an "
                             "attribute",
    "TracerBoolConversionError": CHOICE,
    "TracerIntegerConversionError": CHOICE,
    "NonConcreteBooleanIndexError": CHOICE,
    "ConcretizationTypeError": CHOICE,
}  # fmt: skip

# What JAX compiles takes two megabytes, and it keeps it: after so many shapes, of whatever layers,
# it is told to let go of it.
MOST_SHAPES = 100
_MET: set[Any] = set()


def jax_function(
    f: Callable[..., Any], *, tree: Mapping[str, Any] | None = None, jit: bool = True
) -> Adapter:
    """Return a function of JAX arrays as a layer: its pullback is that of `jax.vjp`.

    `f` takes the tensors and constants of the spec by name and returns one array, or a tuple in
    declared order; constants are static. It may be a `jax.custom_vjp`, a `jax.custom_jvp`, jitted,
    or call such. `tree={"params": {"dense": {"w": "w", "b": "b"}}}` says which tensors an argument
    is made of. The layer is compiled by `jax.jit`, once for each shape; with `jit=False` every
    operation runs alone, as without it. Float64 is tried with `jax_enable_x64` switched on for the
    call, other dtypes as the project has it.

    Raises UsageError where JAX is not installed.
    """
    return _JaxFunction(framework("jax", "jax", "jax_function"), f,
                        checked_tree(tree, "jax_function"), jit)  # fmt: skip


class _Functions(NamedTuple):
    """What is called for a spec at given constants; `free` are the tensors that take a gradient."""

    forward: Callable[..., Any]  # (free, fixed) -> (all outputs, pull)
    back: Callable[..., Any]  # (pull, cotangents) -> gradients
    jvp: Callable[..., Any]  # (free, fixed, tangents) -> tangents of the outputs
    double: Callable[..., Any]  # (free, fixed, cotangents, seeds) -> gradients of both
    plain: Callable[..., Any]  # (free, fixed) -> outputs and gradients, never compiled


class _JaxFunction(Adapter):
    def __init__(self, jax: Any, f: Callable[..., Any], tree: Mapping[str, Any], jit: bool) -> None:
        custom = _custom(jax, f)
        super().__init__(_written(jax, f, custom), getattr(f, "__name__", type(f).__name__))
        self._jax, self._f, self._tree, self._jit = jax, f, tree, jit
        self._made: dict[Any, _Functions] = {}
        self._pure: set[_Functions] = set()
        # A custom_vjp has a rule for reverse mode alone.
        self.jvp = None if isinstance(custom, jax.custom_vjp) else self._jvp
        self.double_vjp = self._double_vjp

    def __call__(
        self, spec: Spec, tensors: Arrays, constants: Arrays
    ) -> tuple[Any, Callable[..., Any]]:
        """Return (outputs, pullback) at NumPy arrays, of NumPy arrays."""
        functions = self._functions(spec, constants)
        with self._telling("forward", tensors):
            free, fixed = self._split(spec, tensors)
            self._meet(functions, free, fixed)
            found, pull = functions.forward(free, fixed)
            kinds = [found[y] for y in spec.differentiable_outputs]

        def pullback(*cotangents: Any) -> dict[str, Any]:
            with self._telling("pullback", tensors):
                dys = self._cotangents(spec, kinds, cotangents)
                return _arrays(functions.back(pull, dys))

        return tuple(np.array(found[y]) for y in spec.outputs), pullback

    def _jvp(
        self, spec: Spec, tensors: Arrays, tangents: Arrays, constants: Arrays
    ) -> dict[str, Any]:
        functions = self._functions(spec, constants)
        with _offering("forward mode"), self._telling("forward mode", tensors):
            free, fixed = self._split(spec, tensors)
            found = functions.jvp(free, fixed, self._directions(free, tangents))
        return dict(zip(spec.differentiable_outputs, map(np.array, found), strict=True))

    def _double_vjp(
        self, spec: Spec, tensors: Arrays, cotangents: Arrays, seeds: Arrays, constants: Arrays
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        functions = self._functions(spec, constants)
        with _offering("double backward"), self._telling("double backward", tensors):
            free, fixed = self._split(spec, tensors)
            dys = tuple(self._array(cotangents[y]) for y in spec.differentiable_outputs)
            first, second = functions.double(free, fixed, dys, self._directions(free, seeds))
        named = dict(zip(spec.differentiable_outputs, map(np.array, second), strict=True))
        return _arrays(first), named

    # -- what is called

    def _functions(self, spec: Spec, constants: Arrays) -> _Functions:
        # 1, 1.0 and True are equal, and not the same constant.
        key = (spec, *((k, type(v), v) for k, v in sorted(constants.items())))
        if key not in self._made:
            self._made[key] = self._make(spec, constants)
        return self._made[key]

    def _make(self, spec: Spec, constants: Arrays) -> _Functions:
        jax = self._jax

        def outcome(free: Arrays, fixed: Arrays) -> tuple[Any, Any]:
            values = {**free, **fixed}
            # Dicts that JAX has seen are in alphabetical order.
            values = {k: values[k] for k in spec.given} | dict(constants)
            result = call(self._f, self._tree, values, jax.tree.map)
            found = outputs(spec, result)
            for name, value in found.items():
                self._check_output(name, value)
            return tuple(found[y] for y in spec.differentiable_outputs), found

        def forward(free: Arrays, fixed: Arrays) -> tuple[Any, Any]:
            _, pull, found = jax.vjp(lambda at: outcome(at, fixed), free, has_aux=True)
            return found, pull

        def back(pull: Callable[..., Any], dys: Any) -> Any:
            return pull(dys)[0]

        def jvp(free: Arrays, fixed: Arrays, tangents: Arrays) -> Any:
            return jax.jvp(lambda at: outcome(at, fixed)[0], (free,), (tangents,))[1]

        def double(free: Arrays, fixed: Arrays, dys: Any, seeds: Arrays) -> Any:
            def gradients(free: Arrays, dys: Any) -> Any:
                return back(forward(free, fixed)[1], dys)

            return jax.vjp(gradients, free, dys)[1](seeds)

        def plain(free: Arrays, fixed: Arrays) -> Any:
            found, pull = forward(free, fixed)
            return found, back(pull, tuple(jax.numpy.ones_like(found[y])
                                           for y in spec.differentiable_outputs))  # fmt: skip

        called = (forward, back, jvp, double)
        if self._jit:
            called = tuple(map(jax.jit, called))
        return _Functions(*called, plain)

    def _meet(self, functions: _Functions, free: Arrays, fixed: Arrays) -> None:
        """Look at a function before it is compiled for new shapes, of which JAX keeps all."""
        if self._jit and functions not in self._pure:
            self._check_pure(functions, free, fixed)
            self._pure.add(functions)
        _MET.add((functions, *((k, v.shape, v.dtype) for k, v in {**free, **fixed}.items())))
        if len(_MET) > MOST_SHAPES:
            self._jax.clear_caches()
            _MET.clear()

    def _check_pure(self, functions: _Functions, free: Arrays, fixed: Arrays) -> None:
        """Raise ConventionError where the function, traced twice, is not the same program."""
        # Of a function that it knows, JAX keeps the program: each of these is another one.
        again = [partial(functions.plain) for _ in range(2)]
        if len({_program(self._jax.make_jaxpr(each)(free, fixed)) for each in again}) > 1:
            raise ConventionError(
                "repeatable",
                "the function is not pure: traced twice for the same shapes, JAX gets two "
                "different programs of it, of which jit would keep the first: random numbers "
                "come from jax.random with a key that is given, and what changes between calls "
                "is an argument",
            )

    def _check_output(self, name: str, value: Any) -> None:
        jax = self._jax
        if isinstance(value, jax.Array):
            if not jax.numpy.issubdtype(value.dtype, jax.numpy.floating):
                raise ConventionError("type", f"output {name} is {value.dtype}, of which JAX gives "
                                              "no gradient")  # fmt: skip
            return
        kind, remedy = type(value), ""
        if isinstance(value, np.ndarray | np.generic | float | int):
            remedy = ": to JAX it is a constant, of which every gradient is 0; use jax.numpy"
        raise ConventionError("type", f"output {name} is a {kind.__module__}.{kind.__name__}, not "
                                      f"a JAX array{remedy}")  # fmt: skip

    # -- arrays

    def _split(self, spec: Spec, tensors: Arrays) -> tuple[dict[str, Any], dict[str, Any]]:
        arrays = {k: self._array(v) for k, v in tensors.items()}
        free = {k: arrays.pop(k) for k in spec.differentiable}
        return free, arrays

    def _array(self, value: Any) -> Any:
        """Return a JAX array of its own: what a caller writes to later must not change it."""
        if np.asarray(value).dtype.kind not in "fiub":
            raise TypeError("JAX has no arrays of objects")
        return self._jax.device_put(np.array(value))  # jnp.asarray would compile for each shape

    def _directions(self, free: Arrays, directions: Arrays) -> dict[str, Any]:
        zero = self._jax.numpy.zeros_like
        return {k: self._array(directions[k]) if k in directions else zero(v)
                for k, v in free.items()}  # fmt: skip

    def _cotangents(self, spec: Spec, kinds: list[Any], given: tuple[Any, ...]) -> tuple[Any, ...]:
        for name, y, dy in zip(spec.differentiable_outputs, kinds, given, strict=True):
            if y.shape != np.shape(dy):
                declared = f"{spec.shape_text(name)} = {np.shape(dy)}"
                raise ConventionError(
                    "shape", f"output {name} has shape {y.shape}, declared {declared}"
                )
        # An output of another dtype than the input's is told of by its own name.
        return tuple(self._array(dy).astype(y.dtype) for y, dy in zip(kinds, given, strict=True))

    # -- the settings and errors of JAX

    @contextmanager
    def _telling(self, stage: str, tensors: Arrays) -> Iterator[None]:
        """Run in the precision of the tensors, and tell in one line what tracing raises."""
        jax = self._jax
        double = any(np.asarray(v).dtype == np.float64 for v in tensors.values())
        try:
            with jax.enable_x64(double or jax.config.jax_enable_x64):
                yield
        except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
            name = type(error).__name__
            told = str(error).strip().partition("\n")[0].rstrip(".")
            raise ConventionError(
                "raises", f"the {stage} raised {name}{place(error, self.written)}: {told}; "
                          f"{REMEDIES.get(name, 'see jax.errors')}",
            ) from error  # fmt: skip


def _custom(jax: Any, f: Any) -> Any:
    """Return the custom_vjp or custom_jvp that a function is, wraps or calls by a global name."""
    kinds, seen = (jax.custom_vjp, jax.custom_jvp), f
    while seen is not None and not isinstance(seen, kinds):
        f, seen = seen, getattr(seen, "__wrapped__", getattr(seen, "func", None))
    return seen or next((g for g in globals_called(f) if isinstance(g, kinds)), None)


def _written(jax: Any, f: Any, custom: Any) -> tuple[Callable[..., Any], ...]:
    """Return the functions that a person wrote: the forward, and the rule of its derivative."""
    rule = getattr(custom, "bwd" if isinstance(custom, jax.custom_vjp) else "jvp", None)
    # `defjvps` makes its rule inside JAX.
    if rule is None or str(getattr(rule, "__module__", "")).startswith("jax."):
        return (f,)
    return f, rule


# What JAX says where a function does not have what is asked of it.
_LACKING = (
    "can't apply forward-mode",
    "do not support JVP",
    "Reverse-mode differentiation does not work",
    "not implemented",
)


@contextmanager
def _offering(what: str) -> Iterator[None]:
    """Tell what JAX raises where a custom_vjp, a callback or a loop has no such derivative."""
    try:
        yield
    except (NotImplementedError, TypeError, ValueError) as error:
        told = str(error).strip().partition("\n")[0]
        if not any(words in told for words in _LACKING):
            raise
        raise NotOffered(f"{what}: {told}") from error


def _program(traced: Any) -> str:
    """Return the text of a traced program with its constants, without addresses of memory."""
    constants = [np.asarray(c).tobytes().hex() for c in traced.consts]
    return re.sub(r"0x[0-9a-f]+", "", f"{traced} {constants}")


def _arrays(found: Arrays) -> dict[str, Any]:
    return {k: np.array(v) for k, v in found.items()}
