"""HTML page for reviewing detected clips: figures, audio players, and verdicts that are stored.

The page needs no network and no server. Its templates are ``review_page.html``,
``review_page.css`` and ``review_page.js`` beside this file. Text from file names and tables is
escaped here.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from birdmix.files import replace_surrogates, write_text
from birdmix.report import clip_figure, style

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
    text = Template(_template_file("review_page.html")).substitute(
        summary=_escaped(summary),
        recordings=hashlib.sha256(recordings.encode(errors="surrogateescape")).hexdigest()[:16],
        css=_css_variables() + _template_file("review_page.css"),
        js=_template_file("review_page.js"),
        contents="\n".join(_navigation_link(n, section) for n, section in enumerate(sections)),
        sections="\n".join(_section_html(n, section) for n, section in enumerate(sections)),
    )
    write_text(path, text)


def _template_file(name: str) -> str:
    return files("birdmix.report").joinpath(name).read_text(encoding="utf-8")


def _escaped(text: str) -> str:
    return escape(replace_surrogates(text))


def _css_variables() -> str:
    """Return CSS variables for the colours, and for the place of the plot in a figure."""
    light = _variable_list(
        ground="#f5f7f8",
        card="white",
        ink=style.INK,
        muted=style.MUTED,
        faint=style.FAINT,
        accent=style.ACCENT,
        warning=style.WARNING,
    )
    dark = _variable_list(
        ground=style.DARK_GROUND,
        card="#1a2429",
        ink=style.DARK_INK,
        muted=style.DARK_MUTED,
        faint=style.DARK_FAINT,
        accent=style.DARK_ACCENT,
        warning=style.DARK_WARNING,
    )
    width, height = clip_figure.SIZE
    plot = (
        f"--plot-left:{clip_figure.PLOT_LEFT};--plot-width:{clip_figure.PLOT_WIDTH};"
        f"--plot-top:{clip_figure.PLOT_TOP};--plot-height:{clip_figure.PLOT_HEIGHT};--shape:{width}/{height};"
    )
    return (
        f":root{{color-scheme:light dark;{plot}{light}}}\n"
        f"@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
    )


def _variable_list(**colours: str) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


def _navigation_link(number: int, section: SpeciesSection) -> str:
    return (
        f'<a href="#s{number}" data-of="s{number}">{_escaped(section.common_name)} '
        f"<small>{section.num_detections:,}</small></a>"
    )


def _section_html(number: int, section: SpeciesSection) -> str:
    low, high = section.confidence
    plural = "" if section.num_detections == 1 else "s"
    cards = "\n".join(_card_html(section, card) for card in section.cards)
    return f"""<section id="s{number}" data-species="{_escaped(section.species)}">
<h2>{_escaped(section.common_name)} <code>{_escaped(section.species)}</code></h2>
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
    data = " ".join(f'data-{key}="{_escaped(value)}"' for key, value in identity.items())
    width, height = clip_figure.SIZE
    return f"""<article class="clip" tabindex="0" aria-label="{_escaped(name)}" {data}>
<div class="view"><img src="{_escaped(card.figure)}" width="{width}" height="{height}"
 loading="lazy" alt="Spectrogram"><i></i></div>
<audio controls preload="none" src="{_escaped(card.sound)}"></audio>
<p><b>{float(card.confidence):.2f}</b> <span>{_escaped(when)}</span>
<span class="place" title="{_escaped(card.path)}">{_escaped(card.deployment)}</span></p>
<p class="small"><span class="path" title="{_escaped(card.path)}">{_escaped(card.path)}</span>
<span>{_escaped(place)}</span> <span title="gain">{card.gain_db:+.0f} dB</span></p>
<div class="verdicts" role="group" aria-label="Verdict">{_VERDICT_BUTTONS}</div>
</article>"""
