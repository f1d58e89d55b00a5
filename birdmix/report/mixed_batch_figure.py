"""Figure of a mixed batch: spectrogram, sources and target of each example.

Shapes: M mel bins, F frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from birdmix.frontend.settings import LogMelSettings
from birdmix.report import style
from birdmix.report.log_mel_image import NUM_COLOURS, colour_range

_TITLE = "A training batch after mixing: sources and target of each example"
_NOTE = (
    "Each example is a sum of waveforms times their gains, or of parts of log-mels, such as 0.60 "
    "of (...). "
    "The bars are its target, from 0 (absent) to 1 (present). "
    "Bright is loud, on a separate scale for each example."
)
_CAPTION_SOUND = "SOURCES"
_CAPTION_TARGET = "TARGET"

_MAX_EXAMPLES = 8
_MAX_SOURCES = 5

# Layout, in inches.
_MARGIN = 0.3
_TICKS = 0.5  # width of the kHz labels
_SPECTROGRAM = (3.95, 1.75)  # width, height
_GAP = 0.3
_BARS = 1.95
_CELL = _TICKS + _SPECTROGRAM[0] + _GAP + _BARS
_BETWEEN_CELLS = 0.4
_BELOW_HEADING = 0.5
_BELOW_SOURCES = 0.06
_BELOW_CELL = 0.5  # includes the labels of seconds
_BAR = 0.12
_BELOW_BAR = 0.09
_VALUE = 0.42  # width of the value right of a bar

_TICKS_KILOHERTZ = (64, 32, 16, 8, 4, 2, 1, 0.5, 0.25)
_TICK_DISTANCE = 0.16  # least distance of labels in inches


@dataclass(frozen=True)
class MixedExample:
    """One example of a mixed batch, as the model's input.

    Attributes:
        mel: Log-mel spectrogram in any normalisation, [M, F].
        sources: One line of text per source: ``Rock Warbler x 1.00``.
        target: Soft targets in (0, 1] by display name.
    """

    mel: np.ndarray
    sources: tuple[str, ...]
    target: dict[str, float]


def draw_mixed_batch(path: Path, examples: Sequence[MixedExample], log_mel: LogMelSettings) -> None:
    """Draw the first eight examples of a mixed batch.

    Args:
        path: The figure to write; its suffix sets the format.
        examples: The batch's examples.
        log_mel: Settings of the spectrograms, for the axes in Hz and seconds.

    Raises:
        ValueError: If there are no examples, or a spectrogram has other mel bins than the settings.
    """
    shown = list(examples[:_MAX_EXAMPLES])
    _check(shown, log_mel)
    num_columns = min(2, len(shown))
    rows = [shown[start : start + num_columns] for start in range(0, len(shown), num_columns)]
    header_heights = [_header_height(row) for row in rows]
    width = _cell_left(num_columns) - _BETWEEN_CELLS + _MARGIN
    title, note = _heading(width - 2 * _MARGIN, len(shown), len(examples))
    bottom = _heading_height(title, note)
    height = bottom + sum(header_heights) + len(rows) * (_SPECTROGRAM[1] + _BELOW_CELL)
    figure = style.new_figure(width, height)
    _draw_heading(figure, title, note, num_columns)
    for row, header_height in zip(rows, header_heights, strict=True):
        bottom += header_height + _SPECTROGRAM[1]
        for column, example in enumerate(row):
            _draw_cell(figure, example, log_mel, _cell_left(column) + _TICKS, bottom)
        bottom += _BELOW_CELL
    style.save_figure(figure, path)


def mel_centres(log_mel: LogMelSettings) -> np.ndarray:
    """Return the centre frequency of each mel bin in Hz, float64 [M]."""
    from librosa import mel_frequencies  # takes a second to import

    corners = mel_frequencies(
        log_mel.n_mels + 2,
        fmin=log_mel.f_min,
        fmax=log_mel.max_frequency,
        htk=log_mel.mel_scale == "htk",
    )
    return np.asarray(corners)[1:-1]


def nearest_mel_bin(frequency: float, log_mel: LogMelSettings) -> int:
    """Return the mel bin whose centre is nearest to a frequency in Hz."""
    return int(np.abs(mel_centres(log_mel) - frequency).argmin())


def _check(examples: Sequence[MixedExample], log_mel: LogMelSettings) -> None:
    if not examples:
        raise ValueError("no examples to draw; pass at least one")
    for example in examples:
        if example.mel.ndim != 2 or len(example.mel) != log_mel.n_mels:
            raise ValueError(
                f"a spectrogram of shape {list(example.mel.shape)} is not [M, F] with "
                f"M={log_mel.n_mels}; pass the log-mel settings (frontend.log_mel) that made it"
            )


def _heading(width: float, num_shown: int, num_examples: int) -> tuple[list[str], list[str]]:
    note = _NOTE
    if num_shown < num_examples:
        note += f" The first {num_shown} of {num_examples} examples are shown."
    title = style.wrap_text(_TITLE, width, style.TITLE_SIZE, "bold")
    return title, style.wrap_text(note, width, style.TEXT_SIZE)


def _heading_height(title: list[str], note: list[str]) -> float:
    title_height = len(title) * style.line_height_inches(style.TITLE_SIZE)
    note_height = len(note) * style.line_height_inches(style.TEXT_SIZE)
    return _MARGIN + title_height + note_height + _BELOW_HEADING


def _draw_heading(figure: Figure, title: list[str], note: list[str], num_columns: int) -> None:
    style.text_at(figure, _MARGIN, _MARGIN, title, size=style.TITLE_SIZE, weight="bold")
    below = _MARGIN + len(title) * style.line_height_inches(style.TITLE_SIZE) + 0.04
    style.text_at(figure, _MARGIN, below, note, colour=style.MUTED)
    top = _heading_height(title, note) - 0.3
    for column in range(num_columns):
        left = _cell_left(column) + _TICKS
        style.caption_at(figure, left, top, _CAPTION_SOUND)
        style.caption_at(figure, left + _SPECTROGRAM[0] + _GAP, top, _CAPTION_TARGET)


def _cell_left(column: int) -> float:
    return _MARGIN + column * (_CELL + _BETWEEN_CELLS)


def _header_height(row: Sequence[MixedExample]) -> float:
    num_lines = max(1, *(min(len(example.sources), _MAX_SOURCES) for example in row))
    return num_lines * style.line_height_inches(style.TEXT_SIZE) + _BELOW_SOURCES


def _draw_cell(
    figure: Figure, example: MixedExample, log_mel: LogMelSettings, left: float, bottom: float
) -> None:
    """Draw one example; ``left`` and ``bottom`` of its spectrogram in inches from the top left."""
    width, height = _SPECTROGRAM
    lines = _source_lines(example.sources)
    line_height = style.line_height_inches(style.TEXT_SIZE)
    top = bottom - height - _BELOW_SOURCES - len(lines) * line_height
    for number, line in enumerate(lines):
        fitted, size = style.fit_text(line, width, style.TEXT_SIZE)
        style.text_at(figure, left, top + number * line_height, fitted, size=size)
    axes = style.axes_at(figure, left, bottom - height, width, height)
    _draw_spectrogram(axes, example.mel, log_mel)
    _draw_target(figure, example.target, left + width + _GAP, top, bottom)


def _source_lines(sources: Sequence[str]) -> list[str]:
    shown = list(sources)
    if len(shown) > _MAX_SOURCES:
        shown = [*shown[: _MAX_SOURCES - 1], f"{len(shown) - _MAX_SOURCES + 1} more"]
    return [line if number == 0 else f"+ {line}" for number, line in enumerate(shown)]


def _draw_spectrogram(axes: Axes, mel: np.ndarray, log_mel: LogMelSettings) -> None:
    num_mels, num_frames = mel.shape
    quiet, loud = colour_range(mel)
    seconds = (np.array([0, num_frames]) - 0.5) * log_mel.hop_length / log_mel.sample_rate
    axes.imshow(
        mel,
        origin="lower",
        aspect="auto",
        interpolation="antialiased",
        interpolation_stage="data",  # no further colours
        cmap=colormaps["magma"].resampled(NUM_COLOURS),
        vmin=quiet,
        vmax=loud,
        extent=(seconds[0], seconds[1], -0.5, num_mels - 0.5),
    )
    positions, names = frequency_ticks(log_mel, _TICK_DISTANCE / _SPECTROGRAM[1])
    axes.set_yticks(positions, names)
    axes.xaxis.set_major_formatter("{x:g} s")
    axes.spines[:].set_visible(False)


def frequency_ticks(log_mel: LogMelSettings, least_distance: float) -> tuple[list[int], list[str]]:
    """Return the mel bins of round frequencies, highest first, and their names in kHz.

    Args:
        log_mel: Settings of the log-mel.
        least_distance: Least distance of two of them, as a fraction of the height.
    """
    distance = least_distance * log_mel.n_mels
    positions: list[int] = []
    names: list[str] = []
    for kilohertz in _TICKS_KILOHERTZ:
        hertz = 1000 * kilohertz
        position = nearest_mel_bin(hertz, log_mel)
        inside = log_mel.f_min <= hertz <= log_mel.max_frequency
        if inside and (not positions or positions[-1] - position >= distance):
            positions.append(position)
            names.append(f"{kilohertz:g}" if names else f"{kilohertz:g} kHz")
    return positions, names


def _draw_target(
    figure: Figure, target: dict[str, float], left: float, top: float, bottom: float
) -> None:
    """Draw a bar for each species, the highest first, between ``top`` and ``bottom`` (inches)."""
    ordered = sorted(target.items(), key=lambda item: -item[1])
    line_height = style.line_height_inches(style.TEXT_SIZE)
    if not ordered:
        style.text_at(figure, left, top, ["no species"], colour=style.MUTED)
    for number, (name, value) in enumerate(ordered):
        lines, size = style.fit_text(name, _BARS, style.TEXT_SIZE, max_lines=2)
        below_name = top + len(lines) * line_height + 0.02
        num_left = len(ordered) - number
        # All but the last bar need space below for the line with the number of further species.
        if below_name + _BAR + (line_height if num_left > 1 else 0) > bottom:
            rest = f"and {num_left} more, up to {value:.2f}"
            style.text_at(figure, left, top, [rest], colour=style.MUTED)
            break
        style.text_at(figure, left, top, lines, size=size)
        _draw_bar(figure, value, left, below_name)
        top = below_name + _BAR + _BELOW_BAR


def _draw_bar(figure: Figure, value: float, left: float, top: float) -> None:
    width = _BARS - _VALUE
    for length, colour in ((1.0, style.FAINT), (value, style.ACCENT)):
        style.fill_rectangle_at(figure, left, top, width * length, _BAR, colour)
    number_top = top + _BAR / 2 - style.line_height_inches(style.TEXT_SIZE) / 2
    style.text_at(figure, left + width + 0.08, number_top, [f"{value:.2f}"])
