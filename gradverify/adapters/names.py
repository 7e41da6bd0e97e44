"""What tensors and their gradients are usually called in code, by the name that a spec has."""

from collections.abc import Iterable

# Other words for the same; the first is that of most papers.
_WORDS = (
    ("w", "weight", "weights", "kernel"),
    ("b", "bias", "biases"),
    ("x", "input", "inputs"),
    ("y", "output", "outputs", "out"),
)
# What a gradient is called, by the name of its tensor.
_GRADIENTS = ("d{}", "d_{}", "grad_{}", "{}_grad", "grad{}", "{}grad", "delta_{}", "del_{}")


def spellings(name: str) -> tuple[str, ...]:
    """Return a name and other words for it, likely ones first."""
    known = next((words for words in _WORDS if name.casefold() in words), ())
    return (name, *(word for word in known if word != name))


def gradient_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return what the gradient of a tensor may be called that has one of these names."""
    return tuple(form.format(name) for name in names for form in _GRADIENTS)


def same(a: str, b: str) -> bool:
    """Whether two names differ in capitals and outer underscores at most."""
    return a.strip("_").casefold() == b.strip("_").casefold()


def is_of_gradients(name: str) -> bool:
    """Whether what has this name keeps gradients."""
    low = name.strip("_").casefold()
    return "grad" in low or low in ("d", "dparams", "deltas", "derivatives", "dweights")
