"""Recordings and tables for tests, and the short way to read them."""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from birdmix.labels import Labels
from birdmix.loading.store import Store, open_store
from birdmix.recordings.readers import read_source
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.table import DataSource, Recordings

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


def read(source: str, root: Path, **settings: Any) -> DataSource:
    return read_source(DataSettings(source=source, root=str(root), **settings))


def read_folder(root: Path, **settings: Any) -> Recordings:
    return read("folder", root, **settings).recordings


def read_csv(root: Path, text: str, **settings: Any) -> Recordings:
    """Write a table into a folder of recordings, and read it."""
    table = write_text(root / "table.csv", text)
    return read("csv", root, table=str(table), **settings).recordings


def opened(recordings: Recordings, rate: int = RATE, **settings: Any) -> tuple[Recordings, Store]:
    """Open recordings; those that yield no samples leave the table."""
    store, bad = open_store(recordings.root, recordings.paths, DataSettings(**settings), rate)
    return recordings.take(np.array([path not in bad for path in recordings.paths])), store


def table(groups: list[str], codes: list[tuple[str, ...]] | list[str]) -> Recordings:
    """A table without sound, a row for each group."""
    tuples = [(code,) if isinstance(code, str) else code for code in codes]
    labels = Labels.of(tuples)
    paths = [f"{at}.wav" for at in range(len(groups))]
    return Recordings.build(Path(), labels, path=paths, codes=tuples, group=groups)
