"""HIPS autograd's functions, and primitives with `defvjp`, as layers."""

import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from gradverify.adapter import Adapter, NotOffered
from gradverify.adapters.framework import framework
from gradverify.adapters.named import call, checked_tree, globals_called, outputs, place
from gradverify.layer import ConventionError
from gradverify.spec import Spec

Arrays = Mapping[str, Any]


def autograd_function(f: Callable[..., Any], *, tree: Mapping[str, Any] | None = None) -> Adapter:
    """Return a function of autograd's arrays as a layer: its pullback is `autograd.make_vjp`'s.

    `f` takes the tensors and constants of the spec by name and returns one array, or a tuple in
    declared order. It may be a primitive with `defvjp`, or call such.
    `tree={"params": [{"w": "w", "b": "b"}]}` says which tensors an argument is made of.

    Raises UsageError where autograd is not installed.
    """
    framework("autograd", "autograd", "autograd_function")
    return _AutogradFunction(f, checked_tree(tree, "autograd_function"))


class _AutogradFunction(Adapter):
    def __init__(self, f: Callable[..., Any], tree: Mapping[str, Any]) -> None:
        from autograd.core import primitive_jvps

        own = [p for p in (f, *globals_called(f)) if _is_own(p)]
        rules = [rule for p in own for rule in _rules(p)]
        name = getattr(f, "__name__", type(f).__name__)
        super().__init__((getattr(f, "fun", f), *rules[:1]), name)
        self._f, self._tree = f, tree
        # A primitive has a forward mode where somebody has given it a rule for that.
        self.jvp = self._jvp if all(p in primitive_jvps for p in own) else None
        self.double_vjp = self._double_vjp

    def __call__(
        self, spec: Spec, tensors: Arrays, constants: Arrays
    ) -> tuple[Any, Callable[..., Any]]:
        """Return (outputs, pullback) at NumPy arrays."""
        from autograd import make_vjp

        with self._telling("forward"):
            at = _tensors(spec, tensors)
            pull, found = make_vjp(self._outcome(spec, tensors, constants))(at)
        outs = dict(zip(spec.outputs, found, strict=True))

        def pullback(*cotangents: Any) -> dict[str, Any]:
            with self._telling("pullback"):
                given = dict(zip(spec.differentiable_outputs, cotangents, strict=True))
                for name, dy in given.items():
                    if np.shape(outs[name]) != np.shape(dy):
                        raise ConventionError(
                            "shape", f"output {name} has shape {np.shape(outs[name])}, declared "
                                     f"{spec.shape_text(name)} = {np.shape(dy)}",
                        )  # fmt: skip
                dys = tuple(given[y] if y in given else np.zeros_like(outs[y]) for y in outs)
                return dict(zip(spec.differentiable, pull(dys), strict=True))

        return found, pullback

    def _called(self, spec: Spec, tensors: Arrays, constants: Arrays, free: Any) -> dict[str, Any]:
        """Return the outputs by name, where `free` are the tensors that take a gradient."""
        values = {**tensors, **dict(zip(spec.differentiable, free, strict=True)), **constants}
        found = outputs(spec, call(self._f, self._tree, values, _over))
        for name, value in found.items():
            if getattr(value, "dtype", None) == np.dtype(object):
                raise ConventionError(
                    "type", f"output {name} is an array of objects, made by NumPy of what autograd "
                            "traces: use autograd.numpy",
                )  # fmt: skip
        return found

    def _outcome(self, spec: Spec, tensors: Arrays, constants: Arrays) -> Callable[[Any], Any]:
        """Return the function of one tuple, of the tensors that take a gradient, to another, of all
        outputs, which autograd differentiates."""
        from autograd.builtins import tuple as differentiable_tuple

        def outcome(free: Any) -> Any:
            found = self._called(spec, tensors, constants, free)
            return differentiable_tuple(tuple(found.values()))

        return outcome

    def _jvp(
        self, spec: Spec, tensors: Arrays, tangents: Arrays, constants: Arrays
    ) -> dict[str, Any]:
        from autograd import make_jvp

        along = tuple(_direction(tangents, tensors, k) for k in spec.differentiable)
        with _offering("forward mode"), self._telling("forward mode"):
            at = _tensors(spec, tensors)
            _, dots = make_jvp(self._outcome(spec, tensors, constants))(at)(along)
        named = dict(zip(spec.outputs, dots, strict=True))
        return {y: named[y] for y in spec.differentiable_outputs}

    def _double_vjp(
        self, spec: Spec, tensors: Arrays, cotangents: Arrays, seeds: Arrays, constants: Arrays
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        import autograd.numpy as anp
        from autograd import make_vjp

        # Of one vector: what autograd adds up of tuples cannot be differentiated again.
        def joined(arrays: Any) -> Any:
            return anp.concatenate([anp.reshape(a, -1) for a in arrays])

        free, dys = spec.differentiable, spec.differentiable_outputs
        at, along = _tensors(spec, tensors), [_direction(seeds, tensors, k) for k in free]
        given = [cotangents[y] for y in dys]
        size = sum(a.size for a in at)

        def outcome(flat: Any) -> Any:
            found = self._called(spec, tensors, constants, _split(anp, flat, at))
            return joined(found[y] for y in dys)

        def gradients(both: Any) -> Any:
            return make_vjp(outcome)(both[:size])[0](both[size:])

        with _offering("double backward"), self._telling("double backward"):
            found = _split(anp, make_vjp(gradients)(joined((*at, *given)))[0](joined(along)),
                           (*at, *given))  # fmt: skip
        return (
            dict(zip(free, found[: len(free)], strict=True)),
            dict(zip(dys, found[len(free) :], strict=True)),
        )

    @contextmanager
    def _telling(self, stage: str) -> Iterator[None]:
        """Tell what NumPy raises when it is given autograd's boxes in one line."""
        try:
            with warnings.catch_warnings():
                # A gradient that is zero is judged as any other.
                warnings.filterwarnings("ignore", "Output seems independent of input")
                yield
        except (TypeError, ValueError) as error:
            if "ArrayBox" not in str(error):
                raise
            told = re.sub(r"<[^<>]*ArrayBox object at \w+>", "ArrayBox", str(error))
            raise ConventionError(
                "raises", f"the {stage} raised {type(error).__name__}{place(error, self.written)}: "
                          f"{told}; where an array is traced, use autograd.numpy, and ask for no "
                          "float of it",
            ) from error  # fmt: skip


@contextmanager
def _offering(what: str) -> Iterator[None]:
    """Tell what autograd raises where a primitive on the way has no rule."""
    try:
        yield
    except NotImplementedError as error:
        raise NotOffered(f"{what}: {error}") from error


def _tensors(spec: Spec, tensors: Arrays) -> tuple[Any, ...]:
    """Return the tensors that take a gradient."""
    found = tuple(tensors[k] for k in spec.differentiable)
    if any(np.asarray(a).dtype.kind != "f" for a in found):
        raise TypeError("autograd differentiates arrays of floats")
    return found


def _direction(directions: Arrays, tensors: Arrays, name: str) -> Any:
    """Return the direction of a tensor, which is 0 where none is given."""
    return directions[name] if name in directions else np.zeros_like(tensors[name])


def _split(anp: Any, flat: Any, like: Any) -> list[Any]:
    """Return the parts of a vector, in the shapes of some arrays."""
    ends = np.cumsum([np.size(a) for a in like])
    parts = zip(like, (0, *ends[:-1]), ends, strict=True)
    return [anp.reshape(flat[begin:end], np.shape(a)) for a, begin, end in parts]


def _is_own(f: Any) -> bool:
    """Whether something is a primitive that autograd does not bring itself."""
    from autograd.core import primitive_vjps

    if not getattr(f, "_is_autograd_primitive", False) or f not in primitive_vjps:
        return False
    return not any(rule.__module__.startswith("autograd.") for rule in _rules(f))


def _rules(f: Any) -> list[Callable[..., Any]]:
    """Return the functions that `defvjp` was given for a primitive."""
    from autograd.core import primitive_vjps

    known = inspect.getclosurevars(primitive_vjps[f]).nonlocals.get("vjps_dict", {})
    return [rule for _, rule in sorted(known.items())]


def _over(leaf: Callable[[Any], Any], tree: Any) -> Any:
    """Return a tree of what a function gives for the leaves of one of dicts, lists and tuples."""
    if isinstance(tree, Mapping):
        return {k: _over(leaf, v) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        inner = [_over(leaf, v) for v in tree]
        return type(tree)(*inner) if hasattr(tree, "_fields") else type(tree)(inner)
    return leaf(tree)
