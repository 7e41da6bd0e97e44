"""Why a planted fault survives: which cases it needs, or how far it stays below what is allowed."""

from collections.abc import Sequence

import numpy as np

from gradverify.audit.fault import Fault
from gradverify.audit.site import Site
from gradverify.audit.witness import Witness
from gradverify.layer import Layer
from gradverify.trial import Trial, make_oracle


def reason_and_remedy(
    fault: Fault, layer: Layer, shown: Witness, places: Sequence[Site]
) -> tuple[str, str]:
    """Return why the checks did not see a fault that shows at a witness, and what to change."""
    site, at = shown.site, shown.site.case.at
    if site.special:
        whose = "inputs" if site.kind == "input" else "parameters"
        return (
            f"it shows where {whose} have {site.special}, and no case that was tried does so",
            "declare the range that is meant, range=..., if such values cannot occur",
        )
    if site not in places:
        longer = {
            dim: max(place.case.at[dim] for place in places)
            for dim in layer.spec.dims
            if at[dim] > max(place.case.at[dim] for place in places)
        }
        if longer:
            needed = ", ".join(f"{dim} is {at[dim]}" for dim in longer)
            reached = ", ".join(f"{dim}={most}" for dim, most in longer.items())
            sizes = ", ".join(f'"{dim}": {at[dim]}' for dim in longer)
            return (
                f"it shows where {needed}; the cases reach {reached}",
                f"verify(layer, sizes={{{sizes}}})",
            )
        return f"it shows at {site.case}, which was not tried", "use --profile thorough"
    if fault.alter is None or make_oracle(layer.spec) is None:
        return "it shows in the calls of a layer, and no check asks for it", "report it"
    size, allowed = _largest(fault, layer, places)
    if size > 1:
        return f"it shows at {site.case}, and no check asks for it", "use --profile thorough"
    return (
        f"it changes no gradient by more than {size * allowed:.2g} of its terms, where "
        f"{allowed:.2g} is allowed for rounding",
        _larger(layer),
    )


def _largest(fault: Fault, layer: Layer, places: Sequence[Site]) -> tuple[float, float]:
    """Return the largest change in units of what is allowed, and what that is of the terms."""
    assert fault.alter is not None
    best = 0.0, 0.0
    for site in places:
        if site.case.dtype != "float64":
            continue
        reference = Trial(layer, site.case, make_oracle(layer.spec)).reference
        wrong = fault.alter(site.derived)
        for tensor, g in reference.gradients.items():
            allowance = reference.allowed_gradients[tensor]
            if np.shape(wrong[tensor]) != g.shape or not g.size or allowance.vacuous:
                continue
            ratio = float(np.max(np.abs(wrong[tensor] - g))) / allowance.value
            best = max(best, (ratio, allowance.value / allowance.terms))
    return best


def _larger(layer: Layer) -> str:
    """Return a change of the spec that makes small constants, such as eps, felt."""
    small = {k: v for k, v in layer.spec.constants.items()
             if all(isinstance(x, float) and abs(x) < 1e-2 for x in v)}  # fmt: skip
    if small:
        name, values = next(iter(small.items()))
        return f"declare {name}=Constant({', '.join(map(repr, values))}, 1e-2), so that it is felt"
    return "none is needed where rounding does as much"
