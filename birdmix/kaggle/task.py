"""What a competition's folder asks for: rows, columns, and the soundscapes to hear for them."""

import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from birdmix.audio.listing import list_sound, unread_line
from birdmix.audio.reader import probe
from birdmix.audio.sound_file import AudioError
from birdmix.competitions import NEWEST, Competition, competition_of, competition_with_column
from birdmix.files import shown
from birdmix.kaggle.asked import Asked
from birdmix.kaggle.rows import counted, read_table
from birdmix.recordings.birdclef import label_set
from birdmix.suggest import first_few
from birdmix.text import nfc
from birdmix.windows import MIN_TAIL_SECONDS, num_windows


@dataclass(frozen=True)
class Task:
    """What a competition's folder asks for.

    Attributes:
        competition: Whose.
        data: The folder.
        asked: The rows.
        species: Whose probabilities rows are made of, C: the columns in their order, the birds of
            the rows, or all labels of the focal recordings.
        soundscapes: Path below the folder of test soundscapes, by the name that rows have for it.
            Empty while a notebook is saved: Kaggle shows the soundscapes to the final run only.
    """

    competition: Competition
    data: Path
    asked: Asked
    species: list[str]
    soundscapes: dict[str, str]

    @property
    def folder(self) -> Path:
        """Folder of the soundscapes."""
        return self.data / self.competition.test_soundscapes


def read_task(data: Path, competition: Competition | None = None) -> Task:
    """Read what a folder asks for; what is odd about it is warned of.

    Args:
        data: The competition's folder.
        competition: Whose; None asks the folder.

    Raises:
        ValueError: If it is no such folder, or asks for nothing.
    """
    if not data.is_dir():
        raise ValueError(f"{data}: no such folder; name the competition's: --data DIR")
    file = data / (competition or NEWEST).sample_submission
    sample = _sample(file)
    year = competition or competition_with_column(sample.columns) or _year(data)
    _check_is_of(sample, year, file)
    soundscapes = _soundscapes(data / year.test_soundscapes, year)
    asked = Asked(year, _row_ids(data, year, sample, soundscapes))
    spelt = {nfc(name): name for name in asked.windows}  # a disk may spell accents otherwise
    soundscapes = {spelt.get(nfc(name), name): path for name, path in soundscapes.items()}
    if not asked.row_ids:
        raise ValueError(
            f"{file}: it has no rows, and {data / year.test_soundscapes} "
            "has no soundscapes; there is nothing to predict"
        )
    if year.value == "probability":
        species = [str(name) for name in sample if name != "row_id"]
    else:
        codes = asked.birds if year.value == "decision" else label_set(year, data).codes
        species = [code for code in codes if code]
    if not species:
        raise ValueError(f"{data / year.asked}: no row names a bird; it is FILE_BIRD_SECONDS")
    task = Task(year, data, asked, species, _asked_for(asked, soundscapes))
    _warn(task, soundscapes)
    return task


def _year(data: Path) -> Competition:
    try:
        return competition_of(data)
    except ValueError:  # nothing but a sample and soundscapes
        warnings.warn(
            f"{data}: nothing tells the year, it is taken for {NEWEST.name}; --competition says "
            "another",
            stacklevel=3,
        )
        return NEWEST


def _sample(file: Path) -> pd.DataFrame:
    if not file.is_file():
        raise ValueError(f"{file}: no such file; name the competition's folder: --data DIR")
    sample = read_table(file)
    if len(sample.columns) < 2 or sample.columns[0] != "row_id":
        raise ValueError(f"{file}: expected the columns row_id and one per species")
    return sample


def _check_is_of(sample: pd.DataFrame, year: Competition, file: Path) -> None:
    its = competition_with_column(sample.columns)
    if (its.column if its else "") != year.column:
        columns = f"column '{year.column}'" if year.column else "a column for each species"
        raise ValueError(f"{file}: {year.name} has {columns}; name its own year with --competition")


def _soundscapes(folder: Path, year: Competition) -> dict[str, str]:
    """Find the test soundscapes: their paths by the name that rows have for them."""
    found: dict[str, str] = {}
    sound = list_sound(folder)
    if sound.unread:
        warnings.warn(f"{folder}: {unread_line(sound.unread)}", stacklevel=3)
    for path in sound.recordings:
        name = year.soundscape(shown(PurePosixPath(path).stem))
        if name in found:
            warnings.warn(
                f"{folder}: rows of '{name}' may be about {found[name]} or {path}; the first is "
                "heard",
                stacklevel=2,
            )
        else:
            found[name] = path
    return found


def _row_ids(
    data: Path, year: Competition, sample: pd.DataFrame, soundscapes: dict[str, str]
) -> Iterable[str]:
    table = data / year.asked
    if year.asked:
        if table.is_file():
            return read_table(table)["row_id"]
        warnings.warn(f"{table}: no such file; the rows are the sample's", stacklevel=3)
    if year.asked or not soundscapes:
        return sample["row_id"]
    return _windows(data / year.test_soundscapes, year, soundscapes)


def _windows(folder: Path, year: Competition, soundscapes: dict[str, str]) -> list[str]:
    """Return the row ids of all windows.

    Hidden soundscapes are of one length: where most are, a shorter one has broken off, and has as
    many rows as they. So has one of unknown length.
    """
    lengths = {name: _num_windows(folder / path, year) for name, path in soundscapes.items()}
    usual = round(year.hidden_seconds / year.window_seconds)
    known = Counter(length for length in lengths.values() if length)
    least = 0
    if known:
        usual, number = known.most_common(1)[0]
        least = usual if number > len(lengths) / 2 else 0
    return [
        year.row_id(name, window * year.window_seconds)
        for name, length in lengths.items()
        for window in range(1, max(length or usual, least) + 1)
    ]


def _num_windows(file: Path, year: Competition) -> int:
    """Return how many windows a soundscape has by its header; 0 if that does not tell."""
    try:
        info = probe(file)
    except AudioError:
        return 0
    if not info.num_frames:
        return 0
    window = round(year.window_seconds * info.sample_rate)
    tail = int(MIN_TAIL_SECONDS * info.sample_rate)
    return num_windows(info.num_frames, window, window, tail)


def _asked_for(asked: Asked, soundscapes: dict[str, str]) -> dict[str, str]:
    return {name: path for name, path in soundscapes.items() if name in asked.windows}


def _warn(task: Task, found: dict[str, str]) -> None:
    asked = task.asked
    ignored = [path for name, path in found.items() if name not in task.soundscapes]
    absent = [name for name in asked.windows if name not in found] if found else []
    told = {
        "asked for twice, and written once": asked.repeated,
        "telling nothing of a soundscape, they keep the prior": asked.odd,
    }
    for what, row_ids in told.items():
        if row_ids:
            rows = counted(len(row_ids), "row id")
            named = first_few([f"'{row_id}'" for row_id in row_ids])
            warnings.warn(f"{rows} {what}: {named}", stacklevel=3)
    if ignored:
        soundscapes = counted(len(ignored), "soundscape")
        warnings.warn(f"no row asks for {soundscapes}: {first_few(ignored)}", stacklevel=3)
    if absent:
        windows = [number for name in absent for number in asked.windows[name].values()]
        rows = counted(asked.num_rows(windows), "row")
        missing = counted(len(absent), "soundscape")
        warnings.warn(
            f"{rows} of {missing} that are not in {task.folder}, they keep the prior: "
            f"{first_few(absent)}",
            stacklevel=3,
        )
