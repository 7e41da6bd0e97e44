"""pair: a forward that returns its outputs and a cache, and the backward that takes the cache."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gradverify.adapter import Adapter
from gradverify.adapters.arguments import arranged, name_of, signature_of
from gradverify.adapters.names import gradient_names, same
from gradverify.errors import UsageError, nearest
from gradverify.layer import ConventionError
from gradverify.spec import Spec

# What the cache is called where a backward takes it first.
_CACHES = ("cache", "caches", "ctx", "context", "saved", "memory")


def pair(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    *,
    names: Mapping[str, str] | None = None,
    options: str | None = None,
) -> Adapter:
    """Return a layer of `forward(x, w, b, ...) -> (y, cache)` and `backward(dy, cache)`.

    The forward gets tensors and constants by its own names for them, and the tensors that it has
    other names for in declared order. It returns the outputs in declared order, next values of
    buffers among them, and then a cache of any kind. Where it returns no cache, the backward gets
    what the forward got. The backward takes the cotangents of the outputs and the cache, in either
    order, and returns the gradients as a tuple in the order of the forward's arguments or as a
    dict, by the names of the tensors or by names such as "dw".

    `names={"S": "stride"}` says what is called otherwise, `options="conv_param"` which argument
    is a dict of all constants, and of those buffers for which the forward has no argument: their
    next values are read from that dict.
    """
    for what, function in (("forward", forward), ("backward", backward)):
        if not callable(function):
            raise UsageError(f"pair: the {what} is {function!r}, which cannot be called")
    return _Pair(forward, backward, dict(names or {}), options)


class _Pair(Adapter):
    def __init__(
        self,
        forward: Callable[..., Any],
        backward: Callable[..., Any],
        names: dict[str, str],
        options: str | None,
    ) -> None:
        super().__init__((forward, backward), name_of(forward))
        self._forward, self._backward = forward, backward
        self._names, self._options = names, options

    def __call__(
        self, spec: Spec, tensors: Mapping[str, Any], constants: Mapping[str, Any]
    ) -> tuple[Any, Callable[..., Any]]:
        check_names(spec, self._names)
        renamed = {self._names.get(k, k): v for k, v in tensors.items()}
        told = {self._names.get(k, k): v for k, v in constants.items()}
        given, mapping = self._with_options(spec, renamed, told)
        found = arranged(self._forward, given, mapping, _remedy(self._options))
        result = self._forward(*found.args, **found.kwargs)
        inside = mapping.get(self._options, {}) if self._options else {}
        outputs, rest = self._split(spec, result, inside)
        declared = {self._names.get(k, k): k for k in spec.given}
        order = [declared[name] for name in found.order if name in declared]
        known = given | dict(zip(spec.outputs, outputs, strict=True))

        def pullback(*cotangents: Any) -> Any:
            if rest:
                return self._gradients(spec, self._pull(cotangents, rest[0]), order)
            return self._gradients(spec, self._again(cotangents, given, known, mapping), order)

        return outputs, pullback

    def _with_options(
        self, spec: Spec, tensors: dict[str, Any], constants: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the tensors that are arguments, and the constants or the dict that holds them."""
        if self._options is None:
            return tensors, constants
        signature = signature_of(self._forward)
        own = signature.parameters if signature else {}
        inside = {k: self._names.get(k, k) for k in spec.given if spec.tensors[k].kind == "buffer"}
        inner = {n: tensors[n].copy() for n in inside.values() if n not in own}
        return (
            {k: v for k, v in tensors.items() if k not in inner},
            {self._options: {**constants, **inner}},
        )

    def _split(
        self, spec: Spec, result: Any, inside: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return the outputs in declared order, and the cache alone or nothing."""
        updated = {
            output: inside[self._names.get(buffer, buffer)]
            for buffer, output in spec.updates.items()
            if self._names.get(buffer, buffer) in inside
        }
        wanted = [y for y in spec.outputs if y not in updated]
        listed = result if isinstance(result, tuple) else (result,)
        if len(listed) == 2 and isinstance(listed[0], tuple) and len(listed[0]) == len(wanted) > 1:
            listed = (*listed[0], listed[1])  # ((y1, y2), cache)
        if len(listed) not in (len(wanted), len(wanted) + 1):
            raise ConventionError(
                "convention",
                f"{name_of(self._forward)} returned {len(listed)} "
                f"value{'s' * (len(listed) != 1)} where ({', '.join(wanted)}, cache) is expected",
            )
        found = dict(zip(wanted, listed, strict=False)) | updated
        return tuple(found[y] for y in spec.outputs), listed[len(wanted) :]

    def _pull(self, cotangents: Sequence[Any], cache: Any) -> Any:
        signature = signature_of(self._backward)
        first = next(iter(signature.parameters), "") if signature else ""
        if first.strip("_") in _CACHES:
            return self._backward(cache, *cotangents)
        return self._backward(*cotangents, cache)

    def _again(
        self,
        cotangents: Sequence[Any],
        tensors: Mapping[str, Any],
        known: Mapping[str, Any],
        constants: Mapping[str, Any],
    ) -> Any:
        """Call a backward that takes what the forward took or gave, or some of it by name."""
        signature = signature_of(self._backward)
        own = [*signature.parameters][len(cotangents) :] if signature else []
        needed = {k: v for k, v in constants.items() if any(same(k, name) for name in own)}
        wanted = {k: v for k, v in known.items() if any(same(k, name) for name in own)}
        if len(wanted) < len(own) - len(needed):
            wanted = dict(tensors)  # by position
        leading = {f"cotangent {k + 1}": dy for k, dy in enumerate(cotangents)}
        found = arranged(
            self._backward, {**leading, **wanted}, needed, "its forward returned no cache"
        )
        return self._backward(*found.args, **found.kwargs)

    def _gradients(self, spec: Spec, result: Any, order: Sequence[str]) -> Any:
        """Return gradients by name, of a tuple in the order of the forward's arguments."""
        if isinstance(result, Mapping):
            return named(spec, result, self._names)
        own = [k for k in order if k in spec.differentiable]
        for names in (own, order):
            if isinstance(result, tuple | list) and len(result) == len(names):
                return dict(zip(names, result, strict=True))
        return result


def check_names(spec: Spec, *mappings: Mapping[str, Any]) -> None:
    """Raise ConventionError where a mapping of declared names has one that is not declared."""
    for name in (name for mapping in mappings for name in mapping):
        known = [*spec.given, *spec.constants]
        if name not in known:
            raise ConventionError(
                "convention", f"the spec declares no {name!r}; {nearest(name, known)}"
            )


def named(spec: Spec, found: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return gradients by declared names; what has no such name, or spelling, stays as it is."""
    left = dict(found)
    result: dict[str, Any] = {}
    for name in spec.given:
        own = [name, *({names[name]} if name in names else ())]
        for key in _likely(own):
            match = next((k for k in left if isinstance(k, str) and same(k, key)), None)
            if match is not None:
                result[name] = left.pop(match)
                break
    return result | left


def _likely(names: Iterable[str]) -> tuple[str, ...]:
    known = tuple(names)
    return (*known, *gradient_names(known))


def _remedy(options: str | None) -> str:
    if options is None:
        return (
            'say what it is called there with names={"...": "..."}, or pass all constants in one '
            'dict with options="..."'
        )
    return 'say what it is called there with names={"...": "..."}'
