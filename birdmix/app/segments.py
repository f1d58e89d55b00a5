"""``birdmix segments``: clips of detections, their pictures, and a page to check them by ear."""

from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from birdmix.app.console import progress, say, warn, warnings_as_lines
from birdmix.audio.clip import Clip, bounds, cut_clip
from birdmix.audio.encode import write_flac
from birdmix.audio.sound_file import AudioError
from birdmix.files import atomic_directory
from birdmix.inference.csv_files import confident, decimal, table
from birdmix.inference.found import Found, Listened, read_found
from birdmix.inference.segments import Names, by_species, choose
from birdmix.ownership import CLIPS
from birdmix.report.clip import ClipPainter
from birdmix.report.page import Card, Section, write_page
from birdmix.threads import each

_COLUMNS = ("file", "path", "start_seconds", "end_seconds", "species", "confidence")
_OF_THE_CLIP = ("clip_start_seconds", "clip_end_seconds", "gain_db")


class _Chosen(NamedTuple):
    """A detection to check, and the name of its files without their suffix."""

    found: Found
    name: str


def write_segments(
    target: Path,
    out: Path,
    *,
    recordings: Path | None,
    per_species: int,
    pad_seconds: float,
    species: Sequence[str],
) -> None:
    """Write a folder to check detections by ear: a page, clips, pictures, ``segments.csv``.

    The folder is written whole or not at all. A recording that cannot be read costs its own clips
    alone, and is named.

    Args:
        target: Table of detections, or the folder that ``birdmix predict`` wrote.
        out: The folder to write; it holds nothing yet.
        recordings: Folder of the recordings; None is what ``run.json`` says.
        per_species: Most clips of a species.
        pad_seconds: Heard before and after a detection.
        species: Codes or names of those wanted; all if empty.

    Raises:
        ValueError: If there is nothing to write, or ``out`` holds something or lies among the
            recordings.
    """
    _refuse_taken(out)
    with warnings_as_lines():
        listened = read_found(target, recordings)
    groups = by_species(listened.found, species)
    names = Names()
    some = (found for group in groups.values() for found in choose(group, per_species))
    chosen = [_Chosen(found, names.of(found)) for found in some]
    folder = _folder(target, listened, recordings, chosen)
    _refuse_among(folder, out)
    with (
        atomic_directory(out, CLIPS) as partial,
        closing(_cut(chosen, partial, folder, pad_seconds, listened.channel)) as clips,
    ):
        sections = _sections(groups, _write_clips(partial, clips))
        if not sections:
            raise ValueError(f"{folder}: none of the chosen recordings can be read")
        write_page(partial / "index.html", sections, _heard(groups, folder), str(folder.resolve()))
    num_clips = sum(len(section.cards) for section in sections)
    say(f"wrote {out / 'index.html'} ({num_clips} clips of {len(sections)} species)")


def _refuse_taken(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out {out}: it holds something already; name a new folder")


def _refuse_among(folder: Path, out: Path) -> None:
    if out.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"--out {out}: it lies in {folder}, where clips would be heard as recordings; "
            "name a folder elsewhere"
        )


def _folder(
    target: Path, listened: Listened, recordings: Path | None, chosen: Sequence[_Chosen]
) -> Path:
    """Return the folder of the recordings, if one of them at least is there."""
    folder = recordings if recordings is not None else listened.folder
    if folder is None:
        raise ValueError(
            f"{target}: no run.json beside it, or several that differ, say where the recordings "
            "are; name their folder with --recordings"
        )
    if not any((folder / one.found.path).is_file() for one in chosen):
        raise ValueError(
            f"{folder}: {chosen[0].found.path} is not there, nor any other of the recordings; "
            "name their folder with --recordings"
        )
    return folder


def _cut(
    chosen: Sequence[_Chosen], out: Path, folder: Path, pad_seconds: float, channel: int | None
) -> Generator[tuple[_Chosen, Clip | AudioError], None, None]:
    """Write the clips, and yield each, or why there is none; threads are ahead of who asks."""

    def cut(one: _Chosen) -> Clip | AudioError:
        found = one.found
        stretch = (found.start_seconds, found.end_seconds, found.peak_seconds)
        try:
            clip = cut_clip(folder / found.path, *bounds(*stretch, pad_seconds), channel)
        except AudioError as error:
            return error
        write_flac(out / f"{one.name}.flac", clip.waveform, clip.sample_rate)
        return clip

    with progress("cutting clips") as on_progress:
        yield from each(cut, chosen, on_progress)


def _write_clips(
    out: Path, clips: Iterable[tuple[_Chosen, Clip | AudioError]]
) -> dict[str, list[Card]]:
    """Paint clips, and write ``segments.csv``; return the cards of each species."""
    painter = ClipPainter()
    failed: Counter[tuple[str, str]] = Counter()
    cards: dict[str, list[Card]] = {}
    with table(out / "segments.csv", (*_COLUMNS, *_OF_THE_CLIP)) as writer:
        for one, clip in clips:
            found = one.found
            if isinstance(clip, AudioError):
                failed[found.path, clip.reason] += 1
                continue
            stretch = (found.start_seconds, found.end_seconds)
            picture = out / f"{one.name}.png"
            painter.paint(picture, clip.waveform, clip.sample_rate, clip.begin_seconds, stretch)
            writer.writerow(_row(one, clip))
            cards.setdefault(found.species, []).append(_card(one, clip))
    for (path, reason), count in failed.items():
        warn(f"{path}: {reason}; {count} clip{'' if count == 1 else 's'} left out")
    return cards


def _row(one: _Chosen, clip: Clip) -> Iterator[str]:
    found = one.found
    yield from (f"{one.name}.flac", found.path)
    yield from (decimal(found.start_seconds), decimal(found.end_seconds))
    yield from (found.species, confident(found.confidence))
    yield from (decimal(clip.begin_seconds), decimal(clip.begin_seconds + clip.seconds))
    yield f"{clip.gain_db:.1f}"


def _card(one: _Chosen, clip: Clip) -> Card:
    found = one.found
    return Card(
        sound=f"{one.name}.flac",
        picture=f"{one.name}.png",
        seconds=clip.seconds,
        path=found.path,
        datetime=found.datetime,
        deployment=found.deployment,
        start_seconds=decimal(found.start_seconds),
        end_seconds=decimal(found.end_seconds),
        confidence=confident(found.confidence),
        gain_db=clip.gain_db,
    )


def _sections(
    groups: Mapping[str, Sequence[Found]], cards: Mapping[str, Sequence[Card]]
) -> list[Section]:
    """Return the species that have a clip."""
    sections = []
    for code, some in groups.items():
        confidence = [found.confidence for found in some]
        section = Section(
            species=code,
            common_name=some[0].common_name or code,
            num_detections=len(some),
            confidence=(min(confidence), max(confidence)),
            cards=cards.get(code, ()),
        )
        if section.cards:
            sections.append(section)
    return sections


def _heard(groups: Mapping[str, Sequence[Found]], folder: Path) -> str:
    """Say what was found, in a line."""
    num_found = sum(len(some) for some in groups.values())
    num_paths = len({found.path for some in groups.values() for found in some})
    return (
        f"{num_found:,} detections of {len(groups)} species in {num_paths:,} recordings of {folder}"
    )
