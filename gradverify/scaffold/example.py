"""An example call, as a person gives it: its arrays tell which sizes are the same."""

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradverify.errors import UsageError
from gradverify.scaffold.calling import Called
from gradverify.scaffold.roles import Argument
from gradverify.scaffold.search import Shape, Size


@dataclass(frozen=True)
class Example:
    """The arguments of a call; of a class, `made` are those that it is made with."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    made: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None

    def named(self, called: Called) -> dict[str, Any]:
        """Return what is given to the arguments of a function, by name."""
        return {**dict(zip((a.name for a in called.arguments), self.args, strict=False)),
                **self.kwargs}  # fmt: skip

    def spread(self, called: Called) -> tuple[Called, "Example", str | None]:
        """Return the function and its example with an argument for each number of a dict, and
        the name of the argument that is the dict; None where none is."""
        given = self.named(called)
        name = next((k for k, v in given.items() if isinstance(v, Mapping)), None)
        if name is None:
            return called, self, None
        inside = given.pop(name)
        numbers = all(isinstance(v, bool | int | float) for v in inside.values())
        if not numbers or inside.keys() & given.keys():
            raise UsageError(f"--call: {name} is a dict, of which the values are not all numbers")

        def function(**values: Any) -> Any:
            options = {k: values.pop(k) for k in inside}
            return called.function(**values, **{name: options})

        others = tuple(a for a in called.arguments if a.name != name)
        constants = tuple(Argument(k, "constant", (v,)) for k, v in inside.items())
        return (
            replace(called, function=function, arguments=(*others, *constants)),
            replace(self, args=(), kwargs={**given, **inside}),
            name,
        )

    def of(self, called: Called) -> tuple[Called, list[dict[str, Shape]], tuple[int, ...]]:
        """Return the function as the example calls it, and its shapes, likely ones last: equal
        sizes are one dimension, and a size of parameters alone may be a multiple of one."""
        given = self.named(called)
        arguments, constants, shapes = (
            [],
            dict(called.choices()[0].constants),
            dict[str, tuple[int, ...]](),
        )
        for argument in called.arguments:
            value = given.get(argument.name)
            if argument.name not in given:
                if argument.role not in ("constant", "default"):
                    raise UsageError(f"--call gives no {argument.name}")
                arguments.append(argument)
            elif isinstance(value, bool | int | float) and argument.role == "constant":
                constants[argument.name] = value
                arguments.append(argument)
            else:
                array = np.asarray(value)
                if array.dtype.kind not in "fiub":
                    raise UsageError(f"--call: {argument.name}={value!r} is no array of numbers")
                role = argument.role if argument.role in ("param", "buffer") else "input"
                arguments.append(replace(argument, role=role, integer=array.dtype.kind in "iu"))
                shapes[argument.name] = array.shape
        found = replace(called, arguments=tuple(arguments), constants=constants)
        sizes = tuple(dict.fromkeys(n for shape in shapes.values() for n in shape))
        plain = {k: tuple(Size(sizes.index(n)) for n in shape) for k, shape in shapes.items()}
        own = {n for a in arguments if a.role == "input" for n in shapes.get(a.name, ())}
        times = {n: Size(sizes.index(n // t), t) for t in (2, 3, 4) for n in sizes
                 if n not in own and n % t == 0 and n // t in own}  # fmt: skip
        several = {k: tuple(times.get(n, Size(sizes.index(n))) for n in shape)
                   for k, shape in shapes.items()}  # fmt: skip
        return found, [several, plain], sizes


def example_of(call: str, found: Callable[..., Any], module: Mapping[str, Any]) -> Example:
    """Return the arguments of a call such as "f(np.ones((4, 3)), np.ones(3))"; UsageError where it
    is none."""
    try:
        tree = ast.parse(call.strip(), mode="eval").body
    except SyntaxError as error:
        raise UsageError(f"--call {call!r}: {error.msg}") from None
    if not isinstance(tree, ast.Call):
        raise UsageError(f'--call {call!r} is no call: write "f(np.ones((4, 3)), np.ones(3))"')
    space = {"np": np, **module}

    def values(node: ast.Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
        def value(part: ast.expr) -> Any:
            return eval(compile(ast.Expression(part), "--call", "eval"), space)

        try:
            return (tuple(map(value, node.args)),
                    {str(k.arg): value(k.value) for k in node.keywords})  # fmt: skip
        except Exception as error:
            raise UsageError(f"--call {call!r}: {type(error).__name__}: {error}") from None

    inner = tree.func.value if isinstance(tree.func, ast.Attribute) else tree.func
    if isinstance(found, type):
        if not isinstance(inner, ast.Call):
            raise UsageError(f'--call {call!r}: write "{found.__name__}(...).forward(...)"')
        return Example(*values(tree), made=values(inner))
    return Example(*values(tree))
