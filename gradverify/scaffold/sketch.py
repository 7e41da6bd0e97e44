"""From a function or class to what its spec file is made of; done in a process of its own."""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from gradverify.errors import UsageError
from gradverify.scaffold.calling import Called, quietly
from gradverify.scaffold.example import Example, example_of
from gradverify.scaffold.foreign import Foreign, foreign
from gradverify.scaffold.objects import of_class
from gradverify.scaffold.observe import Observed, described, holds_elsewhere, observe
from gradverify.scaffold.roles import Argument, arguments_of, switching
from gradverify.scaffold.target import Target, importable, loaded
from gradverify.scaffold.tensors import is_of_torch, of_module
from gradverify.scaffold.write import Sketch, declarations, example, registration, unusable

# What the backward of a forward is called that returns no pullback.
_BACKWARDS = (("forward", "backward"), ("fwd", "bwd"), ("", "_backward"), ("", "_bwd"),
              ("", "_grad"))  # fmt: skip
_NOTHING = "no shapes that it accepts were found: correct those below, or give an example by --call"


def sketch(target: Target, call: str | None) -> Sketch:
    """Return what a spec file of a target is made of, observed by calling it, or by the example."""
    reachable = importable(target)
    found = loaded(target)
    module = vars(sys.modules[target.module])
    given = None if call is None else example_of(call, found, module)
    if (other := foreign(found)) is not None:
        observed = _observed(Called(other.function, other.arguments), given)
        if observed is not None:
            body = _adapted(observed, target, other)
            return _sketch(target, reachable, observed, body, adapter=other.adapter)
        if other.certain:
            return replace(_todo(target, reachable, other.arguments, "", _NOTHING),
                           body="\n" + registration(other.adapter, [target.name]),
                           adapter=other.adapter)  # fmt: skip
    if is_of_torch(found, "torch.nn.Module"):
        made = of_module(found, given)
        if made is None:
            body = "\n" + registration("torch_module", [target.name])
            return replace(_todo(target, reachable, _arguments(found), "", _NOTHING), body=body,
                           adapter="torch_module")  # fmt: skip
        return _sketch(target, reachable, made.observed, made.body, adapter="torch_module")
    if inspect.isclass(found):
        if not (hasattr(found, "forward") or "__call__" in vars(found)):
            raise UsageError(f"{target.name} is a class without forward: name a function, or one "
                             "with forward and backward")  # fmt: skip
        made = of_class(found, given)
        if made is None:
            return _todo(target, reachable, _arguments(found),
                         "the layer as a function of its tensors", "")  # fmt: skip
        return _sketch(target, reachable, made.observed, made.body, adapter="stateful")
    arguments = arguments_of(found)
    for argument in arguments:
        if unusable(argument.name):
            raise UsageError(
                f"a spec cannot have a tensor called {argument.name}: write a function with other "
                "names that calls this one, and name that"
            )
    for joined, name in _with_backward(found, target, module):
        way, sample, options = Called(joined, arguments), given, None
        if given is not None:
            way, sample, options = given.spread(way)
        observed = _observed(way, sample)
        if observed is not None and observed.answer.gradients is not None:
            body = _pair(observed, target, name, options)
            return _sketch(target, reachable, observed, body, name, adapter="pair")
    observed = _observed(Called(found, arguments), given)
    if observed is None:
        return _todo(target, reachable, arguments, "", _NOTHING)
    body = ""
    if observed.answer.gradients is None:
        body = _wrapper(observed, target)
    return _sketch(target, reachable, observed, body)


def _observed(called: Called, given: Example | None) -> Observed | None:
    if given is None:
        return observe(called)
    way, likely, sizes = given.of(called)
    shapes = next((s for s in likely if holds_elsewhere(way, s, sizes)), likely[-1])
    above = replace(way, positive=frozenset(t.name for t in way.tensors))
    found = described(way, shapes, sizes) or described(above, shapes, sizes)
    if found is None and quietly(lambda: way.function(**given.named(way), **way.constants)) is None:
        raise UsageError("--call: the example raises when it is called")
    return found


def _arguments(found: Any) -> tuple[Argument, ...]:
    return arguments_of(_forward(found), skip=1 if inspect.isclass(found) else 0)


def _forward(found: Any) -> Any:
    return getattr(found, "forward", found) if inspect.isclass(found) else found


def _todo(
    target: Target, reachable: bool, arguments: tuple[Argument, ...], body: str, told: str
) -> Sketch:
    """Return a sketch that loads, with all to be done that could not be."""
    declared = []
    for a in arguments:
        if a.role == "constant":
            declared.append(f"{a.name}=Constant({', '.join(map(repr, a.values))}),")
        elif a.role != "default":
            kind = {"param": "Param", "buffer": "Buffer"}.get(a.role, "Input")
            more = ', dtype=int, range="0..1"' if a.integer else ""
            declared.append(f'{a.name}={kind}("N C"{more}),  # TODO: its shape')
    names = {a.name for a in arguments}
    y = next(n for n in ("y", "out", "z", "result") if n not in names)
    declared.append(f'{y}=Output("N C"),  # TODO: its shape')
    given = ", ".join(a.name for a in arguments if a.role != "default")
    source = ""
    if body:
        source = "\n".join([
            "", f'@spec.register(name="{target.name}")', f"def layer({given}):",
            f"    # TODO: {body.replace('NAME', target.name)}",
            '    raise NotImplementedError("TODO: see above")',
        ])  # fmt: skip
    imported = (target.name.partition(".")[0],)
    return Sketch(target, reachable, imported, _used(declared), tuple(declared), (),
                  f"{y}[n,c] = ...", source, told or _NOTHING)  # fmt: skip


def _used(declared: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    text = "\n".join(declared)
    kinds = ("Buffer", "Constant", "Input", "Output", "Param")
    return (*(k for k in kinds if f"={k}(" in text), "Spec")


def _sketch(
    target: Target, reachable: bool, observed: Observed, body: str, *others: str, adapter: str = ""
) -> Sketch:
    declared, renamed, names = declarations(observed)
    if renamed and not body:
        body = _renaming(observed, target, renamed)
    shapes = ", ".join(f"{k} {v}" for k, v in observed.seen.items())
    outputs = ", ".join(f"{k} {y.shape}" for k, y in zip(names, observed.answer.outputs,
                                                          strict=True))  # fmt: skip
    imported = (*others, target.name.partition(".")[0])
    told = f"Observed: {shapes} -> {outputs}"
    if switches := switching(_forward(loaded(target))):
        told += f"; {', '.join(switches)} may have kinks, of which the definition tells"
    return Sketch(target, reachable, tuple(sorted(imported)), _used(declared), tuple(declared),
                  observed.where, example(observed, names), body, told, adapter)  # fmt: skip


def _signature(observed: Observed, renamed: Mapping[str, str]) -> tuple[str, str]:
    """Return the arguments of a layer, and how it hands them on."""
    tensors = [t.name for t in observed.called.tensors]
    constants = list(observed.constants)
    taken = [*tensors, *(["*"] if constants else []), *(renamed.get(c, c) for c in constants)]
    given = [*(f"{t}={t}" for t in tensors), *(f"{c}={renamed.get(c, c)}" for c in constants)]
    return ", ".join(taken), ", ".join(given)


def _renaming(observed: Observed, target: Target, renamed: Mapping[str, str]) -> str:
    """Return a layer that calls a function whose constants stand in shapes, in capitals there."""
    taken, given = _signature(observed, renamed)
    return "\n".join([
        "", f'@spec.register(name="{target.name}")', f"def layer({taken}):",
        f"    return {target.name}({given})",
    ])  # fmt: skip


def _adapted(observed: Observed, target: Target, other: Foreign) -> str:
    """Return a layer of another framework, with a lambda where constants stand in shapes, in
    capitals there."""
    _, renamed, _ = declarations(observed)
    if other.certain or not renamed:
        return "\n" + registration(other.adapter, [target.name])
    taken, given = _signature(observed, renamed)
    function = f"lambda {taken}: {target.name}({given})"
    return f'\nspec.register(\n    {other.adapter}({function}), name="{target.name}"\n)'


def _with_backward(
    forward: Callable[..., Any], target: Target, module: Mapping[str, Any]
) -> Iterator[tuple[Callable[..., Any], str]]:
    """Yield a forward joined with the backward beside it, and the name of that."""
    for old, new in _BACKWARDS:
        name = target.name.replace(old, new) if old else target.name + new
        backward = module.get(name)
        if name == target.name or not callable(backward):
            continue

        def cached(backward: Any = backward, **given: Any) -> Any:
            out, cache = forward(**given)
            return out, lambda *dys: backward(*dys, cache)

        def again(backward: Any = backward, **given: Any) -> Any:
            return forward(**given), lambda *dys: backward(*dys, *given.values())

        yield cached, name
        yield again, name


def _pair(observed: Observed, target: Target, backward: str, options: str | None) -> str:
    """Return the layer of a forward and the backward beside it; `options` is an argument that is a
    dict of the constants."""
    _, renamed, _ = declarations(observed)
    parts = [target.name, backward]
    if renamed:
        names = {new: old for old, new in renamed.items()}
        parts.append(f"names={names!r}".replace("'", '"'))
    if options is not None:
        parts.append(f'options="{options}"')
    return "\n" + registration("pair", parts)


def _wrapper(observed: Observed, target: Target) -> str:
    """Return a layer that calls a forward, with a pullback to write."""
    _, renamed, names = declarations(observed)
    taken, given = _signature(observed, renamed)
    grads = ", ".join(f'"{t.name}": ...' for t in observed.called.tensors if not t.integer)
    more = ", cache" if observed.answer.second is not None else ""
    returned = f"({', '.join(names)})" if len(names) > 1 else names[0]
    return "\n".join([
        "", f'@spec.register(name="{target.name}")', f"def layer({taken}):",
        f"    {', '.join(names)}{more} = {target.name}({given})", "",
        f"    def pullback({', '.join(f'd{n}' for n in names)}):",
        f"        # TODO: return {{{grads}}}",
        '        raise NotImplementedError("TODO: the gradients")', "",
        f"    return {returned}, pullback",
    ])  # fmt: skip
