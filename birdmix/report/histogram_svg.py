"""Histograms as SVG inside HTML pages, coloured by the page's style sheet.

Shapes: N bars.
"""

from collections.abc import Sequence

from birdmix.report.page_parts import escaped

# Size of the drawing, and of the plot in it.
_WIDTH, _HEIGHT = 320, 132
_LEFT, _RIGHT, _TOP, _BOTTOM = 4, 4, 16, 18


def histogram_svg(
    name: str,
    observed: Sequence[float],
    promised: Sequence[float] | None,
    ticks: Sequence[tuple[float, str]],
) -> str:
    """Return a histogram: a bar for each observed rate, a mark for each promised one.

    Args:
        name: What is shown, for screen readers.
        observed: Rate of each bar, 0 or more, N of them.
        promised: The promised rates; None if nothing is promised.
        ticks: Labels below the bars: position in bars, from 0 (left edge) to N, and text.
    """
    highest = max([*observed, *(promised or ()), 1e-9])
    width = (_WIDTH - _LEFT - _RIGHT) / len(observed)
    floor = _HEIGHT - _BOTTOM

    def top(rate: float) -> float:
        return floor - rate / highest * (floor - _TOP)

    bars = [
        f'<rect class="bar-of" x="{_LEFT + width * n + 1:.1f}" y="{top(rate):.1f}" '
        f'width="{max(width - 2, 0.5):.1f}" height="{floor - top(rate):.1f}">'
        f"<title>{rate:.1%}</title></rect>"
        for n, rate in enumerate(observed)
    ]
    marks = [
        f'<path class="promise" d="M{_LEFT + width * n:.1f} {top(rate):.1f}h{width:.1f}"/>'
        for n, rate in enumerate(promised or ())
    ]
    labels = [
        f'<text x="{_LEFT + width * at:.1f}" y="{_HEIGHT - 4}" '
        f'text-anchor="{_anchor(at, len(observed))}">{escaped(text)}</text>'
        for at, text in ticks
    ]
    scale = f'<text x="{_LEFT}" y="11">{highest:.0%}</text>'
    axis = f'<path class="axis" d="M{_LEFT} {floor}H{_WIDTH - _RIGHT}"/>'
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escaped(name)}">'
        f"{scale}{''.join(bars)}{''.join(marks)}{axis}{''.join(labels)}</svg>"
    )


def _anchor(position: float, num_bars: int) -> str:
    if position <= 0:
        return "start"
    return "end" if position >= num_bars else "middle"
