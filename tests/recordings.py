"""Helpers for tests: write recordings and tables, and read them."""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from birdmix.labels import Labels
from birdmix.loading.audio_store import AudioStore, open_store
from birdmix.recordings.recordings_table import Recordings, SourceRecordings
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.source_readers import read_source

RATE = 8000


def write_wave(file: Path, seconds: float = 1.0, value: float | None = None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    num_samples = int(seconds * RATE)
    ramp = np.linspace(0, 0.5, num_samples) if value is None else np.full(num_samples, value)
    soundfile.write(file, ramp, RATE)


def write_text(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def read(source: str, root: Path, **settings: Any) -> SourceRecordings:
    return read_source(DataSettings(source=source, root=str(root), **settings))


def read_folder(root: Path, **settings: Any) -> Recordings:
    return read("folder", root, **settings).recordings


def read_csv(root: Path, text: str, **settings: Any) -> Recordings:
    """Write a table into a folder of recordings, and read it with them."""
    table = write_text(root / "table.csv", text)
    return read("csv", root, table=str(table), **settings).recordings


def open_recordings(
    recordings: Recordings, rate: int = RATE, **settings: Any
) -> tuple[Recordings, AudioStore]:
    """Open recordings, and drop those without samples from the table."""
    store, bad = open_store(recordings.root, recordings.paths, DataSettings(**settings), rate)
    return recordings.take(np.array([path not in bad for path in recordings.paths])), store


def table(groups: list[str], codes: list[tuple[str, ...]] | list[str]) -> Recordings:
    """A table without audio files, with one row per entry of ``groups``."""
    tuples = [(code,) if isinstance(code, str) else code for code in codes]
    labels = Labels.from_row_codes(tuples)
    paths = [f"{at}.wav" for at in range(len(groups))]
    return Recordings.build(Path(), labels, path=paths, codes=tuples, group=groups)
