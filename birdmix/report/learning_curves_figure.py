"""Figure of a run's learning curves: losses, validation metrics and learning rate by epoch."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from birdmix.report import style

_TITLE = "Learning curves"
_NOTE = "A ring marks the best epoch of a metric."
_VALIDATION = "validation_"
_SOUNDSCAPE = "soundscape_"
_CHANCE = 0.5  # of a ROC-AUC; the axis begins here if all values are above

# Metrics of the upper panel; more would be too many curves for one panel.
_METRICS = {
    "macro_roc_auc": "macro ROC-AUC",
    "padded_cmap": "padded cmAP",
    "top1_accuracy": "top-1 accuracy",
}
_METRIC_NAMES = {**_METRICS, "loss": "validation loss"}

# Layout, in inches.
_WIDTH = 11.2
_MARGIN = 0.3
_LEFT = 0.85
_PANEL_WIDTH = 6.7
_LABELS = _LEFT + _PANEL_WIDTH + 0.25  # left edge of the curves' names
_TOP = 1.25
_METRICS_HEIGHT = 3.0
_LOSSES_HEIGHT = 2.0
_RATE_HEIGHT = 0.7
_BETWEEN = 0.75
_BOTTOM = 0.65

_TICKS_PER_INCH = 2.5
_HEADROOM = 0.08  # free above the highest loss, as a share of the panel
_TICK_STEPS = (1, 2, 5, 10)  # ticks are at multiples of these
_MAX_MARKED_EPOCHS = 40  # with more, markers would overlap


@dataclass(frozen=True)
class _Curve:
    """One curve: its epochs and finite values, both [E], and the remark beside it."""

    name: str
    colour: str
    epoch: np.ndarray
    value: np.ndarray
    remark: str


def draw_learning_curves(path: Path, metrics: pd.DataFrame) -> None:
    """Draw a run's losses, validation metrics with their best epochs, and learning rate.

    Args:
        path: The figure to write; its suffix sets the format.
        metrics: One row per epoch: ``epoch`` from 1, ``train_loss``, ``lr``, and any number of
            columns ``validation_*``. Columns may be absent, and values NaN.

    Raises:
        ValueError: If there are no epochs.
    """
    if "epoch" not in metrics or metrics.empty:
        raise ValueError("no epoch to draw; pass the rows of a run's metrics.csv")
    metrics = metrics.sort_values("epoch")
    panels = (
        ("METRICS", _METRICS_HEIGHT, _metric_curves(metrics)),
        ("LOSSES", _LOSSES_HEIGHT, _loss_curves(metrics)),
        ("LEARNING RATE", _RATE_HEIGHT, _curve(metrics, "lr", "learning rate", style.MUTED)),
    )
    height = _TOP + sum(panel[1] for panel in panels) + 2 * _BETWEEN + _BOTTOM
    figure = style.new_figure(_WIDTH, height)
    style.text_at(figure, _MARGIN, _MARGIN, [_TITLE], size=style.TITLE_SIZE, weight="bold")
    below = _MARGIN + style.line_height_inches(style.TITLE_SIZE) + 0.04
    style.text_at(figure, _MARGIN, below, [_NOTE], colour=style.MUTED)
    top = _TOP
    for caption, panel_height, curves in panels:
        axes = style.axes_at(figure, _LEFT, top, _PANEL_WIDTH, panel_height)
        style.caption_at(figure, _LEFT, top - 0.27, caption)
        _draw_curves(axes, curves, max_ticks=max(2, int(_TICKS_PER_INCH * panel_height)))
        _scale_epochs(axes, metrics["epoch"].to_numpy())
        if caption == "METRICS":
            _scale_metrics(axes, curves)
            _mark_best(axes, curves)
        else:
            _scale_from_zero(axes, curves)
        _name_curves(figure, axes, curves, top, panel_height)
        top += panel_height + _BETWEEN
    axes.set_xlabel("epoch", color=style.MUTED, size=style.TEXT_SIZE)
    style.save_figure(figure, path)


def column_label(column: str) -> str:
    """Return the name of a validation column in figures.

    ``validation_soundscape_macro_roc_auc`` is "macro ROC-AUC, soundscape windows".
    """
    metric = column.removeprefix(_VALIDATION)
    data_set = "soundscape windows" if metric.startswith(_SOUNDSCAPE) else "held-out recordings"
    metric = metric.removeprefix(_SOUNDSCAPE)
    return f"{_METRIC_NAMES.get(metric, metric.replace('_', ' '))}, {data_set}"


def _metric_curves(metrics: pd.DataFrame) -> list[_Curve]:
    columns = [
        column
        for column in metrics.columns
        if column.startswith(_VALIDATION) and column.endswith(tuple(_METRICS))
    ]
    curves = []
    for number, column in enumerate(columns):
        colour = style.SERIES[number % len(style.SERIES)]
        curves += _curve(metrics, column, column_label(column), colour)
    return [_with_best(curve) for curve in curves]


def _with_best(curve: _Curve) -> _Curve:
    best = int(curve.value.argmax())
    remark = f"best {curve.value[best]:.3f} in epoch {curve.epoch[best]:g}"
    return _Curve(curve.name, curve.colour, curve.epoch, curve.value, remark)


def _loss_curves(metrics: pd.DataFrame) -> list[_Curve]:
    curves = _curve(metrics, "train_loss", "training loss", style.INK)
    columns = [c for c in metrics.columns if c.startswith(_VALIDATION) and c.endswith("loss")]
    for number, column in enumerate(columns):
        colour = style.SERIES[number % len(style.SERIES)]
        curves += _curve(metrics, column, column_label(column), colour)
    return curves


def _curve(metrics: pd.DataFrame, column: str, name: str, colour: str) -> list[_Curve]:
    """Return the curve of a column as a list; empty if it has no finite value."""
    if column not in metrics:
        return []
    value = metrics[column].to_numpy(float)
    finite = np.isfinite(value)
    if not finite.any():
        return []
    epoch = metrics["epoch"].to_numpy(float)[finite]
    return [_Curve(name, colour, epoch, value[finite], f"last {value[finite][-1]:.3g}")]


def _draw_curves(axes: Axes, curves: list[_Curve], *, max_ticks: int) -> None:
    axes.grid(axis="y", color=style.FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(max_ticks, steps=_TICK_STEPS))
    axes.yaxis.set_major_formatter("{x:g}")
    for curve in curves:
        # A single epoch has no line.
        marker = "o" if len(curve.epoch) <= _MAX_MARKED_EPOCHS else ""
        axes.plot(curve.epoch, curve.value, marker, ls="-", ms=3.5, lw=1.8, color=curve.colour)
    if not curves:
        axes.set_yticks([])
        note = axes.text(0.5, 0.5, "not recorded", color=style.MUTED, size=style.TEXT_SIZE)
        note.set(transform=axes.transAxes, ha="center", va="center")


def _scale_epochs(axes: Axes, epoch: np.ndarray) -> None:
    margin = max(0.5, 0.02 * (epoch[-1] - epoch[0]))
    axes.set_xlim(epoch[0] - margin, epoch[-1] + margin)
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True, min_n_ticks=1, steps=_TICK_STEPS))


def _scale_metrics(axes: Axes, curves: list[_Curve]) -> None:
    lowest = min((curve.value.min() for curve in curves), default=0.0)
    bottom = _CHANCE if lowest > _CHANCE else 0.0
    axes.set_ylim(bottom, 1.0)


def _scale_from_zero(axes: Axes, curves: list[_Curve]) -> None:
    highest = max((curve.value.max() for curve in curves), default=0.0)
    lowest = min((curve.value.min() for curve in curves), default=0.0)
    bottom = min(0.0, lowest)  # a loss may be negative
    if highest > bottom:
        axes.set_ylim(bottom, highest + _HEADROOM * (highest - bottom))


def _mark_best(axes: Axes, curves: list[_Curve]) -> None:
    """Mark the best epoch of each metric with a ring, and a line down to the axis of epochs."""
    bottom, _ = axes.get_ylim()
    for curve in curves:
        best = int(curve.value.argmax())
        epoch, value = curve.epoch[best], curve.value[best]
        axes.vlines(epoch, bottom, value, color=curve.colour, lw=0.9, ls=(0, (2, 3)), zorder=1.5)
        axes.plot(
            epoch, value, "o", ms=9, mfc="white", mec=curve.colour, mew=2, zorder=3, clip_on=False
        )


def _name_curves(
    figure: Figure, axes: Axes, curves: list[_Curve], top: float, height: float
) -> None:
    """Write each curve's name at the height of its last value, moved apart where they overlap."""
    width = _WIDTH - _LABELS - 0.15
    line_height = style.line_height_inches(style.TEXT_SIZE)
    labels = []
    for curve in curves:
        lines, size = style.fit_text(curve.name, width, style.TEXT_SIZE, max_lines=2, weight="bold")
        labels.append(([*lines, curve.remark], size))
    low, high = axes.get_ylim()
    centres = [top + height * (high - curve.value[-1]) / (high - low) for curve in curves]
    heights = [len(lines) * line_height for lines, _ in labels]
    tops = _move_apart(centres, heights, 0.08, top + height)
    for curve, (lines, size), y in zip(curves, labels, tops, strict=True):
        style.text_at(figure, _LABELS, y, lines[:-1], size=size, colour=curve.colour, weight="bold")
        below = y + (len(lines) - 1) * style.line_height_inches(size)
        style.text_at(figure, _LABELS, below, lines[-1:], colour=style.INK)


def _move_apart(
    centres: list[float], heights: list[float], gap: float, bottom: float
) -> list[float]:
    """Return the tops of labels near their desired centres, with gaps in between, in inches.

    Labels are placed downwards, then those below ``bottom`` are moved up again.
    """
    order = np.argsort(centres, kind="stable")
    tops = [centre - height / 2 for centre, height in zip(centres, heights, strict=True)]
    for above, below in pairwise(order):
        tops[below] = max(tops[below], tops[above] + heights[above] + gap)
    limit = bottom
    for number in reversed(order):
        tops[number] = min(tops[number], limit - heights[number])
        limit = tops[number] - gap
    return tops
