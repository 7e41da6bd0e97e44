"""MathML of a report, let through element by element: a report may come from anywhere."""

import re
from html import escape
from xml.etree import ElementTree as ET

SPACE = "{http://www.w3.org/1998/Math/MathML}"
ELEMENTS = frozenset({
    "math", "mfrac", "mi", "mn", "mo", "mover", "mroot", "mrow", "msqrt", "msub", "msubsup", "msup",
    "mtable", "mtd", "mtext", "mtr", "munder", "munderover",
})  # fmt: skip
# What text is aligned to is left to the style sheet; the rest can name no place and run nothing.
ATTRIBUTES = frozenset({
    "accent", "columnspan", "display", "displaystyle", "form", "lspace", "mathvariant",
    "movablelimits", "rspace", "stretchy",
})  # fmt: skip
VALUE = re.compile(r"[\w.%-]{1,24}")
DEEPEST = 200


def checked(text: str) -> str | None:
    """Return one `math` element as HTML with nothing in it but mathematics, None if it is none."""
    if not text or "<!" in text or "<?" in text:
        return None
    try:
        root = ET.fromstring(text)
        return _written(root, 0) if root.tag == f"{SPACE}math" else None
    except (ET.ParseError, ValueError):
        return None


def _written(element: ET.Element, depth: int) -> str:
    name = element.tag.removeprefix(SPACE)
    if name not in ELEMENTS or not element.tag.startswith(SPACE) or depth > DEEPEST:
        raise ValueError(f"{name} is no element of a formula")
    kept = {k: v for k, v in element.attrib.items() if k in ATTRIBUTES and VALUE.fullmatch(v)}
    attributes = "".join(f' {k}="{escape(v)}"' for k, v in kept.items())
    inside = escape(element.text or "").strip("\n")
    for child in element:
        inside += _written(child, depth + 1) + escape(child.tail or "").strip("\n")
    return f"<{name}{attributes}>{inside}</{name}>"
