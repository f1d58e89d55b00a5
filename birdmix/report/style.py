"""Style of figures: palette, layout in inches, fitting of text, atomic saving.

Positions are in inches from the top left corner of the page. Text sizes are in inches too, so
whether text fits is computed before anything is drawn.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path

from birdmix.files import atomic_path

INK = "#1d2b33"
MUTED = "#66757f"
FAINT = "#dfe5e8"
ACCENT = "#0b7a75"
WARNING = "#c8553d"
#: The same colours for a dark background, and the background.
DARK_GROUND = "#12191d"
DARK_INK = "#dfe5e8"
DARK_MUTED = "#93a3ad"
DARK_FAINT = "#2b3940"
DARK_ACCENT = "#3fb8b1"
DARK_WARNING = "#e5846e"
#: Colours of curves, distinct for colour-blind readers as well.
SERIES = (ACCENT, "#d98324", "#5b4b9a", "#2e78b7", "#a23b72", "#6b8e23")

TITLE_SIZE = 15.0
TEXT_SIZE = 9.5
SMALL_SIZE = 8.5

#: Baseline to baseline, as a multiple of the font size.
LINE_SPACING = 1.3

DPI = 110
_POINTS_PER_INCH = 72
_MIN_SCALE = 0.8  # text is reduced to this share of its size before it is shortened
_HINTING = 1.04  # letters aligned to pixels are wider than their outlines
_ASCENT = 0.95  # from the top of a line to its baseline, as a multiple of the font size
_MIN_LETTER_WIDTH = 0.2  # width of the narrowest letters, as a multiple of the font size


def new_figure(width: float, height: float) -> Figure:
    """Return a white page of ``width`` by ``height`` inches."""
    return Figure(figsize=(width, height), dpi=DPI, facecolor="white")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure atomically, in the format of the suffix of ``path``."""
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=DPI)


def axes_at(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Return axes whose frame is at a position in inches from the page's top left."""
    page_width, page_height = figure.get_size_inches()
    bottom = page_height - top - height
    frame = (left / page_width, bottom / page_height, width / page_width, height / page_height)
    axes = figure.add_axes(frame)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelsize=SMALL_SIZE, length=3)
    return axes


def fill_rectangle_at(
    figure: Figure, left: float, top: float, width: float, height: float, colour: str
) -> None:
    """Fill a rectangle at a position in inches from the page's top left."""
    page_width, page_height = figure.get_size_inches()
    corner = (left / page_width, 1 - (top + height) / page_height)
    size = (width / page_width, height / page_height)
    figure.add_artist(Rectangle(corner, *size, color=colour, linewidth=0))


def text_at(
    figure: Figure,
    left: float,
    top: float,
    lines: Sequence[str],
    *,
    size: float = TEXT_SIZE,
    colour: str = INK,
    weight: str = "normal",
) -> None:
    """Write lines of text below and right of a position in inches from the page's top left."""
    page_width, page_height = figure.get_size_inches()
    for number, line in enumerate(lines):
        # By the baseline: the top of a line depends on its letters.
        baseline = top + number * line_height_inches(size) + size * _ASCENT / _POINTS_PER_INCH
        figure.text(
            left / page_width,
            1 - baseline / page_height,
            line,
            size=size,
            color=colour,
            weight=weight,
            parse_math=False,
        )


def caption_at(figure: Figure, left: float, top: float, caption: str) -> None:
    """Write the caption of a part of the page."""
    text_at(figure, left, top, [caption], size=SMALL_SIZE, colour=ACCENT, weight="bold")


def inches_to_points(inches: float) -> float:
    """Return a length in inches as points."""
    return inches * _POINTS_PER_INCH


def line_height_inches(size: float) -> float:
    """Return the inches from one baseline to the next at a font size in points."""
    return size * LINE_SPACING / _POINTS_PER_INCH


@lru_cache(maxsize=4096)
def _width_at_one_point(text: str, weight: str) -> float:
    font = FontProperties(weight=weight, size=100)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return width / 100


def text_width_inches(text: str, size: float, weight: str = "normal") -> float:
    """Return the width in inches of one line of text at a font size in points."""
    return _width_at_one_point(text, weight) * size * _HINTING / _POINTS_PER_INCH


def wrap_text(text: str, width: float, size: float, weight: str = "normal") -> list[str]:
    """Break text between words into lines of at most ``width`` inches.

    A word wider than a line gets a line of its own, and is shortened in its middle.
    """
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width_inches(longer, size, weight) <= width:
            lines[-1] = longer
        else:
            lines.append(_shorten(word, width, size, weight))
    return lines


def fit_text(
    text: str, width: float, size: float, *, max_lines: int = 1, weight: str = "normal"
) -> tuple[list[str], float]:
    """Wrap text into ``max_lines`` lines, in a smaller font if needed, or else shortened.

    Args:
        text: The text.
        width: Width of a line in inches.
        size: Preferred font size in points.
        max_lines: Most lines.
        weight: Font weight.

    Returns:
        The lines and the font size in points at which they fit.
    """
    smallest = size * _MIN_SCALE
    text = _bounded(text, width, smallest, max_lines)
    lines = wrap_text(text, width, smallest, weight)
    if len(lines) > max_lines:
        rest = " ".join(lines[max_lines - 1 :])
        return [*lines[: max_lines - 1], _shorten(rest, width, smallest, weight)], smallest
    if any("…" in line for line in lines):
        return lines, smallest
    candidate = size
    while candidate >= smallest:
        larger = wrap_text(text, width, candidate, weight)
        if len(larger) <= max_lines and not any("…" in line for line in larger):
            return larger, candidate
        candidate -= 0.5
    return lines, smallest


def _bounded(text: str, width: float, size: float, max_lines: int) -> str:
    """Remove the middle of a long text, which could not fit anyway, since layout takes time.

    Twice the number of letters that can fit is kept at the beginning, and that number at the end.
    """
    fitting = max_lines * (int(inches_to_points(width) / (size * _MIN_LETTER_WIDTH)) + 1)
    if len(text) <= 3 * fitting:
        return text
    return text[: 2 * fitting] + text[-fitting:]


def _shorten(text: str, width: float, size: float, weight: str) -> str:
    """Shorten text in its middle, since surnames and gains are at its end."""
    text = _bounded(text, width, size, 1)
    if text_width_inches(text, size, weight) <= width:
        return text

    def shortened(num_kept: int) -> str:
        num_last = num_kept // 3
        return f"{text[: num_kept - num_last].rstrip()}…{text[len(text) - num_last :].lstrip()}"

    # Binary search for the number of letters to keep, since each try lays out the text.
    fits, too_many = 1, len(text)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if text_width_inches(shortened(middle), size, weight) <= width:
            fits = middle
        else:
            too_many = middle
    return shortened(fits) if fits > 1 else "…"
