"""Code around a definition: a layer's arrays to the definition's tensors, and its results back.

A layer is given any number of dimensions for `*B`, where the definition has one, and size 1 or N
on an axis declared `N|1`, where the definition has N.
"""

from gradverify.calculus.emit import Emitter
from gradverify.calculus.views import shape_code
from gradverify.notation.tree import text


class Outside:
    """Writes the code of one function; for tensors without marks it writes nothing."""

    def __init__(self, emitter: Emitter) -> None:
        self.emitter, self.declared = emitter, emitter.d.program.declared
        marked = [t for t in self.declared.given if t in self.declared.ones or self.star(t)]
        # Where the shape is kept in which a gradient is returned.
        self.shapes = {t: emitter.local(f"{t}_shape") for t in marked if t in emitter.d.wrt}

    def star(self, tensor: str) -> str | None:
        """Return the starred dimension of a declared tensor, None where it has none."""
        names = map(text, self.declared.shapes[tensor])
        return next((n for n in names if n in self.declared.stars), None)

    def leading(self, dim: str) -> str:
        """Return the variable that holds the dimensions that stand for a starred one."""
        return self.emitter.local(f"{dim}_shape")

    def flattened(self) -> list[str]:
        """Return lines that put one dimension in place of a starred one in each given tensor."""
        lines: list[str] = []
        known: set[str] = set()
        for tensor in self.declared.given:
            name, dim = self.emitter.variable(tensor), self.star(tensor)
            shape = self.shapes.get(tensor, f"{name}.shape")
            if tensor in self.shapes:
                lines.append(f"{shape} = {name}.shape")
            if dim is None:
                continue
            names = [text(size) for size in self.declared.shapes[tensor]]
            first = names.index(dim)
            after = len(names) - 1 - first
            start, stop = str(first or ""), f"-{after}" if after else ""
            if dim not in known:
                known.add(dim)
                own = f"{shape}[{start}:{stop}]" if start or stop else shape
                lines.append(f"{self.leading(dim)} = {own}")
            parts = [f"*{shape}[:{start}]"] if first else []
            parts += ["-1", *([f"*{shape}[{stop}:]"] if after else [])]
            lines.append(f"{name} = {name}.reshape({', '.join(parts)})")
        return lines

    def expanded(self) -> list[str]:
        """Return lines that give each tensor that may be 1 its full size."""
        lines = []
        for tensor in self.declared.ones:
            name, full = self.emitter.variable(tensor), shape_code(self.emitter.shape(tensor))
            if tensor in self.shapes and self.star(tensor):
                lines.append(f"{self.narrow(tensor)} = {name}.shape")
            lines.append(f"{name} = np.broadcast_to({name}, {full})")
        return lines

    def narrow(self, tensor: str) -> str:
        """Return the variable with the shape of a tensor that may be 1, without its star."""
        own = self.emitter.local(f"{tensor}_narrow")
        return own if self.star(tensor) else self.shapes[tensor]

    def cotangent(self, output: str, name: str) -> list[str]:
        """Return the line that flattens the cotangent of an output."""
        if self.star(output) is None:
            return []
        return [f"{name} = {name}.reshape({shape_code(self.emitter.shape(output))})"]

    def output(self, output: str) -> str:
        """Return the code of an output as the layer returns it."""
        name, dim = self.emitter.variable(output), self.star(output)
        if dim is None:
            return name
        parts = [
            f"*{self.leading(dim)}" if text(size) == dim else text(size)
            for size in self.emitter.shape(output)
        ]
        return f"{name}.reshape(({', '.join(parts)}{',' if len(parts) == 1 else ''}))"

    def gradient(self, tensor: str, code: str) -> str:
        """Return the code of a gradient, in the shape of what was given."""
        if tensor in self.declared.ones:
            self.emitter.helpers.add("sum_to")
            code = f"sum_to({code}, {self.narrow(tensor)})"
        return f"{code}.reshape({self.shapes[tensor]})" if self.star(tensor) else code
