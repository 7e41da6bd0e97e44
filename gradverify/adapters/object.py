"""stateful: objects with forward and backward that keep parameters and gradients themselves."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gradverify.adapter import Adapter, Flaw
from gradverify.adapters.arguments import name_of
from gradverify.adapters.factory import Factory, class_made_by
from gradverify.adapters.kept import Kept
from gradverify.adapters.pair import check_names
from gradverify.adapters.place import Place, parsed
from gradverify.adapters.rule import Rule, follows, grows
from gradverify.adapters.used import Used, copied
from gradverify.errors import UsageError
from gradverify.layer import ConventionError
from gradverify.notation.dims import parse_shape
from gradverify.spec import Spec


def stateful(
    factory: Callable[..., Any],
    *,
    params: Mapping[str, str] | None = None,
    grads: Mapping[str, str] | None = None,
    constants: Mapping[str, str] | None = None,
    stored: Mapping[str, str] | None = None,
    forward: str = "forward",
    backward: str = "backward",
    accumulates: bool | str = False,
    update: str | tuple[str, str] | None = None,
) -> Adapter:
    """Return a layer of objects that `factory` makes, with `forward(x)` and `backward(dy)`.

    The factory, a class or a function such as `lambda C, eps: BatchNorm(C, eps)`, gets what it
    names of dimensions, constants and parameters. Parameters and buffers are put into the object
    before each forward, which gets the inputs, and constants that it names. `backward` returns the
    gradients of the inputs, in the order of the forward's arguments, and leaves those of the
    parameters in the object; next values of buffers are read from it after the forward. Outputs and
    gradients of inputs may be left in the object too.

    `params={"w": "W", "b": "params['b']"}` says where a parameter or buffer is kept, `grads` where
    its gradient is left, and `constants={"train": "training"}` which attribute, or argument
    of the forward, a constant is; left out, they are found by their usual names, a mode by
    `train()` and `eval()` too.
    `stored={"b": "1 C"}` is another shape that the object keeps a tensor and its gradient in.
    `forward` and `backward` are the names of the methods. `accumulates` says that gradients add
    up until they are cleared, by the method of that name, or with True by writing zeros.
    `update="step"`, or ("step", "eta") with the name of the learning rate, is the object's own
    step of gradient descent, which has to follow its gradients.

    The same object is used step after step, as in training, and another one for a forward that
    comes before the backward of the last; a second backward of a forward calls that again.
    """
    made = hasattr(factory, backward) and not isinstance(factory, type)
    if made or not callable(factory):
        shown = f"an object of {type(factory).__name__}" if made else repr(factory)
        raise UsageError(f"stateful: this is {shown}: give the class, or a function that makes a "
                         "new object each time, such as lambda C: BatchNorm(C)")  # fmt: skip
    kept = Kept(
        {k: parsed(v, f"params: {k}") for k, v in (params or {}).items()},
        {k: parsed(v, f"grads: {k}") for k, v in (grads or {}).items()},
        {k: parsed(v, f"constants: {k}") for k, v in (constants or {}).items()},
        {k: parse_shape(v, f"stored: {k}") for k, v in (stored or {}).items()},
        forward, backward, accumulates,
    )  # fmt: skip
    rule = None if update is None else Rule(*((update,) if isinstance(update, str) else update))
    return _Stateful(factory, kept, rule)


class _Stateful(Adapter):
    words: Mapping[str, str] = {
        "accumulates": "if the object is meant to add gradients up until they are cleared, say so "
        'with accumulates="zero_grad", the method that clears them, or accumulates=True',
        "repeatable": "if the forward draws random numbers, give the object its mask as an input, "
        "or verify it where it draws none",
    }

    def __init__(self, factory: Callable[..., Any], kept: Kept, rule: Rule | None) -> None:
        made = class_made_by(factory, kept.forward, kept.backward)
        written = (factory,) if made is None else kept.methods(made)
        super().__init__(written, name_of(factory if made is None else made))
        self._factory, self._kept, self._rule = Factory(factory), kept, rule
        self._known = made is not None
        self._last: Any = None
        self._idle: dict[Any, list[Used]] = {}
        # What the last object has said of where it keeps things, and of what it does not.
        self._missing: dict[str, str] = {}
        self._places: dict[str, Place] = {}

    def renew(self) -> None:
        """Forget the objects that were used."""
        self._idle.clear()

    def __call__(
        self, spec: Spec, tensors: Mapping[str, Any], constants: Mapping[str, Any]
    ) -> tuple[Any, Callable[..., Any]]:
        check_names(spec, self._kept.params, self._kept.grads, self._kept.constants,
                    self._kept.stored)  # fmt: skip
        key = self._factory.key(spec, tensors, constants)
        idle = self._idle.setdefault(key, [])
        used = idle.pop() if idle else self._made(spec, tensors, constants)
        own = copied(tensors)
        outputs = used.forward(tensors, constants)
        waiting = [used]

        def pullback(*cotangents: Any) -> dict[str, Any]:
            if waiting:
                now = waiting.pop()
            else:
                # The cache of a forward may be used up, or that of another forward by now.
                now = _taken(idle, used) or self._made(spec, own, constants)
                now.forward(copied(own), constants)
            gradients = now.backward(cotangents)
            self._missing.update(now.missing)
            idle.append(now)
            return gradients

        return outputs, pullback

    def _made(self, spec: Spec, tensors: Mapping[str, Any], constants: Mapping[str, Any]) -> Used:
        thing = self._factory.make(spec, tensors, constants)
        if thing is self._last:
            raise ConventionError(
                "convention",
                f"{name_of(self._factory.function)} returned the same object twice: make a new one "
                "each time, so that forwards do not share what they keep",
            )
        self._last = thing
        if not self._known:
            self.written = self._kept.methods(type(thing))
            self._known = True
        used = Used(thing, spec, self._kept, self._factory.named(spec))
        self._places.update(used.places)
        return used

    def flaws(
        self,
        spec: Spec,
        tensors: Mapping[str, Any],
        constants: Mapping[str, Any],
        cotangents: Sequence[Any],
    ) -> Iterator[Flaw]:
        """Yield where the object's own update does not follow its gradients, and where what it
        keeps grows."""
        used = self._made(spec, tensors, constants)

        def step() -> None:
            used.forward(copied(tensors), constants)
            used.backward([dy.copy() for dy in cotangents])

        step()
        if self._rule is not None:
            yield from follows(self._rule, used)
        yield from grows(used.thing, step)

    def told(self, question: str, tensor: str | None) -> str:
        """Return what a finding means for an object."""
        place = self._places.get(tensor or "")
        if question == "missing":
            return self._missing.get(tensor or "", "")
        if question == "mutates" and place is not None:
            return f"{place} holds it: what steps is an update, which is called apart"
        if question == "repeatable" or place is not None:
            return self.words.get(question, "")
        return ""


def _taken(idle: list[Used], wanted: Used) -> Used | None:
    """Take an object that is not in use, the wanted one if it can be."""
    if not idle:
        return None
    return idle.pop(idle.index(wanted) if wanted in idle else -1)
