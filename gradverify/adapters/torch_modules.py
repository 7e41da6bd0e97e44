"""An nn.Module called with declared tensors in place of its own parameters and buffers."""

import copy
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradverify.adapters.sizes import sizes_of
from gradverify.adapters.torch_arrays import outputs_of
from gradverify.adapters.torch_declared import Declared, counts
from gradverify.adapters.torch_functions import is_of_torch
from gradverify.adapters.torch_shared import differing, frozen
from gradverify.adapters.torch_words import told
from gradverify.errors import nearest
from gradverify.layer import ConventionError
from gradverify.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor, nn

# Another value of a counter differs from it by this much.
COUNTED = 7
# Modules are made with this seed.
INITIAL = 0
CHOOSE = "say which are meant, torch_module(..., call=lambda module, {0}: module({0})[0])"


@dataclass(frozen=True)
class Module:
    """How a module is made, how it is called, and what of it is declared.

    `made` is a module, or what makes one of sizes and constants; `call(module, **inputs)` is how
    it is called, None for the inputs in declared order.
    """

    made: "nn.Module | Callable[..., nn.Module]"
    call: Callable[..., Any] | None
    declared: Declared
    seed: int | None
    _kept: "dict[Any, nn.Module]" = field(default_factory=dict, repr=False)
    _harmless: set[Any] = field(default_factory=set, repr=False)

    def makes(self, kind: str) -> bool:
        """Whether tensors of a kind are the module's own: its parameters and buffers."""
        return kind != "input"

    def forget(self) -> None:
        """Drop the modules that were made, with all that they keep."""
        self._kept.clear()

    @property
    def forward(self) -> Callable[..., Any] | None:
        """The forward of the module that was made, where a person wrote that."""
        for module in self._kept.values():
            if not is_of_torch(type(module)):
                return type(module).forward
        return None

    def run(
        self, spec: Spec, tensors: "Mapping[str, Tensor]", constants: Mapping[str, Any]
    ) -> "dict[str, Tensor]":
        """Call the module with declared tensors and return its outputs by name, the next values of
        buffers among them.

        Raises ConventionError where the module has other parameters or buffers than declared, and
        where buffers change that should not, or change what is returned.
        """
        module = self._module(spec, tensors, constants)
        self.declared.check(spec, module, tensors)
        with frozen(self.seed):
            found = self._called(spec, module, tensors, constants)
        self._check_counters(spec, module, tensors, constants)
        return {k: found[k] for k in spec.outputs}

    def _module(
        self, spec: Spec, tensors: "Mapping[str, Tensor]", constants: Mapping[str, Any]
    ) -> "nn.Module":
        """Return the module for sizes and constants, in the precision of the tensors and in the
        mode that `train` says; the same object, with all it keeps, until it is forgotten."""
        from torch import nn

        arguments: dict[str, Any] = {}
        if not isinstance(self.made, nn.Module):
            arrays = {k: t.detach().numpy() for k, t in tensors.items()}
            known = {**constants, **sizes_of(spec, arrays, constants)}
            arguments = self._arguments(spec, known)
        dtypes = [t.dtype for t in tensors.values() if t.is_floating_point()][:1]
        key = (*arguments.items(), *dtypes)
        if key not in self._kept:
            if isinstance(self.made, nn.Module):
                module = _copied(self.made, dtypes)
            else:
                with frozen(INITIAL):  # what is left out starts with the same values each time
                    module = self.made(**arguments)
            if not isinstance(module, nn.Module):
                kind = type(module).__name__
                raise ConventionError(
                    "convention", f"what torch_module was given made a {kind}, not an nn.Module"
                )
            for dtype in dtypes:
                module = module.to(dtype)
            self._kept[key] = module
        module = self._kept[key]
        if isinstance(constants.get("train"), bool):
            module.train(constants["train"])
        return module

    def _arguments(self, spec: Spec, known: Mapping[str, Any]) -> dict[str, Any]:
        """Return the sizes and constants that the factory asks for by name."""
        assert callable(self.made)
        names, missing = taken(self.made, known)
        for name in missing:
            raise ConventionError(
                "convention",
                f"torch_module: {name!r} is asked for to make the module, and is no dimension or "
                f"constant of {spec.name}; {nearest(name, known)}",
            )
        return {k: known[k] for k in names}

    def _called(
        self,
        spec: Spec,
        module: "nn.Module",
        tensors: "Mapping[str, Tensor]",
        constants: Mapping[str, Any],
        counted: int = 0,
    ) -> "dict[str, Tensor]":
        """Return the outputs by name, and by dotted name what undeclared buffers are afterwards.

        Counters are given with `counted` added.
        """
        from torch.func import functional_call

        names = self.declared.names(spec)
        state = {dotted: tensors[k] for k, dotted in names.items()}
        own = {k: b.detach() for k, b in module.named_buffers() if k not in state}
        # A module writes to its buffers: to those that are given for them, not to the caller's.
        buffers = {k: b + counted if counts(b) else b.clone() for k, b in own.items()}
        buffers |= {names[k]: tensors[k].clone() for k in names if spec.tensors[k].kind == "buffer"}
        before = {k: b.clone() for k, b in buffers.items()}
        after = state | buffers
        inputs = {k: tensors[k] for k in spec.inputs}
        with told(spec):
            if self.call is None:
                _check_takes(module, tuple(inputs))
                result = functional_call(module, after, tuple(inputs.values()))
            else:
                chosen, _ = taken(self.call, constants)
                inputs |= {k: constants[k] for k in chosen}
                named = {f"module.{k}": t for k, t in after.items()}
                result = functional_call(_wrapped(module, self.call), named, kwargs=inputs)
                after = {k: named[f"module.{k}"] for k in after}
        self._check_kept(spec, module, before, after)
        remedy = CHOOSE.format(", ".join(spec.inputs))
        kind = type(module).__name__
        outputs = outputs_of(result, spec.differentiable_outputs, kind, remedy)
        next_values = {y: after[names[k]] for k, y in spec.updates.items()}
        return outputs | next_values | {k: after[k] for k in own}

    def _check_counters(
        self,
        spec: Spec,
        module: "nn.Module",
        tensors: "Mapping[str, Tensor]",
        constants: Mapping[str, Any],
    ) -> None:
        """Raise ConventionError where a counter that is not declared changes what is returned."""
        known = {*self.declared.names(spec).values(), *self.declared.left_out}
        counters = [k for k, b in module.named_buffers() if counts(b) and k not in known]
        key = (*counters, module.training, *constants.items())
        if not counters or key in self._harmless:
            return
        answers = []
        for counted in (0, COUNTED):
            with frozen(0):
                answers.append(self._called(spec, module, tensors, constants, counted))
        rest = {k: v for k, v in answers[0].items() if k not in counters}
        if name := differing(rest, answers[1]):
            raise ConventionError(
                "undeclared",
                f"{type(module).__name__} counts in the buffer {counters[0]!r} and returns another "
                f"{name} at another count: declare it, or let nothing depend on it (in batch norm, "
                "momentum=None does)",
            )
        self._harmless.add(key)

    def _check_kept(
        self,
        spec: Spec,
        module: "nn.Module",
        before: "Mapping[str, Tensor]",
        after: "Mapping[str, Tensor]",
    ) -> None:
        """Raise ConventionError where a buffer has changed that should not."""
        kind = type(module).__name__
        unchanging = {dotted: k for k, dotted in self.declared.names(spec).items()
                      if k not in spec.updates}  # fmt: skip
        for name, value in before.items():
            if not differing({name: value}, after):
                continue
            if not module.training:
                raise ConventionError(
                    "eval",
                    f"the buffer {name!r} of {kind} changes in eval mode: update it under `if "
                    "self.training:`",
                )
            if name in unchanging:
                declared = unchanging[name]
                raise ConventionError(
                    "undeclared",
                    f"the buffer {name!r} of {kind} changes in a forward, and {declared} is "
                    f'declared without a next value: {declared}=Buffer(..., update="new_'
                    f'{declared}"), new_{declared}=Output(...)',
                )


def _check_takes(module: "nn.Module", inputs: tuple[str, ...]) -> None:
    """Raise ConventionError where a module is not called with inputs in declared order."""
    signature = inspect.signature(module.forward)
    try:
        signature.bind(*inputs)
    except TypeError:
        shown, kind = ", ".join(inputs), type(module).__name__
        raise ConventionError(
            "convention",
            f"{kind}.forward{signature} cannot be called with {shown}: say how it is, "
            f"torch_module(..., call=lambda module, {shown}: module(...))",
        ) from None


def taken(
    function: Callable[..., Any], known: Collection[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return which of `known` a function takes by name, and what else it needs."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return tuple(known), ()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    needed = (p.name for p in named if p.default is p.empty and p.name not in known)
    return tuple(p.name for p in named if p.name in known), tuple(needed)


def _copied(module: "nn.Module", dtypes: Sequence[Any]) -> "nn.Module":
    """Return a copy of a module with parameters that take no memory, since others replace them: of
    one of the dtypes, as to convert them later would take it."""
    from torch import nn

    memo: dict[int, Any] = {}
    for p in module.parameters():
        dtype = dtypes[0] if dtypes and p.is_floating_point() else p.dtype
        empty = p.detach().new_zeros((), dtype=dtype).expand(p.shape)
        memo[id(p)] = nn.Parameter(empty, p.requires_grad)
    return copy.deepcopy(module, memo)


def _wrapped(module: "nn.Module", call: Callable[..., Any]) -> "nn.Module":
    """Return a module that is called as a person says that another one is."""
    from torch import nn

    class Called(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module
            self.training = module.training

        def forward(self, **given: Any) -> Any:
            return call(self.module, **given)

    return Called()
