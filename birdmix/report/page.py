"""A page of clips to check by ear: pictures, players, and verdicts that are kept.

The page needs no network and no server; its form stands in ``page.html``, ``page.css`` and
``page.js`` beside this file. Whatever comes from file names and tables is escaped here.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from birdmix.files import shown, write_text
from birdmix.report import clip, style

_BUTTONS = "".join(
    f'<button type="button" value="{verdict}" aria-pressed="false">{verdict}</button>'
    for verdict in ("right", "wrong", "unsure")
)


@dataclass(frozen=True)
class Card:
    """A clip on the page.

    Attributes:
        sound: The clip, relative to the page.
        picture: Its picture, relative to the page.
        seconds: Its length.
        path: The recording.
        datetime: When the detection starts; empty if nothing tells.
        deployment: Where it was recorded.
        start_seconds: Where in the recording the detection starts, as text.
        end_seconds: Where it ends, as text.
        confidence: As text.
        gain_db: By how many decibels the clip was made louder.
    """

    sound: str
    picture: str
    seconds: float
    path: str
    datetime: str
    deployment: str
    start_seconds: str
    end_seconds: str
    confidence: str
    gain_db: float


@dataclass(frozen=True)
class Section:
    """A species on the page.

    Attributes:
        species: Code.
        common_name: Name.
        num_detections: Detections in all.
        confidence: The lowest and the highest of them.
        cards: Its clips, the most confident first.
    """

    species: str
    common_name: str
    num_detections: int
    confidence: tuple[float, float]
    cards: Sequence[Card]


def write_page(path: Path, sections: Sequence[Section], heard: str, recordings: str) -> None:
    """Write the page.

    Args:
        path: The page.
        sections: Its species.
        heard: What was heard, in a line.
        recordings: What the paths are relative to: verdicts are kept under it, so that another
            page of the same recordings knows them.
    """
    text = Template(_part("page.html")).substitute(
        heard=_shown(heard),
        recordings=hashlib.sha256(recordings.encode(errors="surrogateescape")).hexdigest()[:16],
        css=_palette() + _part("page.css"),
        js=_part("page.js"),
        contents="\n".join(_entry(n, section) for n, section in enumerate(sections)),
        sections="\n".join(_section(n, section) for n, section in enumerate(sections)),
    )
    write_text(path, text)


def _part(name: str) -> str:
    return files("birdmix.report").joinpath(name).read_text(encoding="utf-8")


def _shown(text: str) -> str:
    return escape(shown(text))


def _palette() -> str:
    """Return the colours as variables of CSS, and where the plot stands in a picture."""
    by_day = _variables(
        ground="#f5f7f8",
        card="white",
        ink=style.INK,
        muted=style.MUTED,
        faint=style.FAINT,
        accent=style.ACCENT,
        warning=style.WARNING,
    )
    by_night = _variables(
        ground=style.DARK_GROUND,
        card="#1a2429",
        ink=style.DARK_INK,
        muted=style.DARK_MUTED,
        faint=style.DARK_FAINT,
        accent=style.DARK_ACCENT,
        warning=style.DARK_WARNING,
    )
    width, height = clip.SIZE
    plot = (
        f"--plot-left:{clip.PLOT_LEFT};--plot-width:{clip.PLOT_WIDTH};"
        f"--plot-top:{clip.PLOT_TOP};--plot-height:{clip.PLOT_HEIGHT};--shape:{width}/{height};"
    )
    return (
        f":root{{color-scheme:light dark;{plot}{by_day}}}\n"
        f"@media (prefers-color-scheme:dark){{:root{{{by_night}}}}}\n"
    )


def _variables(**colours: str) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


def _entry(number: int, section: Section) -> str:
    return (
        f'<a href="#s{number}" data-of="s{number}">{_shown(section.common_name)} '
        f"<small>{section.num_detections:,}</small></a>"
    )


def _section(number: int, section: Section) -> str:
    low, high = section.confidence
    plural = "" if section.num_detections == 1 else "s"
    cards = "\n".join(_card(section, card) for card in section.cards)
    return f"""<section id="s{number}" data-species="{_shown(section.species)}">
<h2>{_shown(section.common_name)} <code>{_shown(section.species)}</code></h2>
<p>{section.num_detections:,} detection{plural}, confidence {low:.2f} to {high:.2f};
{len(section.cards)} here<span class="tally" aria-live="polite"></span></p>
<div class="cards">
{cards}
</div>
</section>"""


def _card(section: Section, card: Card) -> str:
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
    data = " ".join(f'data-{key}="{_shown(value)}"' for key, value in identity.items())
    width, height = clip.SIZE
    return f"""<article class="clip" tabindex="0" aria-label="{_shown(name)}" {data}>
<div class="view"><img src="{_shown(card.picture)}" width="{width}" height="{height}"
 loading="lazy" alt="Spectrogram"><i></i></div>
<audio controls preload="none" src="{_shown(card.sound)}"></audio>
<p><b>{float(card.confidence):.2f}</b> <span>{_shown(when)}</span>
<span class="place" title="{_shown(card.path)}">{_shown(card.deployment)}</span></p>
<p class="small"><span class="path" title="{_shown(card.path)}">{_shown(card.path)}</span>
<span>{_shown(place)}</span> <span title="made louder by">{card.gain_db:+.0f} dB</span></p>
<div class="verdicts" role="group" aria-label="Verdict">{_BUTTONS}</div>
</article>"""
