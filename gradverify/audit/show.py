"""Audits as a person reads them, and as JSON."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from textwrap import wrap

from gradverify import __version__
from gradverify.audit.faults import KINDS
from gradverify.audit.run import LayerAudit, Survivor, power

SCHEMA = 1


def as_text(audits: Sequence[LayerAudit], width: int, short: Callable[[str], str] = str) -> str:
    """Return the power by kind of fault over all layers, and every survivor by layer.

    `short` shortens paths.
    """
    lines = [_printable(a.problem) for a in audits if a.problem]
    found = power(audits)
    if found is not None:
        lines += _table(audits, found)
    for audit in audits:
        if audit.survivors:
            lines += ["", f"survivors in {_printable(audit.layer)} ({short(audit.source)}):"]
            for survivor in audit.survivors:
                lines += _survivor(survivor, width)
    if found is None:
        lines.append("no fault could be planted")
    return "\n".join(lines) + "\n"


def _table(audits: Sequence[LayerAudit], found: float) -> list[str]:
    kinds = [k for k in KINDS if any(k in a.kinds for a in audits)]
    rows = [("kind of fault", "planted", "caught", "power")]
    for kind in kinds:
        planted = sum(a.kinds.get(kind, (0, 0))[0] for a in audits)
        caught = sum(a.kinds.get(kind, (0, 0))[1] for a in audits)
        rows.append((kind, str(planted), str(caught), _share(caught / planted)))
    planted, caught = (sum(getattr(a, k) for a in audits) for k in ("planted", "caught"))
    rows.append(("all", str(planted), str(caught), _share(found)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]


def _share(value: float) -> str:
    """Return a share in percent, never 100% where something is missing."""
    shown = f"{100 * value:.1f}%"
    return "99.9%" if shown == "100.0%" and value < 1 else shown


def _survivor(survivor: Survivor, width: int) -> list[str]:
    lines = [f"  {_printable(survivor.fault)}"]
    for what, told in (("wrong", survivor.what), ("why", survivor.reason),
                       ("remedy", survivor.remedy)):  # fmt: skip
        lines += wrap(_printable(told), max(width, 40), initial_indent=f"    {what + ':':<8}",
                      subsequent_indent=" " * 12, break_on_hyphens=False)  # fmt: skip
    return lines


def _printable(text: str) -> str:
    """Return a name that a file gives, without what would move the cursor."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def as_json(audits: Sequence[LayerAudit], profile: str, seed: int) -> str:
    """Return the audits as JSON text."""
    layers = [
        {**asdict(a), "kinds": {k: {"planted": p, "caught": c} for k, (p, c) in a.kinds.items()}}
        for a in audits
    ]
    data = {"schema": SCHEMA, "gradverify": __version__, "profile": profile, "seed": seed,
            "power": power(audits), "layers": layers}  # fmt: skip
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
