"""The text of a spec file to start from: what was observed, and TODO where nobody can know."""

import keyword
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from gradverify.scaffold.observe import Observed
from gradverify.scaffold.roles import Argument
from gradverify.scaffold.target import Target

TODO = "# TODO: "
_TAKEN = ("where", "definition", "gradients", "ranges", "allow")
# So long a line of a spec may be, its TODO included.
_LONG = 100


@dataclass(frozen=True)
class Sketch:
    """What a spec file is made of.

    `reachable` says that its module is found without more ado, and `imported` is what the layer
    takes of it; `adapter` names the adapter that the layer comes in, "" for none. `body` is the
    source of the layer, "" where the function is registered as it is; `told` says what was
    observed.
    """

    target: Target
    reachable: bool
    imported: tuple[str, ...]
    used: tuple[str, ...]
    declared: tuple[str, ...]
    where: tuple[str, ...]
    example: str
    body: str
    told: str
    adapter: str = ""


def declarations(observed: Observed) -> tuple[list[str], dict[str, str], list[str]]:
    """Return lines that declare tensors and constants, the constants that have another name in the
    spec, and the names of the outputs."""
    lines = []
    renamed = {
        name: name.upper().replace("_", "")
        for name in observed.constants
        if name != name.upper()
        and any(axis and name in _words(axis) for shape in observed.outputs for axis in shape)
    }
    buffers = [a.name for a in observed.called.arguments if a.role == "buffer"]
    names = output_names(observed)
    updates = dict(zip(buffers, names[len(names) - len(buffers) :], strict=False))
    if len(names) <= len(buffers):
        updates = {}
    for argument in observed.called.arguments:
        if argument.role == "constant":
            values = observed.constants[argument.name]
            told = ", ".join(map(repr, values))
            line = f"{renamed.get(argument.name, argument.name)}=Constant({told}),"
            more = "" if len(values) > 1 else f"  {TODO}every value to try"
            lines.append(line + more)
        elif argument.role == "default":
            lines.append(f"{TODO}{argument.name} is left at its default: a constant is a number")
        else:
            lines.append(_tensor(observed, argument, updates))
    for name, shape in zip(names, observed.outputs, strict=True):
        lines.append(_output(name, shape, renamed))
    return lines, renamed, names


def _tensor(observed: Observed, argument: Argument, updates: Mapping[str, str]) -> str:
    name, shape = argument.name, observed.text(argument.name)
    gradients = observed.answer.gradients
    options = [f'"{shape}"']
    todo = ""
    kind = argument.role.capitalize()
    if argument.role == "buffer":
        if name in updates:
            options.append(f'update="{updates[name]}"')
        else:
            todo = 'update="...": the output that is its next value'
    elif argument.role == "param" and not argument.integer:
        if argument.init != "normal":
            options.append(f'init="{argument.init}"')
        if name in observed.ranges:
            options.append(f'range="{observed.ranges[name]}"')
    else:
        kind = "Input"
        if argument.integer:
            options += ["dtype=int", f'range="{observed.ranges[name]}"']
            if observed.ranges[name] == "0..0":
                todo = "which whole numbers are allowed"
        elif argument.like == "mask":
            options.append("values=(0, 1)")
        elif name in observed.ranges:
            options.append(f'range="{observed.ranges[name]}"')
        if not argument.integer and gradients is not None and gradients.get(name) is None:
            options.append("differentiable=False")
    return f"{name}={kind}({', '.join(options)})," + (f"  {TODO}{todo}" if todo else "")


def _output(name: str, shape: Sequence[str | None], renamed: Mapping[str, str]) -> str:
    sizes = []
    for axis in shape:
        sizes.append(re.sub(r"\w+", lambda m: renamed.get(m[0], m[0]), axis or "1"))
    unknown = f"  {TODO}the sizes that stand as 1" if None in shape else ""
    return f'{name}=Output("{" ".join(sizes)}"),{unknown}'


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def output_names(observed: Observed) -> list[str]:
    """Return names for the outputs, none that is an argument's."""
    taken = {a.name for a in observed.called.arguments}
    count = len(observed.outputs)
    buffers = [a.name for a in observed.called.arguments if a.role == "buffer"]
    own = count - len(buffers) if count > len(buffers) else count
    free = [n for n in ("y", "out", "z", "result") if n not in taken]
    names = [free[0]] if own == 1 else [f"{free[0]}{k}" for k in range(1, own + 1)]
    return names + [f"new_{b}" for b in buffers][: count - own]


def example(observed: Observed, outputs: Sequence[str]) -> str:
    """Return an equation as a definition has them, with the tensors and indices of this one."""
    taken = {*observed.shapes, *map(str.lower, observed.names)}
    spare = (i for i in "ijuvpqlo" if i not in taken)
    own = {n: n.lower() for n in observed.names if len(n) == 1 and n.lower() not in observed.shapes}
    letters = {n: own.get(n) or next(spare, "z") for n in observed.names}
    gathers = {}
    factors: list[str] = []
    for tensor in sorted(observed.called.tensors, key=lambda t: not t.integer):
        indices = [letters[observed.names[s.dim]] for s in observed.shapes[tensor.name]]
        top = re.fullmatch(r"0\.\.(\w+)-1", observed.ranges.get(tensor.name, ""))
        if tensor.integer and top:
            gathers[letters[top[1]]] = f"{tensor.name}[{','.join(indices)}]"
        elif len(factors) < 2:
            shown = ",".join(gathers.get(i, i) for i in indices)
            factors.append(f"{tensor.name}[{shown}]" if shown else tensor.name)
    left = [letters.get(axis or "") or next(spare, "z") for axis in observed.outputs[0]]
    right = "*".join(reversed(factors))
    summed = [i for i in dict.fromkeys(re.findall(r"\b[a-z]\b(?!\[)", right))
              if i not in left and i not in observed.shapes]  # fmt: skip
    body = f"sum[{','.join(summed)}]({right})" if summed else right
    return f"{outputs[0]}[{','.join(left)}] = {body}" if left else f"{outputs[0]} = {body}"


def file_text(sketch: Sketch, output: Path | None) -> str:
    """Return the text of a spec file that is written to a path."""
    target = sketch.target
    lines = [f'"""Spec of {target.name}, to start from: what stands here was observed by calling '
             'it."""', ""]  # fmt: skip
    up = "." if output is None else os.path.relpath(target.root, output.resolve().parent)
    if not sketch.reachable and up != ".":
        folder = f'str((Path(__file__).parent / "{Path(up).as_posix()}").resolve())'
        lines += ["import sys", "from pathlib import Path", "",
                  f"sys.path.insert(0, {folder})  # {target.module} is not installed",
                  ""]  # fmt: skip
    late = "  # noqa: E402" if any("sys.path" in line for line in lines) else ""
    ours = f"from gradverify import {', '.join(sorted(sketch.used))}{late}"
    theirs = f"from {target.module} import {', '.join(sketch.imported)}{late}"
    adapted = [f"from gradverify.adapters import {sketch.adapter}{late}"] if sketch.adapter else []
    lines += [ours, *adapted, theirs] if target.module > "gradverify" else [theirs, ours, *adapted]
    told = wrap(sketch.told, 98, initial_indent="# ", subsequent_indent="#   ")
    lines += ["", *told, "spec = Spec(", f'    "{target.name}",']
    lines += [f"    {line}" for line in sketch.declared]
    if sketch.where:
        shown = ", ".join(f'"{w}"' for w in sketch.where)
        lines.append(f"    where=[{shown}],")
    lines += [
        f"    {TODO}say what the layer computes, from which its gradients are derived, such as",
        '    # definition="""',
        f"    #     {sketch.example}",
        '    # """,',
        ")",
        "",
    ]
    lines += sketch.body.splitlines() if sketch.body else [f"spec.register({target.name})"]
    return "\n".join(lines) + "\n"


def registration(adapter: str, arguments: Sequence[str]) -> str:
    """Return the source that registers what an adapter makes of arguments, in lines that fit."""
    whole = f"{adapter}({', '.join(arguments)})"
    if len(f"spec.register({whole})") <= _LONG:
        return f"spec.register({whole})"
    if len(whole) + 4 > _LONG:
        lines = "".join(f"        {argument},\n" for argument in arguments)
        whole = f"{adapter}(\n{lines}    )"
    return f"spec.register(\n    {whole}\n)"


def unusable(name: str) -> bool:
    """Whether a spec cannot have a tensor or constant of that name."""
    return name in _TAKEN or name.startswith("_") or keyword.iskeyword(name)
