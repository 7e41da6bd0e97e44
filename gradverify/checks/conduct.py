"""How a forward mode or a double backward behaves, whatever it computes: as `contract` asks it of a
pullback."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import numpy as np

from gradverify.adapter import NotOffered
from gradverify.cases import Array, draw, is_large
from gradverify.checks.agreement import DIGITS, equal, largest, near, slack
from gradverify.checks.linear import SCALES, A, B, overflowed
from gradverify.checks.observation import Observation, failed
from gradverify.checks.offered import Offered, Returned
from gradverify.checks.returned import array_as_declared
from gradverify.layer import ConventionError
from gradverify.result import NOT_OFFERED, Status
from gradverify.trial import LayerRaised


def conduct(one: Offered) -> Iterator[Observation]:
    """Yield what is wrong with what was returned, then with what other calls return.

    What is right is no news: that it is what is derived is asked by others.
    """
    try:
        returned, _ = one.first
    except LayerRaised as raised:
        cause = raised.__cause__
        if isinstance(cause, NotOffered):
            why = f"{NOT_OFFERED}{cause}"
            yield Observation("raises", None, Status.NOT_APPLICABLE, why, powered=False)
        elif isinstance(cause, ConventionError):
            yield failed(cause.question, None, str(raised))
        else:
            yield failed("raises", None, str(raised))
        return
    wrong = [*_as_declared(one, returned)]
    yield from wrong
    if returned.changed:
        yield failed("mutates", None, f"{one.who} writes to {', '.join(returned.changed)}: "
                                      "work on a copy")  # fmt: skip
        return
    if is_large(one.trial.spec):
        return  # a call takes long, and what is compared with what is derived are its values
    told = {o.tensor for o in wrong}
    yield from (o for o in _again(one) if o.tensor not in told)


def _as_declared(one: Offered, returned: Returned) -> Iterator[Observation]:
    trial = one.trial
    for name in returned.extra:
        due = ", ".join(one.tensors)
        yield failed("extra", None, f"{one.who} returns something for {name!r}, where {due} are "
                                    "due")  # fmt: skip
    for name in one.tensors:
        value = returned.values.get(name)
        if value is None:
            how = "None" if name in returned.values else "missing"
            yield failed("missing", name, f"{one.key(name)} is {how}")
            continue
        for seen in array_as_declared(trial, name, value, one.key(name)):
            bad = seen.outcome is Status.FAILED
            if bad and not (seen.question == "finite" and _beyond(one, name)):
                yield seen


def _beyond(one: Offered, name: str) -> bool:
    """Whether a result may be nan or infinite: in float16 much exceeds the range on its way."""
    return one.trial.case.dtype == "float16" or not one.within_range(name)


def _again(one: Offered) -> Iterator[Observation]:
    """Ask again: after a call at other values, along nothing, along far larger directions, and
    along a sum."""
    _disturb(one)
    first, own = one.first
    shared = [k for k in own if not equal(own[k], np.array(first.values[k], float))]
    again, steady = one.fitting(one.call()), []
    for name in own:
        if name in shared:
            yield failed("overwritten", name, f"{one.key(name)} that was returned is changed by a "
                                              "later call: return an array of its own")  # fmt: skip
        elif name in again and _agrees(one, name, own[name], again[name]):
            steady.append(name)
        else:
            yield failed("repeatable", name, f"the same call twice, with one at other values in "
                         f"between, gives two values of {one.key(name)}")  # fmt: skip
    yield from _linear(one, steady)


def _disturb(one: Offered) -> None:
    """Call the layer at other values, which may be none that it is meant for."""
    trial, case = one.trial, one.trial.case
    other = draw(trial.spec, case.other())
    with suppress(LayerRaised):
        one.at(replace(trial, given=other)).call()


def _linear(one: Offered, names: list[str]) -> Iterator[Observation]:
    own, along = one.got, one.along
    nothing = one.fitting(one.call({k: np.zeros_like(v) for k, v in along.items()}))
    scale = -(2.0 ** SCALES[one.trial.case.dtype])
    large = one.fitting(one.call({k: np.asarray(scale * v, v.dtype) for k, v in along.items()}))
    rng = np.random.default_rng([one.trial.case.seed, 16])
    # Smaller than the first's, so that what is allowed to these is enough.
    less = {k: np.asarray(rng.uniform(-1, 1, v.shape) * v, v.dtype) for k, v in along.items()}
    both = {k: np.asarray(A * v + B * less[k], v.dtype) for k, v in along.items()}
    part, total = one.fitting(one.call(less)), one.fitting(one.call(both))
    for name in names:
        what, of = one.key(name), f"{one.direction}s"
        if not np.all(np.isfinite(own[name])):
            continue
        if np.any(nothing.get(name, 0.0) != 0):
            yield failed("zero", name, f"{what} is not 0 along {of} of 0")
            continue
        pairs = {
            f"along {scale:g} times the {of} is not {scale:g} times what it is along them":
                (scale * own[name], large.get(name), abs(scale)),
        }  # fmt: skip
        if name in part:
            sums = A * own[name] + B * part[name], total.get(name), 1 + abs(A) + abs(B)
            pairs[f"along a sum of {of} is not the sum of what it is along each"] = sums
        for told, (a, b, factor) in pairs.items():
            if b is not None and not _agrees(one, name, a, b, factor):
                yield from _not_linear(one, name, a, b, f"{what} {told}")
                break


def _not_linear(one: Offered, name: str, a: Array, b: Array, told: str) -> Iterator[Observation]:
    """Yield that a result is not linear or, where only digits are lost, that it loses them."""
    with np.errstate(all="ignore"):
        digits = bool(np.max(np.abs(a - b)) <= DIGITS * largest([a]))
    if not (digits and one.trial.case.dtype == "float64"):
        yield failed("linear", name, told)
    elif one.trial.oracle is None:  # else what is derived has all digits
        yield failed("precision", name, f"{told}, to the digits of a lower precision only")


def _agrees(one: Offered, name: str, a: Array, b: Array, scale: float = 1.0) -> bool:
    """Whether a result of another call is what it should be."""
    if equal(a, b) or overflowed(one.trial, a, b):
        return True
    if one.trial.oracle is not None:
        return near(a, b, slack(one.trial, a, one.allowed[name], scale))
    arrays = one.trial.arrays
    around = largest([*arrays.tensors.values(), *arrays.cotangents, *one.got.values()])
    return near(a, b, slack(one.trial, a, around, scale))
