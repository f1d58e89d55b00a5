"""A folder of clips: short excerpts of detections with spectrograms, and a page to check them."""

import warnings
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from birdmix.audio.audio_file import AudioError
from birdmix.audio.clip_extraction import Clip, detection_clip_bounds, extract_clip
from birdmix.audio.encode import write_flac
from birdmix.files import atomic_directory
from birdmix.inference.clip_choice import ClipNamer, choose_detections, group_detections_by_species
from birdmix.inference.detection_table import (
    DetectionRow,
    DetectionTable,
    read_detection_table,
)
from birdmix.inference.output.table_writer import format_decimal, format_probability, open_csv
from birdmix.ownership import CLIPS_KIND
from birdmix.report.clip_figure import ClipPlotter
from birdmix.report.review_page import ClipCard, SpeciesSection, write_review_page
from birdmix.threads import OnItemDone, OpenBar, map_in_threads

_DETECTION_COLUMNS = ("file", "path", "start_seconds", "end_seconds", "species", "confidence")
_CLIP_COLUMNS = ("clip_start_seconds", "clip_end_seconds", "gain_db")


class _Job(NamedTuple):
    """A detection to make a clip of, and the name of its files without their suffix."""

    row: DetectionRow
    name: str


def write_clips(
    target: Path,
    out: Path,
    *,
    recordings: Path | None,
    per_species: int,
    pad_seconds: float,
    species: Sequence[str],
    open_bar: OpenBar,
) -> tuple[Path, int, int]:
    """Write a folder to check detections by ear: a page, clips, spectrograms, ``clips.csv``.

    The folder is written completely or not at all. A recording that cannot be read costs only its
    own clips; a warning names it.

    Args:
        target: Table of detections, or the folder that ``birdmix predict`` wrote.
        out: The folder to write; it must be empty or absent.
        recordings: Folder of the recordings; None uses the one in ``run.json``.
        per_species: Most clips per species.
        pad_seconds: Seconds before and after a detection.
        species: Codes or names to include; all if empty.
        open_bar: Opens a progress bar.

    Returns:
        The page, and the numbers of clips and of species.

    Raises:
        ValueError: If there is nothing to write, or ``out`` is not empty or lies among the
            recordings.
    """
    _check_empty(out)
    table = read_detection_table(target, recordings)
    groups = group_detections_by_species(table.rows, species)
    names = ClipNamer()
    chosen = (row for rows in groups.values() for row in choose_detections(rows, per_species))
    jobs = [_Job(row, names.name_clip(row)) for row in chosen]
    folder = _recordings_folder(target, table, recordings, jobs)
    _check_outside(out, folder)
    with (
        atomic_directory(out, CLIPS_KIND) as partial,
        open_bar("cutting clips") as on_progress,
        closing(
            _write_sounds(jobs, partial, folder, pad_seconds, table.channel, on_progress)
        ) as clips,
    ):
        sections = _sections(groups, _write_figures_and_table(partial, clips))
        if not sections:
            raise ValueError(f"{folder}: none of the chosen recordings can be read")
        title = _title(groups, folder)
        write_review_page(partial / "index.html", sections, title, str(folder.resolve()))
    num_clips = sum(len(section.cards) for section in sections)
    return out / "index.html", num_clips, len(sections)


def _check_empty(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out {out}: it is not empty; name a new folder")


def _check_outside(out: Path, folder: Path) -> None:
    if out.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"--out {out}: it lies in {folder}, where clips would be predicted as recordings; "
            "name a folder elsewhere"
        )


def _recordings_folder(
    target: Path, table: DetectionTable, recordings: Path | None, jobs: Sequence[_Job]
) -> Path:
    """Return the folder of the recordings, if at least one of them is there."""
    folder = recordings if recordings is not None else table.folder
    if folder is None:
        raise ValueError(
            f"{target}: the folder of the recordings is unknown, since run.json beside it is "
            "missing, or there are several that differ; name it with --recordings"
        )
    if not any((folder / job.row.path).is_file() for job in jobs):
        raise ValueError(
            f"{folder}: {jobs[0].row.path} is not there, nor any other of the recordings; "
            "name their folder with --recordings"
        )
    return folder


def _write_sounds(
    jobs: Sequence[_Job],
    out: Path,
    folder: Path,
    pad_seconds: float,
    channel: int | None,
    on_progress: OnItemDone,
) -> Generator[tuple[_Job, Clip | AudioError], None, None]:
    """Write the clips' sound files in threads; yield each clip in order, or its error."""

    def write_sound(job: _Job) -> Clip | AudioError:
        row = job.row
        span = (row.start_seconds, row.end_seconds, row.peak_seconds)
        try:
            clip = extract_clip(
                folder / row.path, *detection_clip_bounds(*span, pad_seconds), channel
            )
        except AudioError as error:
            return error
        write_flac(out / f"{job.name}.flac", clip.waveform, clip.sample_rate)
        return clip

    yield from map_in_threads(write_sound, jobs, on_progress)


def _write_figures_and_table(
    out: Path, clips: Iterable[tuple[_Job, Clip | AudioError]]
) -> dict[str, list[ClipCard]]:
    """Draw spectrograms and write ``clips.csv``; return the cards of each species."""
    plotter = ClipPlotter()
    failed: Counter[tuple[str, str]] = Counter()
    cards: dict[str, list[ClipCard]] = {}
    with open_csv(out / "clips.csv", (*_DETECTION_COLUMNS, *_CLIP_COLUMNS)) as writer:
        for job, clip in clips:
            row = job.row
            if isinstance(clip, AudioError):
                failed[row.path, clip.reason] += 1
                continue
            span = (row.start_seconds, row.end_seconds)
            figure = out / f"{job.name}.png"
            plotter.draw(figure, clip.waveform, clip.sample_rate, clip.begin_seconds, span)
            writer.writerow(_cells(job, clip))
            cards.setdefault(row.species, []).append(_card(job, clip))
    for (path, reason), count in failed.items():
        plural = "" if count == 1 else "s"
        warnings.warn(f"{path}: {reason}; {count} clip{plural} left out", stacklevel=2)
    return cards


def _cells(job: _Job, clip: Clip) -> Iterator[str]:
    row = job.row
    yield from (f"{job.name}.flac", row.path)
    yield from (format_decimal(row.start_seconds), format_decimal(row.end_seconds))
    yield from (row.species, format_probability(row.confidence))
    yield format_decimal(clip.begin_seconds)
    yield format_decimal(clip.begin_seconds + clip.seconds)
    yield f"{clip.gain_db:.1f}"


def _card(job: _Job, clip: Clip) -> ClipCard:
    row = job.row
    return ClipCard(
        sound=f"{job.name}.flac",
        figure=f"{job.name}.png",
        seconds=clip.seconds,
        path=row.path,
        datetime=row.datetime,
        deployment=row.deployment,
        start_seconds=format_decimal(row.start_seconds),
        end_seconds=format_decimal(row.end_seconds),
        confidence=format_probability(row.confidence),
        gain_db=clip.gain_db,
    )


def _sections(
    groups: Mapping[str, Sequence[DetectionRow]], cards: Mapping[str, Sequence[ClipCard]]
) -> list[SpeciesSection]:
    """Return a section for each species that has a clip."""
    sections = []
    for code, rows in groups.items():
        confidence = [row.confidence for row in rows]
        section = SpeciesSection(
            species=code,
            common_name=rows[0].common_name or code,
            num_detections=len(rows),
            confidence=(min(confidence), max(confidence)),
            cards=cards.get(code, ()),
        )
        if section.cards:
            sections.append(section)
    return sections


def _title(groups: Mapping[str, Sequence[DetectionRow]], folder: Path) -> str:
    """Return a line with the numbers of detections, species and recordings."""
    num_detections = sum(len(rows) for rows in groups.values())
    num_paths = len({row.path for rows in groups.values() for row in rows})
    return (
        f"{num_detections:,} detections of {len(groups)} species in {num_paths:,} recordings of "
        f"{folder}"
    )
