"""What calls torch with arrays, and autograd for gradients: one adapter of all that is of torch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from gradverify.adapter import Adapter, Flaw
from gradverify.adapters.torch_arrays import Array, apart, to_array, to_tensor
from gradverify.adapters.torch_derivatives import double_vjp, jvp
from gradverify.adapters.torch_functions import backward_of, written_functions
from gradverify.adapters.torch_shared import undrawn, working
from gradverify.adapters.torch_words import WORDS
from gradverify.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


class Source(Protocol):
    """What is called with tensors: a module or a function. `seed` freezes what it draws."""

    @property
    def seed(self) -> int | None:
        """The seed of torch's generator in each call, None where it is left alone."""

    @property
    def forward(self) -> Callable[..., Any] | None:
        """The forward that a person wrote, where only the calls before tell."""

    def run(
        self, spec: Spec, tensors: "Mapping[str, Tensor]", constants: Mapping[str, Any]
    ) -> "dict[str, Tensor]":
        """Return the outputs by name."""

    def makes(self, kind: str) -> bool:
        """Whether tensors of a kind are its own, so that they lie in memory as torch makes them."""

    def forget(self) -> None:
        """Drop what earlier calls left."""


class TorchAdapter(Adapter):
    """A module or a function of torch as a layer."""

    words = WORDS

    def __init__(
        self, source: Source, written: tuple[Callable[..., Any], Callable[..., Any]], name: str
    ) -> None:
        super().__init__(written, name)
        self.jvp, self.double_vjp = self._jvp, self._double_vjp
        self._source, self._functions = source, set[Any]()

    def renew(self) -> None:
        """Have a module made anew."""
        self._source.forget()

    def __call__(
        self, spec: Spec, tensors: Mapping[str, Any], constants: Mapping[str, Any]
    ) -> tuple[Any, Callable[..., Any]]:
        """Return (outputs, pullback) at arrays."""
        given = self._leaves(spec, tensors)
        with working(given.values()), undrawn(self.__name__):
            outputs = self._source.run(spec, given, constants)
        self._functions = written_functions(outputs.values())
        if len(self._functions) == 1:
            self.written = (self.written[0], backward_of(*self._functions))
        elif self._source.forward is not None:
            self.written = (self.written[0], self._source.forward)

        def pullback(*cotangents: Any) -> dict[str, Any]:
            found = self._gradients(spec, given, outputs, cotangents)
            return dict(zip(found, apart([*found.values()], cotangents), strict=True))

        return tuple(to_array(y, f"output {k}") for k, y in outputs.items()), pullback

    def _gradients(
        self,
        spec: Spec,
        given: "Mapping[str, Tensor]",
        outputs: "Mapping[str, Tensor]",
        cotangents: Sequence[Any],
    ) -> dict[str, Any]:
        """Return the gradient of each tensor that takes one, by name, None where there is none."""
        import torch

        pairs = zip(spec.differentiable_outputs, cotangents, strict=True)
        flowing = [(outputs[k], to_tensor(dy)) for k, dy in pairs if outputs[k].requires_grad]
        names = [k for k in spec.differentiable if given[k].requires_grad]
        if not flowing:
            return dict.fromkeys(names)
        ys, dys = zip(*flowing, strict=True)
        wrt = [given[k] for k in names]
        with working(given.values()):
            found = torch.autograd.grad(ys, wrt, dys, retain_graph=True, allow_unused=True)
        return {k: None if g is None else to_array(g, f"the gradient of {k}")
                for k, g in zip(names, found, strict=True)}  # fmt: skip

    def flaws(
        self,
        spec: Spec,
        tensors: Mapping[str, Any],
        constants: Mapping[str, Any],
        cotangents: Sequence[Any],
    ) -> Iterator[Flaw]:
        """Yield which gradients are others where they are asked for alone, as where all other
        parameters are frozen: an index of ctx.needs_input_grad is wrong then."""
        if not self._functions:
            return  # torch's own have no index to mistake
        largest = max((float(np.max(np.abs(dy), initial=0.0)) for dy in cotangents), default=0.0)

        def gradients(*names: str) -> dict[str, Any]:
            given = self._given(spec, tensors)
            for name in names:
                given[name].requires_grad_()
            with working(given.values()):
                outputs = self._source.run(spec, given, constants)
            return self._gradients(spec, given, outputs, cotangents)

        together, again = (gradients(*spec.differentiable) for _ in range(2))
        for name, right in together.items():
            found = gradients(name)[name]
            # What is not the same twice is not for that reason another one.
            if _near(found, right, largest) or not _near(again[name], right, largest):
                continue
            others = ", ".join(k for k in together if k != name)
            how = "there is none" if found is None else "it is another one"
            yield Flaw(
                "frozen",
                name,
                f"asked for the gradient of {name} alone, and not that of {others} "
                f"(requires_grad=False), {how}: look at the indices of ctx.needs_input_grad",
            )

    def _jvp(
        self,
        spec: Spec,
        tensors: Mapping[str, Any],
        tangents: Mapping[str, Any],
        constants: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return the derivatives of the outputs along tangents, at arrays."""
        given = self._given(spec, tensors)
        along = {k: to_tensor(v) for k, v in tangents.items()}
        with working(given.values()):
            found = jvp(lambda duals: self._source.run(spec, duals, constants), given, along)
        return {k: to_array(found[k], f"the tangent of {k}") for k in spec.differentiable_outputs}

    def _double_vjp(
        self,
        spec: Spec,
        tensors: Mapping[str, Any],
        cotangents: Mapping[str, Any],
        seeds: Mapping[str, Any],
        constants: Mapping[str, Any],
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the gradients of <seeds, gradients> for tensors and for cotangents, at arrays."""
        given, names = self._leaves(spec, tensors), spec.differentiable
        wrt = [given[k] for k in names]
        dys = {k: to_tensor(cotangents[k]).requires_grad_() for k in spec.differentiable_outputs}
        along = [to_tensor(seeds[k] if k in seeds else np.zeros_like(tensors[k])) for k in names]
        with working(given.values()):
            outputs = self._source.run(spec, given, constants)
            found = double_vjp([outputs[k] for k in dys], wrt, [*dys.values()], along)
        arrays = [to_array(g, "a gradient of second order") for g in found]
        return (
            dict(zip(names, arrays, strict=False)),
            dict(zip(dys, arrays[len(names) :], strict=True)),
        )

    def _leaves(self, spec: Spec, tensors: Mapping[str, Any]) -> "dict[str, Tensor]":
        """Return tensors that gradients are taken for where they are differentiable."""
        from torch import nn

        found = {}
        for k, value in self._given(spec, tensors).items():
            # The code of a module may ask of which class its parameters are.
            found[k] = (nn.Parameter(value) if spec.tensors[k].kind == "param"
                        else value.requires_grad_(spec.tensors[k].differentiable))  # fmt: skip
        return found

    def _given(self, spec: Spec, tensors: Mapping[str, Any]) -> "dict[str, Tensor]":
        found = {}
        for k in spec.given:
            # What is drawn at random is drawn in the order of memory.
            plain = self._source.seed is not None or self._source.makes(spec.tensors[k].kind)
            found[k] = to_tensor(np.asarray(tensors[k], order="C") if plain else tensors[k])
        return found


def _near(a: Array | None, b: Array | None, largest: float) -> bool:
    """Whether two gradients, of cotangents up to `largest`, are the same but for rounding."""
    if a is None or b is None or a.shape != b.shape:
        return a is b
    scale = max(largest, float(np.max(np.abs(b), initial=0.0, where=np.isfinite(b))))
    allowed = np.sqrt(np.finfo(b.dtype).eps) * scale
    return np.allclose(a, b, rtol=0.0, atol=allowed, equal_nan=True)
