"""descent: one step along the gradients lowers the loss, for every parameter by the same code."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from gradverify.calculus.noise import BLOCK
from gradverify.cases import Array, is_large
from gradverify.checks.finite_difference import scale
from gradverify.checks.observation import Observation
from gradverify.checks.problem import Problem, Tensors, problem_of, sgd_step, squared
from gradverify.evidence import LossCurve, rounded
from gradverify.numerics.finite_difference import (
    FACTOR,
    FEW_LEVELS,
    LEVELS,
    Estimate,
    cap,
    derivative,
    first_step,
)
from gradverify.result import Status
from gradverify.trial import Trial, dot

# The fraction of the promised decrease that Armijo's condition asks for; Nocedal and Wright
# (2006), Numerical Optimization, section 3.1, use the same.
ARMIJO = 1e-4
# Rates are halved this often at most: from the largest sensible one down to the rounding floor.
HALVINGS = 60
# Steps of plain descent.
STEPS = 5
# Of the elements that stand still, this many are asked whether the loss depends on them.
STILL = 6
# A gradient of which more than this part may be rounding points nowhere.
BLUR = 0.5
# A curve has so many rates, up to this many times the one that is chosen.
POINTS, BEYOND = 25, 3.0
# A squared norm below this is about to underflow: the gradient is zero for all that can be seen.
# One above its inverse is about to overflow: no rate could be small enough.
TINY = 1e-250


def examine(trial: Trial) -> Iterator[Observation]:
    """Step the parameters together and each alone at one rate; then the inputs likewise."""
    if not trial.shaped:
        return
    problem = problem_of(trial, start=False)
    gradients = problem.slopes
    for group in (trial.spec.params, trial.spec.inputs):
        chosen = {k: gradients[k] for k in group if k in gradients and k not in trial.redundant}
        if chosen:
            yield from _first_step(problem, chosen)
    params = tuple(k for k in trial.spec.params if k in gradients and k not in trial.redundant)
    walked = params or tuple(gradients)
    if walked and trial.case.values == "ordinary" and not trial.spared:
        yield from _walk(problem_of(trial, start=True), walked)
        yield from _other_steps(problem, {k: gradients[k] for k in walked})


def _first_step(problem: Problem, grads: dict[str, Array]) -> Iterator[Observation]:
    live = {
        k: g for k, g in grads.items()
        if TINY < squared({k: g}) < 1 / TINY and not problem.flat({k: g})
        and problem.blurred.get(k, 0.0) <= BLUR
    }  # fmt: skip
    for name in grads:
        yield from _still(problem, name, grads[name])
        if name not in live:
            yield Observation("decrease", name, Status.VACUOUS, powered=False)
    if not live:
        return
    rate, stuck = one_rate(problem, live)
    excused = bool(stuck) and (problem.far or problem.bent(live, live, rate))
    for name, gradient in live.items():
        alone = {name: gradient}
        promised = problem.promise(alone, alone, rate)
        if name in stuck and (
            excused
            or problem.bent(alone, alone, rate)
            or problem.too_long(name, rate)
            or problem.right(alone)
        ):
            yield Observation("decrease", name, Status.VACUOUS, powered=False)
        elif name in stuck:
            yield Observation(
                "decrease", name, Status.FAILED,
                f"no learning rate down to {rate:.1g} lowers the loss along minus the gradient of "
                f"{name}", None, problem.before - promised, stuck[name],
                problem.floor, "the rounding of the loss",
            )  # fmt: skip
        else:
            powered = promised > problem.floor
            status = Status.PASSED if powered else Status.VACUOUS
            yield Observation("decrease", name, status, powered=powered)
    told = {}
    if is_large(problem.trial.spec) and len(live) > 1:
        told = _slopes_together(problem, live, rate)
    slopes = [told.get(k) or _slope(problem, k, {k: g}, rate) for k, g in live.items()]
    yield from slopes
    if len(live) > 1 and not told and all(s.outcome is not Status.FAILED for s in slopes):
        yield _slope(problem, None, live, rate)


def one_rate(problem: Problem, grads: Tensors) -> tuple[float, dict[str, float]]:
    """Return the largest rate, by halving, at which Armijo's condition holds for all tensors
    together and for each alone; and, where none does, the loss per tensor for which it fails."""
    square = squared(grads)
    rate = 2 * problem.before / square if problem.before > 0 else 1.0
    groups = [tuple(grads), *((k,) for k in grads if len(grads) > 1)]
    failing: dict[str, float] = {}
    for _ in range(HALVINGS):
        failing = {}
        for group in groups:
            part = {k: grads[k] for k in group}
            promised = problem.promise(part, part, rate)
            if promised <= problem.floor:
                continue
            after = problem.after(part, rate)
            if not after <= problem.before - ARMIJO * promised:
                failing |= dict.fromkeys(group, after)
                break
        if not failing:
            return rate, {}
        if problem.promise(grads, grads, rate / 2) <= problem.floor:
            break
        rate /= 2
    # Below this rate nothing can be seen; say for whom it fails alone, if for anyone.
    alone = {}
    for name in grads:
        part = {name: grads[name]}
        after = problem.after(part, rate)
        if not after <= problem.before - ARMIJO * problem.promise(part, part, rate):
            alone[name] = after
    return rate, alone or failing


def _slopes_together(problem: Problem, live: Tensors, rate: float) -> dict[str, Observation]:
    """Return by tensor that the slope along its gradient is as promised, known from that along all
    together; those are left out that add too little to it to show."""
    told = _slope(problem, None, live, rate)
    if told.outcome is not Status.PASSED or told.allowed is None:
        return {}
    least = told.allowed * squared(live) / cap(problem.trial.unit)
    return {k: replace(told, tensor=k) for k, g in live.items() if squared({k: g}) >= least}


def _slope(problem: Problem, name: str | None, grads: Tensors, rate: float) -> Observation:
    """Ask whether the loss falls as fast as the gradients promise: slope -1 per squared norm."""
    square = squared(grads)

    def loss(h: float) -> float:
        # sgd_step with -h: the derivative along plus the gradient, which is +|g|^2.
        return problem.loss(sgd_step(problem.start, grads, -h), grads.keys()) / square

    # A rate may be so large that it leads to where the loss has nothing to do with the gradient.
    reach = min(scale(problem.start[k]) / float(np.abs(g).max()) for k, g in grads.items())
    unit = problem.trial.unit
    step = min(rate / 8, first_step(unit) * reach)
    levels = FEW_LEVELS if is_large(problem.trial.spec) else LEVELS
    found = derivative(loss, step, problem.rounding / square, problem.smooth(grads), levels)
    own = max(problem.blurred.get(k, 0.0) for k in grads)
    if problem.trial.oracle is None:
        # Nobody knows how a gradient cancels: what plain central differences could tell is asked
        # here, less where values are such that all may cancel, as lgamma(a) - lgamma(b) of 1e35 do,
        # and `finite_difference` asks for more, which measures what a gradient loses.
        own += unit ** (1 / 3 if problem.trial.case.ordinary else 1 / 4)
    found = found and replace(found, allowed=found.allowed + own, own=own)
    if found is None or not np.isfinite(found.value) or not found.allowed <= cap(unit):
        return Observation("slope", name, Status.VACUOUS, powered=False)
    status = Status.PASSED if abs(found.value - 1) <= found.allowed else Status.FAILED
    if status is Status.FAILED and (
        problem.hidden_kink(loss, found, 1.0, step, grads, square) or problem.right(grads)
    ):
        return Observation("slope", name, Status.VACUOUS, powered=False)
    who = f"the gradient of {name}" if name else "all gradients together"
    message = "" if status is Status.PASSED else (
        f"a step along minus {who} changes the loss by {_told(-found.value)} times the step's "
        "squared length over the rate, where its gradient promises -1"
    )  # fmt: skip
    return Observation("slope", name, status, message, None, -1.0, -found.value, found.allowed,
                       found.why)  # fmt: skip


def _told(slope: float) -> str:
    """Return a slope with enough digits to tell it from -1."""
    return next(t for d in range(9, 18) if (t := f"{slope:.{d}g}") != "-1" or d == 17)


def _still(problem: Problem, name: str, gradient: Array) -> Iterator[Observation]:
    """Ask of elements whose gradient is exactly 0 whether the loss really ignores them."""
    zero = np.flatnonzero(gradient.reshape(-1) == 0)
    rng = np.random.default_rng([problem.trial.case.seed, 5])
    for element in rng.permutation(zero)[:STILL]:
        unit = np.zeros(gradient.size)
        unit[element] = 1.0
        direction = {name: unit.reshape(gradient.shape)}
        found = _loss_slope(problem, direction, name)
        # A gradient of 0 may be one that underflows.
        floor = problem.allowed[name]
        floor += FACTOR * problem.rounding / max(found.step, 1e-300) if found else 0.0
        if found is not None and abs(found.value) > 2 * found.allowed + floor:
            index = tuple(int(i) for i in np.unravel_index(int(element), gradient.shape))
            yield Observation(
                "moves", name, Status.FAILED,
                f"this element of {name} never moves, yet the loss depends on it", index,
                found.value, 0.0, found.allowed, found.why,
            )  # fmt: skip
            return


def _loss_slope(problem: Problem, direction: Tensors, name: str) -> Estimate | None:
    def loss(h: float) -> float:
        return problem.loss(sgd_step(problem.start, direction, -h))

    step = first_step(problem.trial.unit) * scale(problem.start[name])
    found = derivative(loss, step, problem.rounding, problem.smooth(direction))
    if found is not None and abs(found.value) > found.allowed:
        return None if problem.hidden_kink(loss, found, 0.0, step, direction) else found
    return found


def _walk(problem: Problem, names: tuple[str, ...]) -> Iterator[Observation]:
    """Take STEPS steps of plain descent from the declared start; the loss falls every time."""
    for step in range(STEPS):
        gradients = problem.slopes
        grads = {k: gradients[k] for k in names if k in gradients}
        if not grads or problem.flat(grads):
            return  # the start, or what was reached, is flat
        rate = _lowering_rate(problem, grads, grads)
        if rate is None:
            if problem.far or problem.bent(grads, grads):
                return
            yield Observation(
                "steps", None, Status.FAILED,
                f"step {step + 1} of plain gradient descent on {', '.join(names)} does not lower "
                "the loss at any learning rate",
            )  # fmt: skip
            return
        reached = problem.moved(problem.start, grads, rate)
        problem = Problem(problem.trial, reached, problem.targets)
    yield Observation("steps", None, Status.PASSED)


def _lowering_rate(problem: Problem, direction: Tensors, grads: Tensors) -> float | None:
    """Return a rate at which Armijo's condition holds along minus `direction`, None if none.

    A step whose promise is within the loss's rounding proves nothing and counts as lowering.
    """
    rate = 2 * problem.before / sum(dot(grads[k], d) for k, d in direction.items())
    for _ in range(HALVINGS):
        promised = problem.promise(grads, direction, rate)
        if promised <= problem.floor:
            return rate if problem.before <= problem.floor else None
        after = problem.after(direction, rate)
        if after <= problem.before - ARMIJO * promised:
            return rate
        rate /= 2
    return None


def _other_steps(problem: Problem, grads: dict[str, Array]) -> Iterator[Observation]:
    """Ask for a first step of other kinds, and for momentum and Adam to end below the start."""
    if problem.flat(grads) or problem.far or problem.bent(grads, grads):
        return
    rng = np.random.default_rng([problem.trial.case.seed, 6])
    kinds: dict[str, Callable[[Array], Array]] = {
        "separate learning rates": lambda g: rng.uniform(0.2, 1.0) * g,
        "the sign of the gradient": np.sign,
        "a positive diagonal preconditioner": lambda g: rng.uniform(0.5, 2.0, g.shape) * g,
    }
    for kind, turned in kinds.items():
        direction = {k: turned(g) for k, g in grads.items()}
        if _lowering_rate(problem, direction, grads) is None:
            if problem.bent(direction, grads):
                continue
            yield Observation(
                "steps", None, Status.FAILED,
                f"a step along {kind} of {', '.join(grads)} does not lower the loss at any rate",
            )  # fmt: skip
            return
        # Of a large layer it fills memory that the next needs.
        del direction
        problem.trial.release()
    for name, optimiser in (("momentum", _momentum), ("Adam", _adam)):
        if not optimiser(problem, tuple(grads)):
            yield Observation(
                "steps", None, Status.FAILED,
                f"{problem.long} steps of {name} on {', '.join(grads)} do not end below the start "
                "at any learning rate",
            )  # fmt: skip
            return
    yield Observation("steps", None, Status.PASSED)


def _momentum(problem: Problem, names: tuple[str, ...]) -> bool:
    """Heavy-ball momentum 0.9; Polyak (1964)."""
    grads = problem.slopes
    rate = 0.2 * problem.before / squared({k: grads[k] for k in names})

    def run(rate: float) -> float:
        tensors = dict(problem.start)
        velocity = {k: np.zeros(problem.start[k].shape) for k in names}
        for _ in range(problem.long):
            found = problem.gradients(tensors)
            for k, v in velocity.items():
                v *= 0.9
                v += found.pop(k, 0.0)
                tensors[k] = problem.moved({k: tensors[k]}, {k: v}, rate)[k]
        return problem.loss(tensors)

    return _ends_below(problem, run, rate)


def _adam(problem: Problem, names: tuple[str, ...]) -> bool:
    """Adam with its usual constants; Kingma and Ba (2015), algorithm 1."""
    # Of a large layer a run is not to be in vain: it begins at what is small for all.
    of_all = min if is_large(problem.trial.spec) else max
    scale = of_all(float(np.sqrt(np.mean(problem.start[k] ** 2))) for k in names) or 1.0

    def run(rate: float) -> float:
        tensors = dict(problem.start)
        first, second = ({k: np.zeros(problem.start[k].shape) for k in names} for _ in range(2))
        for t in range(1, problem.long + 1):
            found = problem.gradients(tensors)
            for k in names:
                step = {k: _adam_step(first[k], second[k], found.pop(k, None), t)}
                tensors[k] = problem.moved({k: tensors[k]}, step, rate)[k]
        return problem.loss(tensors)

    return _ends_below(problem, run, 0.05 * scale)


def _adam_step(first: Array, second: Array, gradient: Array | None, t: int) -> Array:
    """Return step t of Adam, whose moments are brought up to it in place."""
    step = np.zeros(first.shape) if gradient is None else np.array(gradient, order="C")
    flat = [a.reshape(-1) for a in (first, second, step)]
    for at in range(0, step.size, BLOCK):
        m, v, g = (a[at : at + BLOCK] for a in flat)
        m *= 0.9
        m += 0.1 * g
        v *= 0.999
        v += 0.001 * g**2
        g[...] = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return step


def _ends_below(problem: Problem, run: Callable[[float], float], rate: float) -> bool:
    """Whether a run ends below the start at some rate, by quartering; not monotone on the way.

    It goes as far down as HALVINGS do: in a nearly flat place the first rate is a huge one.
    """
    for _ in range(HALVINGS // 2):
        problem.trial.release()
        if run(rate) < problem.before:
            return True
        rate /= 4
    return False


def loss_curves(trial: Trial) -> Iterator[LossCurve]:
    """Yield, for each parameter, or input where there is none, the loss after a step in it alone
    against the rate, up to beyond the one at which all of them lower the loss."""
    problem = problem_of(trial, start=False)
    gradients = problem.slopes
    names = trial.spec.params or trial.spec.inputs
    grads = {k: gradients[k] for k in names if k in gradients and k not in trial.redundant}
    grads = {k: g for k, g in grads.items() if TINY < squared({k: g}) < 1 / TINY}
    if not grads:
        return
    rate, stuck = one_rate(problem, grads)
    reach = 2 * problem.before / squared(grads) if stuck else BEYOND * rate
    rates = np.linspace(0, reach, POINTS)
    for name, gradient in grads.items():
        alone = {name: gradient}
        losses = [problem.loss(problem.moved(problem.start, alone, r)) for r in rates]
        yield LossCurve(
            name, str(trial.case), rounded(rates), rounded(losses),
            -squared(alone), None if stuck else float(rate),
        )  # fmt: skip
