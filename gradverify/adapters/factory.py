"""How objects of a layer are made: what a factory is given, and which class it makes."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from gradverify.adapters.arguments import alike, name_of, signature_of
from gradverify.adapters.sizes import sizes_of
from gradverify.errors import UsageError, few
from gradverify.layer import ConventionError
from gradverify.notation.tree import free_names
from gradverify.spec import Spec


@dataclass(frozen=True)
class Factory:
    """A class, or a function, that makes objects of sizes, constants and parameters by name."""

    function: Callable[..., Any]

    def named(self, spec: Spec) -> dict[str, str]:
        """Return, by parameter of the factory, what of a spec it is given there.

        Raises ConventionError where it needs anything else.
        """
        signature = signature_of(self.function)
        if signature is None:
            return {}
        state = [k for k in spec.given if k not in spec.inputs]
        known = [*spec.dims, *spec.constants, *state]
        found, wrong = {}, []
        for parameter in signature.parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            declared = alike(parameter.name, known)
            if declared is not None:
                found[parameter.name] = declared
            elif parameter.default is parameter.empty:
                wrong.append(parameter.name)
        if wrong:
            own = {n for k in state for size in spec.shapes[k] for n in free_names(size)}
            sizes = ", ".join(n for n in (*spec.dims, *spec.constants) if n in own) or spec.dims[0]
            raise ConventionError(
                "convention",
                f"{name_of(self.function)}{signature} needs {', '.join(wrong)}, and what makes "
                f"objects is given what it names of {few(known, 12)}: write a function of some of "
                f"these, such as lambda {sizes}: {name_of(self.function).strip('<>')}(...)",
            )
        return found

    def key(
        self, spec: Spec, tensors: Mapping[str, Any], constants: Mapping[str, Any]
    ) -> tuple[Any, ...]:
        """Return what objects have in common that can be used for one another."""
        known = sizes_of(spec, tensors, constants) | dict(constants)
        sizes = tuple(known.get(name) for name in self.named(spec).values() if name not in tensors)
        return sizes, tuple((type(a), a.dtype) for a in tensors.values())

    def make(self, spec: Spec, tensors: Mapping[str, Any], constants: Mapping[str, Any]) -> Any:
        """Return a new object."""
        known = {**sizes_of(spec, tensors, constants), **constants}
        given = {
            parameter: tensors[name].copy() if name in tensors else known[name]
            for parameter, name in self.named(spec).items()
        }
        return self.function(**given)


def class_made_by(factory: Callable[..., Any], *methods: str) -> type[Any] | None:
    """Return the class of the objects that a factory makes, None where its text does not tell.

    Raises UsageError for a class that lacks one of the methods.
    """
    while hasattr(factory, "func"):  # functools.partial
        factory = factory.func
    if inspect.isclass(factory):
        for method in methods:
            if not callable(getattr(factory, method, None)):
                raise UsageError(
                    f"stateful({factory.__name__}): it has no method {method}: name its own with "
                    f'{methods[0]}="..." or {methods[-1]}="..."'
                )
        return factory
    if not inspect.isfunction(factory):
        return None
    try:
        named = inspect.getclosurevars(factory)
    except ValueError:  # what it names is not made yet
        return None
    values = [*named.globals.values(), *named.nonlocals.values()]
    inside = [
        getattr(module, name)
        for module in values
        if isinstance(module, ModuleType)
        for name in factory.__code__.co_names
        if hasattr(module, name)
    ]
    found = {
        id(value): value
        for value in (*values, *inside)
        if inspect.isclass(value) and all(callable(getattr(value, m, None)) for m in methods)
    }
    return next(iter(found.values())) if len(found) == 1 else None
