"""Wrong layers for tests: those of the catalogue with some gradients replaced."""

from functools import cache

from gradverify import Layer
from gradverify.loading import catalogue_folder, load


@cache
def right(name):
    """Return the catalogue's layer of a spec."""
    (layer,) = (x for x in load(catalogue_folder() / f"{name}.py") if x.spec.name == name)
    return layer


def changed(name, *, spec=None, dtypes=None, **change):
    """Return a layer with some gradients replaced by functions of them and of what the layer and
    the pullback were given, by name (a cotangent is `dy`)."""
    like = right(name)

    def layer(**given):
        y, pullback = like.function(**given)

        def wrong(*cotangents):
            grads = pullback(*cotangents)
            names = (f"d{y}" for y in like.spec.differentiable_outputs)
            call = given | dict(zip(names, cotangents, strict=True))
            return grads | {k: f(grads[k], call) for k, f in change.items()}

        return y, wrong

    return Layer(spec or like.spec, layer, name="layer", dtypes=dtypes)
