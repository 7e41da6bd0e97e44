"""What is asked of an object that is used for many steps: does its own update follow its gradients,
and does what it keeps stay as much as it is?"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from gradverify.adapter import Flaw
from gradverify.adapters.arguments import alike, signature_of
from gradverify.adapters.place import attributes, kept
from gradverify.adapters.used import Used

# A power of two, so that to multiply by it is exact.
RATE = 0.125
_RATES = ("lr", "learning_rate", "eta", "rate", "step_size", "alpha", "epsilon")
# Rounding of a step, in units of what is added up.
_ROUNDING = 8.0
# After so many steps what is kept has grown each time.
_STEPS = 3


@dataclass(frozen=True)
class Rule:
    """A method that takes a step of gradient descent, and the name of the learning rate, an
    argument of it or an attribute; None where that has a usual name."""

    method: str
    rate: str | None = None


def follows(rule: Rule, used: Used) -> Iterator[Flaw]:
    """Yield how the object's own update, called after a backward, differs from a step along minus
    its gradients."""
    thing, places = used.thing, used.places
    method = getattr(thing, rule.method, None)
    if not callable(method):
        yield _unusable(f"the object has no method {rule.method}, which update names; it has "
                        f"{kept(thing)}")  # fmt: skip
        return
    before = {k: np.array(places[k].get(thing)) for k in used.grads}
    gradients = {k: np.array(place.get(thing)) for k, place in used.grads.items()}
    for name, value in before.items():
        places[name].set(thing, value.copy())
    told = f"{rule.method}({RATE:g})"
    signature = signature_of(method)
    own = [*signature.parameters] if signature else []
    wanted = (rule.rate,) if rule.rate else _RATES
    argument = next((a for n in wanted if (a := alike(n, own)) is not None), None)
    if argument is None and len(own) == 1 and rule.rate is None:
        argument = own[0]
    attribute = next((a for n in wanted if (a := alike(n, list(attributes(thing)))) is not None),
                     None)  # fmt: skip
    if argument is not None:
        method(**{argument: RATE})
    elif attribute is not None:
        setattr(thing, attribute, RATE)
        told = f"{rule.method}(), with self.{attribute} = {RATE:g},"
        method()
    else:
        yield _unusable(
            f"{rule.method}{signature} takes no learning rate, and the object has no attribute "
            f'that is called like one: say which with update=("{rule.method}", "...")'
        )
        return
    for name, old in before.items():
        new = np.asarray(places[name].get(thing))
        message = _told(old, new, gradients[name])
        if message:
            yield Flaw("update_rule", name, f"{told} {message.format(places[name])}")


def _unusable(message: str) -> Flaw:
    return Flaw("update_rule", None, message)


def _told(old: Any, new: Any, gradient: Any) -> str:
    """Return how a step is not minus the rate times the gradient, "" where it is."""
    if new.shape != old.shape:
        return f"makes {{}} one of shape {new.shape}, which had {old.shape}"
    if gradient.shape != old.shape:
        return ""  # the gradient itself is wrong
    wanted, step = -RATE * gradient, new - old
    unit = float(np.finfo(old.dtype).eps)
    off = np.abs(step - wanted)
    wrong = ~(off <= _ROUNDING * unit * (np.abs(old) + np.abs(new) + np.abs(wanted)))
    if not np.any(wrong):
        return ""
    if not np.any(step):
        return "leaves {} as it is, where its gradient is not 0"
    k = np.unravel_index(int(np.argmax(np.where(wrong, off, 0))), old.shape)
    index = f"[{', '.join(str(int(i)) for i in k)}]" if k else ""
    message = (
        f"changed {{}} by {step[k]:.6g} at {index or 'its value'}, where -{RATE:g} times its "
        f"gradient is {wanted[k]:.6g}"
    )
    big = np.abs(wanted) > np.sqrt(unit) * np.max(np.abs(wanted))
    ratios = step[big] / wanted[big]
    if ratios.size and np.ptp(ratios) <= 1e-3 * np.max(np.abs(ratios)):
        ratio = float(np.mean(ratios))
        what = "it goes up the gradient" if abs(ratio + 1) < 1e-3 else f"{ratio:.4g} times as far"
        message += f": {what}"
    return message


def grows(thing: Any, step: Callable[[], None]) -> Iterator[Flaw]:
    """Yield which attributes keep more arrays after each step."""
    counts = [_counts(thing)]
    for _ in range(_STEPS - 1):
        step()
        counts.append(_counts(thing))
    for name in counts[0]:
        kept_then = [count.get(name, 0) for count in counts]
        if all(a < b for a, b in pairwise(kept_then)):
            more = kept_then[1] - kept_then[0]
            yield Flaw(
                "grows",
                None,
                f"self.{name} keeps {more} more after each forward and backward: memory grows for "
                "as long as it is trained",
                severity="warning",
            )


def _counts(thing: Any) -> dict[str, int]:
    return {k: len(v) for k, v in attributes(thing).items() if isinstance(v, list | Mapping)}
