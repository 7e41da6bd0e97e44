"""Whether an nn.Module has the parameters and buffers that a spec declares, and no others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradverify.errors import UsageError, nearest
from gradverify.layer import ConventionError
from gradverify.notation.tree import text
from gradverify.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Declared:
    """What of a module is declared: dotted names in the module by declared name, where they
    differ, and the reasons, by dotted name, for what is not declared."""

    params: Mapping[str, str]
    buffers: Mapping[str, str]
    left_out: Mapping[str, str]

    def __post_init__(self) -> None:
        for name, reason in self.left_out.items():
            if not isinstance(reason, str) or not reason.strip():
                raise UsageError(
                    f"torch_module(left_out={{{name!r}: {reason!r}}}): say why it is not declared"
                )

    def names(self, spec: Spec) -> dict[str, str]:
        """Return the dotted name of each declared parameter and buffer.

        Raises UsageError for an option that names none.
        """
        found: dict[str, str] = {}
        for kind, given in (("param", self.params), ("buffer", self.buffers)):
            declared = [k for k, t in spec.tensors.items() if t.kind == kind]
            for name in given:
                if name not in declared:
                    hint = nearest(name, declared) if declared else f"{spec.name} has none"
                    raise UsageError(
                        f"torch_module({kind}s={{{name!r}: ...}}): {spec.name} declares no {kind} "
                        f"{name!r}; {hint}"
                    )
            found |= {k: given.get(k, k) for k in declared}
        return found

    def check(self, spec: Spec, module: "nn.Module", tensors: "Mapping[str, Tensor]") -> None:
        """Raise ConventionError where spec and module do not have the same of them, of the shapes
        that the tensors have."""
        kind, names = type(module).__name__, self.names(spec)
        params, buffers = dict(module.named_parameters()), dict(module.named_buffers())
        for name, dotted in names.items():
            if spec.tensors[name].kind == "param":
                _check_param(name, dotted, params, buffers, kind)
            else:
                _check_buffer(name, dotted, params, buffers, kind)
            own = params[dotted] if dotted in params else buffers[dotted]
            _check_shape(spec, name, f"{dotted} of {kind}", own, tensors[name])
        for what, found in (("parameter", params), ("buffer", buffers)):
            for dotted, value in found.items():
                if dotted in names.values() or dotted in self.left_out or counts(value):
                    continue
                how = "Param" if what == "parameter" else "Buffer"
                raise ConventionError(
                    "undeclared",
                    f"{kind} has the {what} {dotted!r}, of shape {tuple(value.shape)}, and "
                    f"{spec.name} does not declare it: declare a {how} for it, or say why not, "
                    f'torch_module(..., left_out={{"{dotted}": "..."}})',
                )
        for dotted in self.left_out:
            if dotted not in params and dotted not in buffers:
                raise ConventionError(
                    "undeclared",
                    f"torch_module(left_out={{{dotted!r}: ...}}): {kind} has no such parameter or "
                    f"buffer; {_known(dotted, params, buffers)}",
                )


def counts(buffer: "Tensor") -> bool:
    """Whether a buffer is a count, such as num_batches_tracked."""
    import torch

    other = buffer.is_floating_point() or buffer.is_complex() or buffer.dtype is torch.bool
    return buffer.ndim == 0 and not other


Named = Mapping[str, "Tensor"]


def _check_param(name: str, dotted: str, params: Named, buffers: Named, kind: str) -> None:
    if dotted in buffers:
        raise ConventionError(
            "undeclared",
            f"{dotted} is a buffer of {kind}, which no optimizer steps, and {name} is declared as "
            f"a parameter: declare {name}=Buffer(...)",
        )
    if dotted not in params:
        raise _missing("parameter", name, dotted, params, buffers, kind)
    if not params[dotted].requires_grad:
        raise ConventionError(
            "frozen",
            f"{dotted} of {kind} is frozen (requires_grad=False), and {name} is declared as a "
            f"parameter: declare {name}=Buffer(...), or do not freeze it",
        )


def _check_buffer(name: str, dotted: str, params: Named, buffers: Named, kind: str) -> None:
    # A parameter that is frozen is one that no gradient changes.
    if dotted in params and params[dotted].requires_grad:
        raise ConventionError(
            "undeclared",
            f"{dotted} of {kind} is trained (requires_grad=True), and {name} is declared as a "
            f"buffer: declare {name}=Param(...)",
        )
    if dotted not in params and dotted not in buffers:
        raise _missing("buffer", name, dotted, params, buffers, kind)


def _check_shape(spec: Spec, name: str, what: str, own: "Tensor", given: "Tensor") -> None:
    from torch.nn.parameter import is_lazy

    if is_lazy(own) or own.shape == given.shape:
        return
    sizes = zip(map(text, spec.shapes[name]), own.shape, strict=False)
    where = ", ".join(f'"{size} == {n}"' for size, n in sizes if size in spec.dims)
    raise ConventionError(
        "shape",
        f"{what} has the shape {tuple(own.shape)}, and {name} {spec.shape_text(name)} = "
        f"{tuple(given.shape)}: make it of the same sizes; those of a module that is there already "
        f"are declared, where=[{where}]",
    )


def _missing(
    what: str, name: str, dotted: str, params: Named, buffers: Named, kind: str
) -> ConventionError:
    option = "params" if what == "parameter" else "buffers"
    return ConventionError(
        "undeclared",
        f"{kind} has no {what} {dotted!r}; {_known(dotted, params, buffers)}. Where it has another "
        f'name in the module: torch_module(..., {option}={{"{name}": "..."}})',
    )


def _known(dotted: str, params: Named, buffers: Named) -> str:
    known = [*params, *buffers]
    return nearest(dotted, known) if known else "it has none at all"
