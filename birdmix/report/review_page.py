"""HTML page for reviewing detected clips: figures, audio players, and verdicts that are stored.

Text from file names and tables is escaped here.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from birdmix.files import write_text
from birdmix.report import clip_figure
from birdmix.report.page_parts import escaped, fill_template

_VERDICT_BUTTONS = "".join(
    f'<button type="button" value="{verdict}" aria-pressed="false">{verdict}</button>'
    for verdict in ("right", "wrong", "unsure")
)


@dataclass(frozen=True)
class ClipCard:
    """A clip on the page.

    Attributes:
        sound: Path of the audio file, relative to the page.
        figure: Path of its figure, relative to the page.
        seconds: Length of the clip.
        path: Path of the recording.
        datetime: Local time at which the detection starts; empty if unknown.
        deployment: Name of the deployment that recorded it.
        start_seconds: Start of the detection in the recording, as text.
        end_seconds: End of the detection in the recording, as text.
        confidence: Confidence, as text.
        gain_db: Gain that was applied to the clip, in dB.
    """

    sound: str
    figure: str
    seconds: float
    path: str
    datetime: str
    deployment: str
    start_seconds: str
    end_seconds: str
    confidence: str
    gain_db: float


@dataclass(frozen=True)
class SpeciesSection:
    """A species on the page.

    Attributes:
        species: Code of the species.
        common_name: Display name.
        num_detections: Number of detections.
        confidence: The lowest and the highest confidence of the detections.
        cards: The clips, in descending order of confidence.
    """

    species: str
    common_name: str
    num_detections: int
    confidence: tuple[float, float]
    cards: Sequence[ClipCard]


def write_review_page(
    path: Path, sections: Sequence[SpeciesSection], summary: str, recordings: str
) -> None:
    """Write the page.

    Args:
        path: The HTML file.
        sections: The species.
        summary: Line with a summary of the recordings.
        recordings: Folder of the recordings. Verdicts are stored in the browser under it, and are
            shown on every page of the same recordings.
    """
    text = fill_template(
        "review_page",
        _plot_variables(),
        summary=escaped(summary),
        recordings=hashlib.sha256(recordings.encode(errors="surrogateescape")).hexdigest()[:16],
        contents="\n".join(_navigation_link(n, section) for n, section in enumerate(sections)),
        sections="\n".join(_section_html(n, section) for n, section in enumerate(sections)),
    )
    write_text(path, text)


def _plot_variables() -> str:
    """Return CSS variables for the place of the plot in a figure."""
    width, height = clip_figure.SIZE
    return (
        f"--plot-left:{clip_figure.PLOT_LEFT};--plot-width:{clip_figure.PLOT_WIDTH};"
        f"--plot-top:{clip_figure.PLOT_TOP};--plot-height:{clip_figure.PLOT_HEIGHT};--shape:{width}/{height};"
    )


def _navigation_link(number: int, section: SpeciesSection) -> str:
    return (
        f'<a href="#s{number}" data-of="s{number}">{escaped(section.common_name)} '
        f"<small>{section.num_detections:,}</small></a>"
    )


def _section_html(number: int, section: SpeciesSection) -> str:
    low, high = section.confidence
    plural = "" if section.num_detections == 1 else "s"
    cards = "\n".join(_card_html(section, card) for card in section.cards)
    return f"""<section id="s{number}" data-species="{escaped(section.species)}">
<h2>{escaped(section.common_name)} <code>{escaped(section.species)}</code></h2>
<p>{section.num_detections:,} detection{plural}, confidence {low:.2f} to {high:.2f};
{len(section.cards)} clips shown<span class="tally" aria-live="polite"></span></p>
<div class="cards">
{cards}
</div>
</section>"""


def _card_html(section: SpeciesSection, card: ClipCard) -> str:
    place = f"{card.start_seconds} to {card.end_seconds} s"
    name = f"{section.common_name}, confidence {float(card.confidence):.2f}, {card.path}, {place}"
    when = card.datetime.replace("T", " ")
    identity = {
        "path": card.path,
        "start": card.start_seconds,
        "end": card.end_seconds,
        "species": section.species,
        "confidence": card.confidence,
        "seconds": f"{card.seconds:.3f}",
    }
    data = " ".join(f'data-{key}="{escaped(value)}"' for key, value in identity.items())
    width, height = clip_figure.SIZE
    return f"""<article class="clip" tabindex="0" aria-label="{escaped(name)}" {data}>
<div class="view"><img src="{escaped(card.figure)}" width="{width}" height="{height}"
 loading="lazy" alt="Spectrogram"><i></i></div>
<audio controls preload="none" src="{escaped(card.sound)}"></audio>
<p><b>{float(card.confidence):.2f}</b> <span>{escaped(when)}</span>
<span class="place" title="{escaped(card.path)}">{escaped(card.deployment)}</span></p>
<p class="small"><span class="path" title="{escaped(card.path)}">{escaped(card.path)}</span>
<span>{escaped(place)}</span> <span title="gain">{card.gain_db:+.0f} dB</span></p>
<div class="verdicts" role="group" aria-label="Verdict">{_VERDICT_BUTTONS}</div>
</article>"""
