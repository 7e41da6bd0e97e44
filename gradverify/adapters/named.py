"""Functions that take tensors and constants by name, some of them in a tree: their arguments."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from gradverify.errors import UsageError, innermost, nearest
from gradverify.layer import ConventionError
from gradverify.spec import Spec

# Applies a function to every leaf of a tree, and returns a tree of what it gave.
TreeMap = Callable[[Callable[[Any], Any], Any], Any]


def checked_tree(tree: Mapping[str, Any] | None, function: str) -> Mapping[str, Any]:
    """Return a tree as it is given to an adapter, by argument; UsageError where it is none."""
    if tree is not None and not isinstance(tree, Mapping):
        raise UsageError(
            f'{function}(..., tree={tree!r}): write tree={{"params": {{"w": "w", "b": "b"}}}}, '
            "for each argument that is a tree the names of the tensors in it"
        )
    return tree or {}


def call(
    function: Callable[..., Any], tree: Mapping[str, Any], values: Mapping[str, Any], over: TreeMap
) -> Any:
    """Call a function with values by name, those that `tree` names as the trees it says.

    A leaf of the tree that is no text is passed as it is. Raises ConventionError where the function
    takes other arguments.
    """
    used = set[str]()

    def leaf(name: Any) -> Any:
        if not isinstance(name, str):
            return name
        if name not in values:
            raise ConventionError(
                "convention", f"tree names {name!r}, which the spec does not declare: "
                              f"{nearest(name, values)}",
            )  # fmt: skip
        used.add(name)
        return values[name]

    trees = {argument: over(leaf, names) for argument, names in tree.items()}
    given = {k: v for k, v in values.items() if k not in used} | trees
    try:
        # Of a primitive of autograd, the function that it is put on.
        signature = inspect.signature(getattr(function, "fun", function))
    except ValueError:  # some that are compiled do not tell
        return function(**given)
    kinds = {k: p.kind for k, p in signature.parameters.items()}
    # `jnp.exp(x, /)` takes its arguments in their order only.
    first = [k for k in kinds if kinds[k] is inspect.Parameter.POSITIONAL_ONLY and k in given]
    named = {k: v for k, v in given.items() if k not in first}
    try:
        bound = signature.bind(*(given[k] for k in first), **named)
    except TypeError as error:
        label = getattr(function, "__name__", type(function).__name__)
        raise ConventionError(
            "convention",
            f"{label}{signature} cannot be called with {', '.join(given)} by name: {error}; "
            'parameters that it takes in a tree are named by tree={"params": {"w": "w"}}',
        ) from None
    # Not by name: autograd does not look at what a primitive is given so.
    bound.apply_defaults()
    return function(*bound.args, **bound.kwargs)


def outputs(spec: Spec, result: Any) -> dict[str, Any]:
    """Return what a function returned by the names of the outputs; ConventionError else."""
    found = tuple(result) if isinstance(result, tuple | list) else (result,)
    if len(found) != len(spec.outputs):
        raise ConventionError(
            "convention",
            f"the function returned {len(found)} value(s) where ({', '.join(spec.outputs)}) are "
            "declared",
        )
    return dict(zip(spec.outputs, found, strict=True))


def place(error: BaseException, functions: tuple[Callable[..., Any], ...]) -> str:
    """Return the innermost line of the files of some functions that an error went through."""
    files = {code.co_filename for f in functions if (code := getattr(f, "__code__", None))}
    line = innermost(error, files.__contains__)
    return "" if line is None else f" at {line.filename}:{line.lineno}"


def globals_called(function: Any) -> list[Any]:
    """Return what a plain function names of its globals, in that order: what it may call."""
    code = getattr(function, "__code__", None)
    space = getattr(function, "__globals__", {})
    return [space[name] for name in code.co_names if name in space] if code else []
