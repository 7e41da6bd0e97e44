"""Pictures of a report as SVG that takes its colours from the page around it."""

import io
import math
import re
from functools import cache
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from gradverify.evidence import DifferenceCurve, HeatMap, LossCurve
from gradverify.report.finding import printable

# Stand for the variables of the style sheet, so that a picture is right in light and in dark.
COLOURS = {
    "#010203": "--ink", "#010204": "--muted", "#010205": "--line", "#010206": "--accent",
    "#010207": "--bad", "#010208": "--good",
}  # fmt: skip
INK, MUTED, LINE, ACCENT, BAD, GOOD = COLOURS
# From just allowed to very wrong; the lightest is for what is allowed.
HEAT = ("#d8dde6", "#f6c18b", "#f0975a", "#e2683d", "#c63d2f", "#9a1b2c", "#640f24")
WIDTH, HEIGHT = 4.4, 2.7
_STYLE: Any = {  # mpl's own type lists every key
    "svg.fonttype": "none", "svg.hashsalt": "gradverify", "font.size": 8.5,
    "font.family": "sans-serif", "text.color": INK, "axes.edgecolor": MUTED,
    "axes.labelcolor": INK, "xtick.color": MUTED, "ytick.color": MUTED, "axes.linewidth": 0.7,
    "xtick.major.width": 0.7, "ytick.major.width": 0.7, "axes.spines.top": False,
    "axes.spines.right": False, "path.simplify": True, "axes.unicode_minus": True,
}  # fmt: skip


def differences(curve: DifferenceCurve, key: str) -> str:
    """Return the error of differences against their step, on logarithmic axes."""
    with mpl.rc_context(_STYLE):
        figure, axes = _figure("differences")
        pairs = zip(curve.steps, curve.errors, strict=True)
        drawn = [(h, e) for h, e in pairs if _on_log(h) and _on_log(e)] or [(1.0, 1.0)]
        errors = [e for _, e in drawn]
        axes.plot([h for h, _ in drawn], errors, color=ACCENT, lw=1.4, marker="o", ms=2.6)
        if _on_log(curve.allowed):
            axes.axhline(curve.allowed, color=MUTED, lw=0.9, ls=(0, (4, 3)))
            _name(axes, curve.allowed, "allowed", MUTED)
        if _on_log(curve.step):
            # An extrapolation that is exact would be infinitely far down.
            chosen = max(curve.error or 0.0, min(errors) / 10)
            axes.plot([curve.step], [chosen], color=GOOD, marker="D", ms=6, ls="none", mfc="none",
                      mew=1.6)  # fmt: skip
        if not curve.off <= curve.allowed:
            shown = curve.off if _on_log(curve.off) else max(errors)
            axes.axhline(shown, color=BAD, lw=1.4)
            _name(axes, shown, "the layer's gradient", BAD)
        return _svg(figure, key, describe_differences(curve))


def describe_differences(curve: DifferenceCurve) -> str:
    """Return what the picture shows, in words."""
    finite = [(e, h) for h, e in zip(curve.steps, curve.errors, strict=True) if math.isfinite(e)]
    least, at = min(finite, default=(math.nan, math.nan))
    told = (
        f"Error of central differences in {curve.tensor} for {len(curve.steps)} steps from "
        f"{min(curve.steps):.1g} to {max(curve.steps):.1g}: it is least, {least:.2g}, at step "
        f"{at:.1g}. The chosen step is {curve.step:.2g}; {extrapolated(curve)}."
    )
    if not curve.off <= curve.allowed:
        return f"{told} The layer's gradient is off by {curve.off:.3g}, which is not allowed."
    return f"{told} The layer's gradient is off by {curve.off:.2g}."


def extrapolated(curve: DifferenceCurve) -> str:
    """Return how good the extrapolation from the chosen step is."""
    allowed = f"{curve.allowed:.2g} is allowed"
    if curve.error is None:
        return f"{allowed} beside the extrapolation from there, which all errors are measured from"
    return f"extrapolated from there the error is {curve.error:.2g}, where {allowed}"


def losses(curve: LossCurve, key: str) -> str:
    """Return the loss after one step against the learning rate, with the predicted slope."""
    with mpl.rc_context(_STYLE):
        figure, axes = _figure("losses")
        axes.plot(curve.rates, curve.losses, color=ACCENT, lw=1.6)
        start, end = curve.losses[0], curve.rates[-1]
        finite = [v for v in curve.losses if math.isfinite(v)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        room = (high - low) or abs(high) or 1.0
        axes.plot([0, end], [start, start + curve.slope * end], color=INK, lw=1.1,
                  ls=(0, (4, 3)))  # fmt: skip
        axes.set_ylim(low - 0.08 * room, high + 0.08 * room)
        axes.set_xlim(0, end)
        if curve.rate is not None:
            chosen = curve.rate
            nearest = min(range(len(curve.rates)), key=lambda k: abs(curve.rates[k] - chosen))
            axes.plot([curve.rates[nearest]], [curve.losses[nearest]], color=GOOD, marker="D",
                      ms=6, ls="none", mfc="none", mew=1.6)  # fmt: skip
        return _svg(figure, key, describe_losses(curve))


def describe_losses(curve: LossCurve) -> str:
    """Return what the picture shows, in words."""
    told = (
        f"Loss after one step in {curve.tensor} for learning rates from 0 to "
        f"{curve.rates[-1]:.2g}: {curve.losses[0]:.4g} at rate 0, least {min(curve.losses):.4g}. "
        f"The gradient predicts a slope of {curve.slope:.3g} at rate 0; between the first two "
        f"rates it is {observed(curve):.3g}."
    )
    if curve.rate is None:
        return f"{told} No rate was found at which the loss falls for all."
    return f"{told} The rate chosen for all is {curve.rate:.2g}."


def observed(curve: LossCurve) -> float:
    """Return the slope of the loss between the first two rates."""
    return (curve.losses[1] - curve.losses[0]) / (curve.rates[1] - curve.rates[0])


def heat(found: HeatMap, key: str) -> str:
    """Return where a gradient is wrong: a cell an element, crossed where it is not allowed."""
    with mpl.rc_context(_STYLE):
        rows, columns = len(found.rows), len(found.rows[0])
        cell = min(0.34, 3.4 / columns, 3.4 / rows)
        wide, high = cell * columns, cell * rows
        whole, tall = 0.45 + wide + 1.1, 0.3 + max(high, 0.75) + 0.1
        figure = Figure(figsize=(whole, tall))
        FigureCanvasSVG(figure)
        axes = figure.add_axes((0.45 / whole, (tall - 0.1 - high) / tall, wide / whole,
                                high / tall))  # fmt: skip
        worst = max((v for row in found.rows for v in row if math.isfinite(v)), default=1.0)
        top = max(worst, 10.0)
        shown = [[min(max(v, 0.1), top) for v in row] for row in found.rows]
        norm = LogNorm(1 / top ** (1 / (len(HEAT) - 1)), top)
        image = axes.imshow(shown, cmap=ListedColormap(HEAT), norm=norm, aspect="equal",
                            interpolation="none")  # fmt: skip
        if rows * columns <= 400:
            for y, row in enumerate(found.rows):
                for x, value in enumerate(row):
                    if not value <= 1:
                        axes.plot([x], [y], marker="x", ms=min(60 * cell * 0.18, 5), mew=0.8,
                                  color="#ffffff" if value > top**0.4 else "#1c1c1c")  # fmt: skip
        for axis, what in ((axes.xaxis, found.shape[-1:]), (axes.yaxis, found.shape[:-1])):
            axis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
            axis.set_visible(bool(what))
        room = figure.add_axes(((0.45 + wide + 0.15) / whole, 0.3 / tall, 0.1 / whole,
                                max(high, 0.75) / tall))  # fmt: skip
        bar = figure.colorbar(image, cax=room, extend="min")
        bar.ax.yaxis.set_major_locator(LogLocator(numticks=4))
        bar.ax.yaxis.set_minor_locator(NullLocator())
        bar.ax.yaxis.set_major_formatter(FuncFormatter(_power))
        bar.outline.set_visible(False)
        axes.spines[:].set_visible(False)
        return _svg(figure, key, describe_heat(found))


def describe_heat(found: HeatMap) -> str:
    """Return what the picture shows, in words."""
    values = [(v, y, x) for y, row in enumerate(found.rows) for x, v in enumerate(row)]
    wrong = [v for v in values if not v[0] <= 1]
    told = f"{len(wrong)} of {len(values)} elements of the gradient of {found.tensor} are off by "
    told += "more than allowed"
    if wrong:
        worst, y, x = max(wrong)
        place = f"row {y}, column {x}" if len(found.shape) > 1 else f"element {x}"
        told += f", the most at {place}: {worst:.3g} times what is allowed"
    return f"{told}. {found.cut[:1].upper()}{found.cut[1:]}".rstrip(". ") + "."


def _on_log(value: float) -> bool:
    """Whether a logarithmic axis has a place for a value."""
    return 0 < value < math.inf


@cache
def _made(kind: str) -> tuple[Figure, Axes]:
    """Return a figure for pictures of a kind: to make one anew takes as long as to draw on it."""
    figure = Figure(figsize=(WIDTH, HEIGHT))
    FigureCanvasSVG(figure)
    axes = figure.add_axes((0.155, 0.17, 0.8, 0.79))
    axes.grid(visible=True, color=LINE, lw=0.6)
    axes.set_axisbelow(True)
    if kind == "differences":
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_ylabel("error of the difference")
    else:
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        if kind == "differences":
            axis.set_major_locator(LogLocator(numticks=5))
            axis.set_major_formatter(FuncFormatter(_power))
        else:
            axis.set_major_locator(MaxNLocator(4))
            axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.5g}"))
    return figure, axes


def _figure(kind: str) -> tuple[Figure, Axes]:
    """Return a figure for pictures of a kind, with nothing drawn on it."""
    figure, axes = _made(kind)
    for artist in [*axes.lines, *axes.texts]:
        artist.remove()
    axes.relim()
    axes.autoscale()
    return figure, axes


def _name(axes: Axes, y: float, text: str, colour: str) -> None:
    """Name a horizontal line at its right end, above it."""
    axes.annotate(text, (1, y), xycoords=axes.get_yaxis_transform(), xytext=(-2, 2.5),
                  textcoords="offset points", ha="right", va="bottom", color=colour,
                  fontsize=8)  # fmt: skip


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _power(value: float, _: object = None) -> str:
    """Return a power of ten as one is written, without the fonts that mathematics would need."""
    if value <= 0:
        return ""
    exponent = round(math.log10(value))
    if 0 <= exponent <= 2:
        return f"{10**exponent}"
    return "10" + str(exponent).translate(_RAISED)


def _svg(figure: Figure, key: str, told: str) -> str:
    """Return a figure as an element to stand in a page that has others: with ids of its own."""
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\1{key}-", text)
    for colour, variable in COLOURS.items():
        text = text.replace(colour, f"var({variable})")
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(printable(told))}" ', 1)
