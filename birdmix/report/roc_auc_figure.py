"""Figure of the ROC-AUC of each class.

Shapes: C classes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from birdmix.labels import Labels
from birdmix.report import style

_CHANCE = 0.5
_MAX_ROWS = 40
_NUM_EXTREMES = 20  # number of best and of worst classes, where not all are shown
_MAX_UNSCORED = 30  # most names listed for each reason

# Layout, in inches.
_WIDTH = 10.5
_MARGIN = 0.3
_NAMES = (1.1, 3.6)  # narrowest and widest column of names
_BEFORE_PLOT = 0.2
_COUNT = 0.95  # width of the number of sounds, right of the plot
_ROW = 0.225
_HEADER = 0.5  # height above the plot for the names of its columns and lines
_AXIS = 0.65  # height of the axis below the plot
_LIFT = 4.0  # points between the plot and the text above it
_GAP_ROWS = 1.6  # empty rows between best and worst


@dataclass(frozen=True)
class _Row:
    """One species of the plot; ``y`` counts rows from the top."""

    y: float
    name: str
    roc_auc: float
    num_positives: int


def draw_roc_auc_per_class(
    path: Path, labels: Labels, roc_auc: np.ndarray, num_positives: np.ndarray, title: str
) -> None:
    """Draw the ROC-AUC of each class, best first; of more than 40 classes the 20 best and worst.

    Args:
        path: The figure to write; its suffix sets the format.
        labels: The classes.
        roc_auc: ROC-AUC in [0, 1], or NaN where a class cannot be scored, [C].
        num_positives: Number of sounds (windows or recordings) that have each class, [C].
        title: Title with the data set and the metric.

    Raises:
        ValueError: If an array does not hold one value for each class.
    """
    _check(labels, roc_auc=roc_auc, num_positives=num_positives)
    rows = _rows(labels, roc_auc, num_positives)
    title_lines = style.wrap_text(title, _WIDTH - 2 * _MARGIN, style.TITLE_SIZE, "bold")
    note = _wrap_small(_note(rows, roc_auc))
    unscored = _unscored_lines(labels, roc_auc, num_positives)
    top = _MARGIN + len(title_lines) * style.line_height_inches(style.TITLE_SIZE) + 0.04
    plot_top = (
        top + len(note) * style.line_height_inches(style.TEXT_SIZE) + (_HEADER if rows else 0.1)
    )
    plot_height = (rows[-1].y + 1) * _ROW if rows else 0.0
    bottom = plot_top + plot_height + (_AXIS if rows else 0.0)
    height = bottom + len(unscored) * style.line_height_inches(style.TEXT_SIZE) + _MARGIN
    figure = style.new_figure(_WIDTH, height)
    style.text_at(figure, _MARGIN, _MARGIN, title_lines, size=style.TITLE_SIZE, weight="bold")
    style.text_at(figure, _MARGIN, top, note, colour=style.MUTED)
    if rows:
        _draw_plot(figure, rows, roc_auc, plot_top, plot_height)
    style.text_at(figure, _MARGIN, bottom, unscored, colour=style.MUTED)
    style.save_figure(figure, path)


def _check(labels: Labels, *, roc_auc: np.ndarray, num_positives: np.ndarray) -> None:
    for name, values in (("roc_auc", roc_auc), ("num_positives", num_positives)):
        if np.shape(values) != (len(labels),):
            raise ValueError(
                f"{name} has shape {list(np.shape(values))} for {len(labels)} classes; "
                "pass one value for each label"
            )


def _rows(labels: Labels, roc_auc: np.ndarray, num_positives: np.ndarray) -> list[_Row]:
    """Return the classes to plot, best first, with a gap where some are left out."""
    order = [int(c) for c in np.argsort(-roc_auc, kind="stable") if np.isfinite(roc_auc[c])]
    gap = 0.0
    if len(order) > _MAX_ROWS:
        order = order[:_NUM_EXTREMES] + order[-_NUM_EXTREMES:]
        gap = _GAP_ROWS
    return [
        _Row(
            y=number + (gap if number >= _NUM_EXTREMES else 0.0),
            name=labels.names[c],
            roc_auc=float(roc_auc[c]),
            num_positives=int(num_positives[c]),
        )
        for number, c in enumerate(order)
    ]


def _note(rows: list[_Row], roc_auc: np.ndarray) -> str:
    num_scored = int(np.isfinite(roc_auc).sum())
    if not num_scored:
        return "No species could be scored."
    note = (
        "ROC-AUC: the chance that an example with the species ranks above one without it. "
        "1 is perfect, 0.5 is guessing."
    )
    if len(rows) < num_scored:
        note += f" Shown: the {_NUM_EXTREMES} best and the {_NUM_EXTREMES} worst of {num_scored}."
    return note


def _unscored_lines(labels: Labels, roc_auc: np.ndarray, num_positives: np.ndarray) -> list[str]:
    lines: list[str] = []
    unscored = np.isnan(roc_auc)
    for reason, members in (
        ("no sound has them", unscored & (num_positives == 0)),
        ("every sound has them", unscored & (num_positives > 0)),
    ):
        names = [labels.names[c] for c in np.flatnonzero(members)]
        if not names:
            continue
        listed = ", ".join(names[:_MAX_UNSCORED])
        if len(names) > _MAX_UNSCORED:
            listed += f" and {len(names) - _MAX_UNSCORED} more"
        lines += _wrap_small(f"Not scored, as {reason} ({len(names)}): {listed}")
    return lines


def _wrap_small(text: str) -> list[str]:
    return style.wrap_text(text, _WIDTH - 2 * _MARGIN, style.TEXT_SIZE)


def _draw_plot(
    figure: Figure, rows: list[_Row], roc_auc: np.ndarray, top: float, height: float
) -> None:
    size = min(style.fit_text(row.name, _NAMES[1], style.TEXT_SIZE)[1] for row in rows)
    names = [style.fit_text(row.name, _NAMES[1], size)[0][0] for row in rows]
    widest = max(style.text_width_inches(name, size) for name in names)
    left = _MARGIN + max(_NAMES[0], widest) + _BEFORE_PLOT
    width = _WIDTH - _MARGIN - _COUNT - left
    axes = style.axes_at(figure, left, top, width, height)
    _scale(axes, rows)
    axes.set_yticks([row.y for row in rows], names, size=size, color=style.INK, parse_math=False)
    for row in rows:
        _draw_row(axes, row)
    _write_right(axes, "examples\nwith it", 1, "axes fraction", va="bottom", lift=_LIFT)
    _mark_lines(axes, float(np.nanmean(roc_auc)))
    _write_gap(axes, rows, int(np.isfinite(roc_auc).sum()) - len(rows))


def _scale(axes: Axes, rows: list[_Row]) -> None:
    lowest = min(row.roc_auc for row in rows)
    # Values are written beside the dots, which needs space on both sides.
    low = 0.48 if lowest >= _CHANCE else max(0.0, np.floor(lowest * 10) / 10) - 0.08
    axes.set(xlim=(low, 1.0 + 0.11 * (1 - low)), ylim=(rows[-1].y + 0.5, -0.5))
    axes.set_xticks([tick for tick in np.arange(11) / 10 if tick >= low])
    axes.set_xlabel("ROC-AUC", size=style.TEXT_SIZE, color=style.MUTED)
    axes.grid(axis="x", color=style.FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, pad=6)


def _draw_row(axes: Axes, row: _Row) -> None:
    worse = row.roc_auc < _CHANCE
    colour = style.WARNING if worse else style.ACCENT
    axes.plot([_CHANCE, row.roc_auc], [row.y, row.y], color=colour, linewidth=1.6, alpha=0.45)
    axes.plot(row.roc_auc, row.y, marker="o", markersize=6, color=colour)
    value = axes.annotate(
        f"{row.roc_auc:.3f}",
        (row.roc_auc, row.y),
        xytext=(-7 if worse else 7, 0),
        textcoords="offset points",
        ha="right" if worse else "left",
        va="center_baseline",
        size=style.SMALL_SIZE,
        color=style.INK,
    )
    value.set_path_effects([withStroke(linewidth=3, foreground="white")])
    _write_right(axes, f"{row.num_positives:,}", row.y, "data", va="center_baseline")


def _write_right(
    axes: Axes, text: str, y: float, y_coords: str, *, va: str, lift: float = 0
) -> None:
    """Write in the column of counts, right of the plot, ``lift`` points above ``y``."""
    axes.annotate(
        text,
        (1, y),
        xycoords=("axes fraction", y_coords),
        xytext=(0.75 * style.inches_to_points(_COUNT), lift),
        textcoords="offset points",
        ha="right",
        va=va,
        size=style.SMALL_SIZE,
        color=style.MUTED,
    )


def _mark_lines(axes: Axes, macro_mean: float) -> None:
    """Mark chance and the macro mean; their names above the plot extend in opposite directions."""
    mean_on_right = macro_mean >= _CHANCE
    for value, name, colour, on_right in (
        (_CHANCE, "chance 0.5", style.MUTED, not mean_on_right),
        (macro_mean, f"macro mean {macro_mean:.3f}", style.INK, mean_on_right),
    ):
        axes.axvline(value, color=colour, linewidth=1.1, linestyle=(0, (4, 3)), zorder=0.9)
        axes.annotate(
            name,
            (value, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, _LIFT),
            textcoords="offset points",
            ha="left" if on_right else "right",
            size=style.SMALL_SIZE,
            color=colour,
            weight="bold",
        )


def _write_gap(axes: Axes, rows: list[_Row], num_hidden: int) -> None:
    if not num_hidden:
        return
    best, worst = rows[_NUM_EXTREMES - 1], rows[_NUM_EXTREMES]
    text = f"{num_hidden} more species between {worst.roc_auc:.3f} and {best.roc_auc:.3f}"
    axes.text(
        0.5,
        (best.y + worst.y) / 2,
        text,
        transform=axes.get_yaxis_transform(),
        ha="center",
        va="center",
        size=style.TEXT_SIZE,
        color=style.MUTED,
        style="italic",
        backgroundcolor="white",
    )
