"""Forest plots of a comparison: the difference of each arm to the control, with its interval.

Gains, ties and losses have the same size and ink; what a difference shows is written beside it, so
that nothing depends on colour alone.
"""

import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from birdmix.report import style
from birdmix.report.comparison_row import ComparisonRow, Verdict
from birdmix.report.page_parts import escaped

_MAX_COLUMNS = 3

# Layout of a panel, in inches.
_MARGIN = 0.15
_NAMES = 1.75
_PLOT = 2.15
_VERDICTS = 1.85
_WIDTH = _MARGIN + _NAMES + _PLOT + _VERDICTS
_ROW = 0.25
_AXIS = 0.5  # height below the plot for ticks and their label
_GAP = 0.1

_COLOURS: dict[Verdict, str] = {"better": style.ACCENT, "worse": style.WARNING}
_SHOWN: tuple[Verdict, ...] = ("better", "worse", "differs")
_NOTE = (
    "Point: difference to the control. Line: its 95 % interval, for one arm at a time. Filled: "
    "shown after Holm's correction for the number of arms; hollow: not shown."
)


def draw_forest_plot(path: Path, rows: Sequence[ComparisonRow], title: str) -> None:
    """Draw one panel for each test set, stratum and metric, in the order of the rows.

    Args:
        path: The figure to write; its suffix sets the format.
        rows: The rows; arms are drawn in their order.
        title: Title of the figure.
    """
    panels = rows_by_panel(rows)
    num_columns = min(len(panels), _MAX_COLUMNS)
    lines = [panels[n : n + num_columns] for n in range(0, len(panels), num_columns)]
    heights = [max(map(_panel_height, line)) for line in lines]
    width = num_columns * _WIDTH + 2 * _MARGIN
    inner = width - 2 * _MARGIN
    titles = style.wrap_text(title, inner, style.TITLE_SIZE, "bold")
    note = style.wrap_text(_NOTE, inner, style.TEXT_SIZE)
    note_top = _MARGIN + len(titles) * style.line_height_inches(style.TITLE_SIZE)
    top = note_top + len(note) * style.line_height_inches(style.TEXT_SIZE) + _MARGIN
    figure = style.new_figure(width, top + sum(heights) + _MARGIN)
    style.text_at(figure, _MARGIN, _MARGIN, titles, size=style.TITLE_SIZE, weight="bold")
    style.text_at(figure, _MARGIN, note_top, note, colour=style.MUTED)
    for line, height in zip(lines, heights, strict=True):
        for column, panel in enumerate(line):
            _draw_panel(figure, panel, _MARGIN + column * _WIDTH, top)
        top += height
    style.save_figure(figure, path)


def forest_plot_svg(rows: Sequence[ComparisonRow], anchor: str) -> str:
    """Return the panel of one test set, stratum and metric as an SVG element for a page.

    Its colours are the page's CSS variables, its text is text, and its ids are its own.

    Args:
        rows: The rows; arms are drawn in their order.
        anchor: Place on the page, since ids of two figures of the same rows must differ.
    """
    first = rows[0]
    name = f"{first.test_set}, {first.stratum}, {first.metric_title}"
    figure = style.new_figure(_WIDTH, _panel_height(rows))
    _draw_panel(figure, rows, 0, 0)
    text = StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": f"{anchor} {name}"}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Names of elements are not referred to, and are the same in every figure.
    svg = re.sub(r' id="[a-z0-9.]+_\d+"', "", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    label = escaped(f"Forest plot: {name}")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


_VARIABLES = {
    style.INK: "ink",
    style.MUTED: "muted",
    style.FAINT: "faint",
    style.ACCENT: "accent",
    style.WARNING: "warning",
    "#ffffff": "card",
}


def rows_by_panel(rows: Sequence[ComparisonRow]) -> list[list[ComparisonRow]]:
    """Return the rows of each test set, stratum and metric, in the order of their first rows."""
    panels: dict[tuple[str, str, str], list[ComparisonRow]] = {}
    for row in rows:
        panels.setdefault((row.test_set, row.stratum, row.metric), []).append(row)
    return list(panels.values())


def _heading(panel: Sequence[ComparisonRow]) -> tuple[list[str], list[str]]:
    """Return the lines of a panel's title and of what is below it."""
    row = panel[0]
    width = _WIDTH - 2 * _MARGIN
    which = {"higher": "higher is better", "lower": "lower is better", None: ""}[row.better]
    below = ", ".join(part for part in (row.test_set, row.stratum, which) if part)
    titles, _ = style.fit_text(row.metric_title, width, style.TEXT_SIZE, weight="bold")
    lines, _ = style.fit_text(below, width, style.SMALL_SIZE, max_lines=2)
    return titles, lines


def _heading_height(panel: Sequence[ComparisonRow]) -> float:
    titles, lines = _heading(panel)
    height = len(titles) * style.line_height_inches(style.TEXT_SIZE)
    return height + len(lines) * style.line_height_inches(style.SMALL_SIZE) + _GAP


def _panel_height(panel: Sequence[ComparisonRow]) -> float:
    return _heading_height(panel) + len(panel) * _ROW + _AXIS + _GAP


def _draw_panel(figure: Figure, panel: Sequence[ComparisonRow], left: float, top: float) -> None:
    titles, lines = _heading(panel)
    style.text_at(figure, left + _MARGIN, top, titles, weight="bold")
    below = top + len(titles) * style.line_height_inches(style.TEXT_SIZE)
    style.text_at(figure, left + _MARGIN, below, lines, size=style.SMALL_SIZE, colour=style.MUTED)
    axes = style.axes_at(
        figure,
        left + _MARGIN + _NAMES,
        top + _heading_height(panel),
        _PLOT,
        len(panel) * _ROW,
    )
    arms = [style.fit_text(row.arm, _NAMES - _GAP, style.SMALL_SIZE) for row in panel]
    axes.set(xlim=_limits(panel), ylim=(len(panel) - 0.5, -0.5))
    axes.set_yticks(
        range(len(panel)),
        [" ".join(name) for name, _ in arms],
        color=style.INK,
        parse_math=False,
    )
    for tick, (_, size) in zip(axes.get_yticklabels(), arms, strict=True):
        tick.set_fontsize(size)
    axes.tick_params(axis="y", length=0, pad=6)
    axes.xaxis.set_major_locator(MaxNLocator(4, symmetric=False))
    axes.grid(axis="x", color=style.FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color=style.INK, linewidth=1.1, zorder=1)
    control = next((row.arm for row in panel if row.is_control), "the control")
    label, size = style.fit_text(f"difference to {control}", _PLOT + _GAP, style.SMALL_SIZE)
    axes.set_xlabel(label[0], size=size, color=style.MUTED, parse_math=False)
    for y, row in enumerate(panel):
        _draw_row(axes, y, row)


def _limits(panel: Sequence[ComparisonRow]) -> tuple[float, float]:
    """Return the limits of the axis: every interval and 0, with space beside them."""
    values = np.array([[row.low, row.high, row.difference] for row in panel]).ravel()
    values = np.append(values[np.isfinite(values)], 0.0)
    margin = 0.08 * np.ptp(values) or 0.01
    return float(values.min() - margin), float(values.max() + margin)


def _draw_row(axes: Axes, y: int, row: ComparisonRow) -> None:
    is_shown = row.verdict in _SHOWN
    colour = _COLOURS.get(row.verdict, style.INK if is_shown else style.MUTED)
    if np.isfinite(row.low):
        axes.plot([row.low, row.high], [y, y], color=colour, linewidth=1.8, solid_capstyle="butt")
    if np.isfinite(row.difference) and not row.is_control:
        axes.plot(
            row.difference,
            y,
            color=colour,
            marker="o",
            markersize=6,
            markerfacecolor=colour if is_shown else "#ffffff",
            markeredgecolor=colour,
            markeredgewidth=1.4,
        )
    axes.annotate(
        _row_text(row),
        (1, y),
        xycoords=("axes fraction", "data"),
        xytext=(style.inches_to_points(_GAP), 0),
        textcoords="offset points",
        va="center_baseline",
        size=style.SMALL_SIZE,
        color=style.INK if is_shown else style.MUTED,
        weight="bold" if is_shown else "normal",
        annotation_clip=False,
        parse_math=False,
    )


def _row_text(row: ComparisonRow) -> str:
    """Return the text right of a row: its difference and what it shows."""
    if row.is_control:
        return "control" if np.isnan(row.value) else f"{row.value:.3f} control"
    if np.isnan(row.difference):
        return row.verdict
    return f"{row.difference:+.3f} {row.verdict}"
