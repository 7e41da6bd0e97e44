"""The order in which statements run: topological, with a loop around those that form a cycle."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Step(Protocol):
    """What scheduling needs to know of a statement."""

    @property
    def target(self) -> str:
        """The tensor that it writes."""

    @property
    def sources(self) -> frozenset[str]:
        """The tensors that it reads."""


S = TypeVar("S", bound=Step)


@dataclass(frozen=True)
class Block(Generic[S]):
    """Statements that depend on each other and so run together, element by element."""

    steps: tuple[S, ...]


def schedule(steps: Sequence[S]) -> tuple[S | Block[S], ...]:
    """Return `steps` in an order in which everything is written before it is read.

    Statements whose targets form a cycle, such as a state that reads its own past, come as one
    Block; statements that stand in no cycle keep their given order as far as possible.
    """
    writers: dict[str, list[S]] = {}
    for step in steps:
        writers.setdefault(step.target, []).append(step)
    reads = {t: {s for w in group for s in w.sources if s in writers}
             for t, group in writers.items()}  # fmt: skip
    ordered: list[S | Block[S]] = []
    for component in components(writers, reads):
        group = tuple(s for s in steps if s.target in component)
        # What a cycle starts from (initial values, contributions from outside) comes before it.
        ordered.extend(s for s in group if not s.sources & component)
        cyclic = tuple(s for s in group if s.sources & component)
        if cyclic:
            ordered.append(Block(cyclic))
    return tuple(ordered)


def components(nodes: Iterable[str], reads: Mapping[str, Iterable[str]]) -> list[frozenset[str]]:
    """Return the strongly connected components, each after all that it reads (Tarjan, 1972)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[frozenset[str]] = []

    def visit(node: str) -> None:
        number[node] = lowest[node] = len(number)
        stack.append(node)
        for source in sorted(reads[node]):
            if source not in number:
                visit(source)
                lowest[node] = min(lowest[node], lowest[source])
            elif source in stack:
                lowest[node] = min(lowest[node], number[source])
        if lowest[node] == number[node]:
            at = stack.index(node)
            found.append(frozenset(stack[at:]))
            del stack[at:]

    for node in nodes:
        if node not in number:
            visit(node)
    return found
