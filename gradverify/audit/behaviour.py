"""Faults of behaviour: wrong keys, shapes and dtypes, and what one call does to another."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gradverify.audit.fault import Array, Fault, Gradients, split
from gradverify.layer import Layer
from gradverify.spec import Spec

Results = tuple[Array, ...]


def behaviour_faults(spec: Spec) -> Iterator[Fault]:
    """Yield the faults of behaviour of a layer of a spec."""
    for tensor in spec.differentiable:
        yield from _returned(tensor)
        yield from _shared(tensor)
    for tensor in spec.given:
        yield from _mutated(tensor)
    yield from _extra()
    yield from _stateful()


def _of_returned(
    kind: str, name: str, told: str | None, what: str, change: Callable[[Gradients, Results], Any]
) -> Fault:
    """Return the fault that changes what a pullback returns, given the cotangents too."""

    def plant(layer: Layer) -> Callable[..., Any]:
        def function(**given: Any) -> Any:
            outputs, _, pullback, _ = split(layer, given)
            return outputs, lambda *dy: change(pullback(*dy), dy)

        return function

    return Fault(kind, f"{kind}:{name}", told, what, plant)


def _returned(tensor: str) -> Iterator[Fault]:
    """Yield gradients that are not there, or of another shape or dtype."""

    def replaced(change: Callable[[Array, Results], Any]) -> Callable[[Gradients, Results], Any]:
        return lambda g, dy: g | {tensor: change(np.asarray(g[tensor]), dy)}

    def absent(g: Gradients, _: Results) -> Gradients:
        return {k: v for k, v in g.items() if k != tensor}

    def repeated(g: Array, dy: Results) -> Array:
        n = dy[0].shape[0] if dy[0].ndim else 2
        return np.broadcast_to(g, (n, *g.shape)).copy()

    yield _of_returned("missing", f"none:{tensor}", "missing", f"d{tensor} is None",
                       replaced(lambda *_: None))  # fmt: skip
    yield _of_returned("missing", f"absent:{tensor}", "missing", f"d{tensor} is not returned",
                       absent)  # fmt: skip
    yield _of_returned("shape", f"leading:{tensor}", "shape",
                       f"d{tensor} has an axis of size 1 before its own",
                       replaced(lambda g, _: g[None]))  # fmt: skip
    yield _of_returned("shape", f"trailing:{tensor}", "shape",
                       f"d{tensor} has an axis of size 1 after its own",
                       replaced(lambda g, _: g[..., None]))  # fmt: skip
    yield _of_returned("shape", f"flat:{tensor}", "shape", f"d{tensor} is flattened",
                       replaced(lambda g, _: g.reshape(-1)))  # fmt: skip
    yield _of_returned("broadcast", f"batch:{tensor}", "broadcast",
                       f"d{tensor} is given for each of the batch, not summed",
                       replaced(repeated))  # fmt: skip
    yield _of_returned("dtype", f"float64:{tensor}", "dtype", f"d{tensor} is always float64",
                       replaced(lambda g, _: g.astype("float64")))  # fmt: skip
    yield _of_returned("dtype", f"float32:{tensor}", "dtype", f"d{tensor} is always float32",
                       replaced(lambda g, _: g.astype("float32")))  # fmt: skip


def _extra() -> Iterator[Fault]:
    yield _of_returned("missing", "extra", "missing", "a gradient of nothing that is declared",
                       lambda g, dy: g | {"undeclared": np.zeros_like(dy[0])})  # fmt: skip


def _shared(tensor: str) -> Iterator[Fault]:
    """Yield gradients whose memory, or whose sum, is that of another call."""

    def plant(add: bool, across: bool) -> Callable[[Layer], Callable[..., Any]]:
        def planted(layer: Layer) -> Callable[..., Any]:
            everywhere: dict[tuple[int, ...], Array] = {}

            def function(**given: Any) -> Any:
                outputs, _, pullback, _ = split(layer, given)
                kept = everywhere if across else {}

                def wrong(*dy: Array) -> Gradients:
                    g = pullback(*dy)
                    own = np.asarray(g[tensor])
                    buffer = kept.setdefault(own.shape, np.zeros(own.shape, own.dtype))
                    if buffer.dtype != own.dtype:
                        buffer = kept[own.shape] = np.zeros(own.shape, own.dtype)
                    buffer[...] = buffer + own if add else own
                    return g | {tensor: buffer.copy() if add else buffer}

                return outputs, wrong

            return function

        return planted

    for kind, way, told, what, planted in (
        ("accumulated", "pullback:", "accumulated", "adds up when a pullback is called again",
         plant(True, False)),
        ("accumulated", "layer:", "accumulated", "adds up from call to call", plant(True, True)),
        ("reused", "", "mutation", "is written into one buffer by all calls", plant(False, True)),
    ):  # fmt: skip
        yield Fault(kind, f"{kind}:{way}{tensor}", told, f"d{tensor} {what}", planted)


def _mutated(tensor: str) -> Iterator[Fault]:
    """Yield layers that change what they are given."""

    def changed(array: Array) -> None:
        array[...] = array + 1

    def plant(stage: str) -> Callable[[Layer], Callable[..., Any]]:
        def planted(layer: Layer) -> Callable[..., Any]:
            def function(**given: Any) -> Any:
                own = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in given.items()}
                outputs, _, pullback, _ = split(layer, own)
                if stage == "forward":
                    changed(given[tensor])

                def wrong(*dy: Array) -> Gradients:
                    g = pullback(*(np.array(d) for d in dy))
                    if stage == "pullback":
                        changed(given[tensor])
                    return g

                return outputs, wrong

            return function

        return planted

    for stage in ("forward", "pullback"):
        yield Fault("mutated", f"mutated:{stage}:{tensor}", "mutation",
                    f"the {stage} changes {tensor} in place", plant(stage))  # fmt: skip


def _stateful() -> Iterator[Fault]:
    yield Fault("stale", "stale:forward", "stale",
                "the pullback uses what the latest forward has kept", _latest)  # fmt: skip
    yield Fault("stale", "stale:gradient", "stale|nondeterministic",
                "gradients are those of the previous call", _previous)  # fmt: skip
    yield Fault("reused", "reused:output", "mutation",
                "outputs are written into one buffer by all calls", _one_output)  # fmt: skip
    yield Fault("mutated", "mutated:cotangent", "mutation",
                "the pullback changes its cotangent in place", _scaled_cotangent)  # fmt: skip
    for size in (1e-3, 1e-9):
        yield Fault("noise", f"noise:{size:g}", "nondeterministic",
                    f"gradients have random relative errors of {size:g}", _noisy(size))  # fmt: skip
    what = "gradients are doubled from the second use of a pullback on"
    yield Fault("second call", "second call:pullback", "accumulated", what, _later(False))
    what = "gradients are doubled in every second call of the layer"
    yield Fault("second call", "second call:layer", "nondeterministic", what, _later(True))


def _latest(layer: Layer) -> Callable[..., Any]:
    state: list[Callable[..., Gradients]] = []

    def function(**given: Any) -> Any:
        outputs, _, pullback, _ = split(layer, given)
        state[:] = [pullback]
        return outputs, lambda *dy: state[0](*dy)

    return function


def _previous(layer: Layer) -> Callable[..., Any]:
    state: dict[tuple[Any, ...], Gradients] = {}

    def function(**given: Any) -> Any:
        outputs, _, pullback, _ = split(layer, given)

        def wrong(*dy: Array) -> Gradients:
            own = pullback(*dy)
            key = tuple((k, np.shape(g), np.asarray(g).dtype) for k, g in own.items())
            found = state.get(key, own)
            state[key] = {k: np.array(g) for k, g in own.items()}
            return {k: np.array(g) for k, g in found.items()}

        return outputs, wrong

    return function


def _one_output(layer: Layer) -> Callable[..., Any]:
    kept: dict[tuple[Any, ...], Array] = {}

    def function(**given: Any) -> Any:
        outputs, _, pullback, _ = split(layer, given)
        own = []
        for k, y in enumerate(map(np.asarray, outputs)):
            buffer = kept.setdefault((k, y.shape, y.dtype), np.empty(y.shape, y.dtype))
            buffer[...] = y
            own.append(buffer)
        return tuple(own), pullback

    return function


def _scaled_cotangent(layer: Layer) -> Callable[..., Any]:
    def function(**given: Any) -> Any:
        outputs, _, pullback, _ = split(layer, given)

        def wrong(*dy: Array) -> Gradients:
            found = pullback(*(np.array(d) for d in dy))
            for d in dy:
                d[...] = 2 * d
            return found

        return outputs, wrong

    return function


def _noisy(size: float) -> Callable[[Layer], Callable[..., Any]]:
    def planted(layer: Layer) -> Callable[..., Any]:
        rng = np.random.default_rng(0)

        def function(**given: Any) -> Any:
            outputs, _, pullback, _ = split(layer, given)

            def wrong(*dy: Array) -> Gradients:
                return {
                    k: (g * (1 + size * rng.standard_normal(np.shape(g)))).astype(g.dtype)
                    for k, g in ((k, np.asarray(g)) for k, g in pullback(*dy).items())
                }

            return outputs, wrong

        return function

    return planted


def _later(of_layer: bool) -> Callable[[Layer], Callable[..., Any]]:
    def planted(layer: Layer) -> Callable[..., Any]:
        calls = [0]

        def function(**given: Any) -> Any:
            outputs, _, pullback, _ = split(layer, given)
            calls[0] += 1
            odd, uses = calls[0] % 2 == 1, [0]

            def wrong(*dy: Array) -> Gradients:
                found = pullback(*dy)
                uses[0] += 1
                right = odd if of_layer else uses[0] == 1
                return found if right else {k: 2 * np.asarray(g) for k, g in found.items()}

            return outputs, wrong

        return function

    return planted
