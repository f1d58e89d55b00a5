"""HTML page of mixes: examples to see and hear, and distributions beside what settings promise.

The page holds its sounds and images. Text from file names, labels and settings is escaped here.

Shapes: M mel bins, F frames, K sources.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from birdmix.frontend.settings import LogMelSettings
from birdmix.report.histogram_svg import histogram_svg
from birdmix.report.mixed_batch_figure import frequency_ticks
from birdmix.report.page_parts import MAX_PAGE_BYTES, data_uri, escaped, fill_template

# Rows of a table of classes, and names in a list, that are not folded.
_MAX_ROWS, _MAX_NAMES = 10, 12


@dataclass(frozen=True)
class Box:
    """A box drawn in a log-mel, as fractions of its width and height, from the left and below.

    Attributes:
        time: Begin and end.
        mel: Begin and end.
        name: What fills it.
    """

    time: tuple[float, float]
    mel: tuple[float, float]
    name: str


@dataclass(frozen=True)
class SourceView:
    """A source of a mixed example.

    Attributes:
        name: Where it comes from: the path of a recording, or another example.
        lines: Further lines about it, such as its labels.
        numbers: What the mix does to it: names and values as text.
        sound: Its sound, OGG; as loud as in the mix.
        image: Its log-mel, PNG.
    """

    name: str
    lines: Sequence[str]
    numbers: Sequence[tuple[str, str]]
    sound: bytes
    image: bytes


@dataclass(frozen=True)
class TargetRow:
    """The target of a class.

    Attributes:
        name: Display name of the class.
        target: Target in [0, 1].
        is_known: Whether it is known; an unknown one has no loss.
        brought: What each source brings, before it is joined with the others, K of them.
    """

    name: str
    target: float
    is_known: bool
    brought: Sequence[float]


@dataclass(frozen=True)
class ExampleView:
    """A mixed example.

    Attributes:
        title: Its number and batch.
        steps: A line for each operator that mixed it.
        sound: Sound of its waveform, OGG.
        image: Its log-mel as the network gets it, PNG.
        boxes: Boxes that are drawn in the log-mel.
        sources: The K sources.
        targets: The classes with a target, or with anything brought.
        unknown: Display names of the classes that are unknown and have no row.
        notes: Further lines, such as weight and loudness.
        clean_image: Log-mel of its clean view, PNG; None if there is none.
    """

    title: str
    steps: Sequence[str]
    sound: bytes
    image: bytes
    boxes: Sequence[Box]
    sources: Sequence[SourceView]
    targets: Sequence[TargetRow]
    unknown: Sequence[str]
    notes: Sequence[str]
    clean_image: bytes | None = None

    @property
    def num_bytes(self) -> int:
        """Size of its sounds and images on the page, about."""
        files = [self.sound, self.image, self.clean_image or b""]
        files += [file for each in self.sources for file in (each.sound, each.image)]
        return sum(4 * len(file) // 3 for file in files)


@dataclass(frozen=True)
class HistogramView:
    """A distribution over many batches.

    Attributes:
        name: What it is of.
        observed: Rate of each bar, N of them; none draws no bars.
        promised: The promised rates; None if nothing is promised.
        ticks: Labels below the bars (``histogram_svg``).
        summary: What was observed, in words.
        promise: What the settings promise, in words.
        verdict: Whether both agree, in words; empty if nothing is promised.
        is_broken: Whether they differ by more than chance.
    """

    name: str
    observed: Sequence[float]
    promised: Sequence[float] | None
    ticks: Sequence[tuple[float, str]]
    summary: str
    promise: str
    verdict: str = ""
    is_broken: bool = False


@dataclass(frozen=True)
class InspectionPage:
    """The page.

    Attributes:
        title: Whose mixes they are.
        summary: Lines about run, data and batches.
        settings: The settings of the mix, ``key=value`` each.
        note: What to know about sounds and levels.
        examples: The examples.
        examples_note: Which examples are shown.
        histograms: The distributions.
        histograms_note: Of which batches they are.
        log_mel: Settings of the log-mels, for their axes.
        seconds: Length of an example.
    """

    title: str
    summary: Sequence[str]
    settings: Sequence[str]
    note: str
    examples: Sequence[ExampleView]
    examples_note: str
    histograms: Sequence[HistogramView]
    histograms_note: str
    log_mel: LogMelSettings
    seconds: float


def check_page_size(num_bytes: int, num_examples: int) -> None:
    """Check that a page of examples is small enough to be opened.

    Args:
        num_bytes: Its size, or that of its sounds and images.
        num_examples: Number of examples on it.

    Raises:
        ValueError: If it is larger than 40 MB.
    """
    if num_bytes > MAX_PAGE_BYTES:
        fewer = max(int(num_examples * MAX_PAGE_BYTES / num_bytes * 0.9), 1)
        raise ValueError(
            f"--examples={num_examples}: the page would have {num_bytes / 1e6:.0f} MB, more than "
            f"{MAX_PAGE_BYTES / 1e6:.0f}; show fewer, for example --examples {fewer}"
        )


def render_inspection_page(page: InspectionPage) -> str:
    """Return the page as HTML.

    Args:
        page: Its contents.

    Raises:
        ValueError: If it would be larger than 40 MB.
    """
    ticks = "".join(_frequency_labels(page.log_mel))
    text = fill_template(
        "inspection_page",
        title=escaped(page.title),
        summary="".join(f"<p>{escaped(line)}</p>" for line in page.summary),
        settings=", ".join(f"<code>{escaped(each)}</code>" for each in page.settings) or "none",
        note=escaped(page.note),
        examples_note=escaped(page.examples_note),
        examples="\n".join(
            _example_html(number, example, ticks, page.seconds)
            for number, example in enumerate(page.examples)
        ),
        histograms_note=escaped(page.histograms_note),
        histograms="\n".join(map(_histogram_html, page.histograms)),
        contents="\n".join(
            f'<a href="#e{number}">{escaped(example.title)}</a>'
            for number, example in enumerate(page.examples)
        ),
    )
    check_page_size(len(text.encode()), len(page.examples))
    return text


def _frequency_labels(log_mel: LogMelSettings) -> Iterator[str]:
    for position, name in zip(*frequency_ticks(log_mel, 0.12), strict=True):
        height = (position + 0.5) / log_mel.n_mels
        yield f'<b class="tick" style="bottom:min({height:.1%}, 100% - .4rem)">{name}</b>'


def _example_html(number: int, example: ExampleView, ticks: str, seconds: float) -> str:
    sources = "\n".join(_source_html(key, each) for key, each in enumerate(example.sources, 1))
    steps = "".join(f"<li>{escaped(step)}</li>" for step in example.steps)
    notes = "".join(f"<p>{escaped(note)}</p>" for note in example.notes)
    boxes = "".join(map(_box_html, example.boxes))
    clean = ""
    if example.clean_image is not None:
        clean = (
            '<figure class="clean"><figcaption>clean view</figcaption>'
            f"{_image_html(example.clean_image, 'Log-mel of the clean view')}</figure>"
        )
    title = escaped(example.title)
    image = _image_html(example.image, "Log-mel as the network gets it")
    return f"""<article class="example" id="e{number}" tabindex="0" aria-label="{title}">
<h3>{title}</h3>
<ol class="steps">{steps}</ol>
<div class="columns">
<div>
<div class="view">{image}{boxes}{ticks}<i></i></div>
<p class="axis"><span>0 s</span><span>{seconds:g} s</span></p>
<audio class="mix" controls preload="none" aria-label="The mix"
 src="{data_uri(example.sound, "audio/ogg")}"></audio>
{clean}
</div>
<div>
{_targets_html(example)}
{_unknown_html(example.unknown)}
<div class="small">{notes}</div>
</div>
</div>
<div class="sources">
{sources}
</div>
</article>"""


def _image_html(image: bytes, name: str) -> str:
    return f'<img src="{data_uri(image, "image/png")}" alt="{escaped(name)}">'


def _box_html(box: Box) -> str:
    left, bottom = box.time[0], box.mel[0]
    width, height = box.time[1] - left, box.mel[1] - bottom
    return (
        f'<span class="box" style="left:{left:.2%};width:{width:.2%};bottom:{bottom:.2%};'
        f'height:{height:.2%}" title="{escaped(box.name)}"><em>{escaped(box.name)}</em></span>'
    )


def _source_html(key: int, source: SourceView) -> str:
    numbers = "".join(
        f"<div><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd></div>"
        for name, value in source.numbers
    )
    lines = "".join(f'<p class="small">{escaped(line)}</p>' for line in source.lines)
    name = escaped(source.name)
    return f"""<figure class="source">
<figcaption><kbd>{key}</kbd> <span title="{name}">{name}</span></figcaption>
<div class="view">{_image_html(source.image, "Log-mel of the source")}<i></i></div>
<audio controls preload="none" aria-label="Source {key}: {name}"
 src="{data_uri(source.sound, "audio/ogg")}"></audio>
{lines}
<dl>{numbers}</dl>
</figure>"""


def _targets_html(example: ExampleView) -> str:
    if not example.targets:
        return "<p>no class has a target</p>"
    keys = range(1, len(example.sources) + 1)
    head = "".join(
        f'<th scope="col" aria-label="source {key}"><kbd>{key}</kbd></th>' for key in keys
    )
    table = (
        '<div class="wide"><table class="targets">'
        "<caption>target, and what each source brought</caption>"
        f'<thead><tr><th scope="col">class</th><th scope="col">target</th>{head}</tr></thead>'
        "<tbody>{rows}</tbody></table></div>"
    )
    rows = [_target_row_html(row) for row in example.targets]
    shown, folded = rows[:_MAX_ROWS], rows[_MAX_ROWS:]
    html = table.replace("{rows}", "".join(shown))
    if folded:
        more = table.replace("{rows}", "".join(folded))
        html += f"<details><summary>{len(folded)} more classes</summary>{more}</details>"
    return html


def _target_row_html(row: TargetRow) -> str:
    brought = "".join(f"<td>{value:.2f}</td>" if value else "<td></td>" for value in row.brought)
    state = "" if row.is_known else ' <small class="unknown">unknown</small>'
    return (
        f'<tr><th scope="row">{escaped(row.name)}{state}</th><td class="value">{row.target:.2f}'
        f'<i style="width:{row.target:.0%}"></i></td>{brought}</tr>'
    )


def _unknown_html(names: Sequence[str]) -> str:
    if not names:
        return '<p class="small">every other class is known to be absent</p>'
    text = escaped(", ".join(names))
    if len(names) <= _MAX_NAMES:
        return f'<p class="small">unknown, without a loss: {text}</p>'
    return (
        f'<details class="small"><summary>{len(names)} more classes are unknown, without a loss'
        f"</summary>{text}</details>"
    )


def _histogram_html(view: HistogramView) -> str:
    name = escaped(view.name)
    svg = ""
    if view.observed:
        svg = histogram_svg(
            f"{view.name}: {view.summary}", view.observed, view.promised, view.ticks
        )
    state = "broken" if view.is_broken else "kept" if view.verdict else ""
    verdict = f'<p class="verdict {state}">{escaped(view.verdict)}</p>' if view.verdict else ""
    return f"""<figure class="histogram">
<figcaption>{name}</figcaption>
{svg}
<p>{escaped(view.summary)}</p>
<p class="small">{escaped(view.promise)}</p>
{verdict}
</figure>"""
