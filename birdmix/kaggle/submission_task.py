"""The task of a submission: rows, columns and soundscapes, read from a competition's folder."""

import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from birdmix.audio.audio_file import AudioError
from birdmix.audio.find_recordings import list_audio_files, unsupported_files_message
from birdmix.audio.stream_reader import read_audio_info
from birdmix.competitions import (
    NEWEST,
    Competition,
    competition_of_folder,
    single_column_competition,
)
from birdmix.files import replace_surrogates
from birdmix.kaggle.requested_rows import RequestedRows
from birdmix.kaggle.submission_csv import read_table_with_row_id
from birdmix.messages import first_few, format_count
from birdmix.recordings.birdclef_source import read_label_set
from birdmix.text import nfc
from birdmix.windows import MIN_TAIL_SECONDS, num_windows


@dataclass(frozen=True)
class SubmissionTask:
    """The rows and columns of a submission, and the soundscapes to predict for them.

    Attributes:
        competition: The competition.
        data: The competition's folder.
        rows: The requested rows.
        species: Codes of the C species that are predicted: those of the columns in their order, of
            the row ids, or of the focal recordings' label set, by the competition's format.
        soundscapes: Paths below the folder of test soundscapes, by their names in row ids. Empty
            while a notebook is saved: Kaggle shows the soundscapes to the final run only.
    """

    competition: Competition
    data: Path
    rows: RequestedRows
    species: list[str]
    soundscapes: dict[str, str]

    @property
    def soundscapes_folder(self) -> Path:
        """The folder of the test soundscapes."""
        return self.data / self.competition.test_soundscapes


def read_task(data: Path, competition: Competition | None = None) -> SubmissionTask:
    """Read the task from a competition's folder, with a warning for each irregularity.

    Args:
        data: The competition's folder.
        competition: The competition; None infers it from the folder.

    Returns:
        The task.

    Raises:
        ValueError: If it is not such a folder, or requests no rows or species.
    """
    if not data.is_dir():
        raise ValueError(f"{data}: no such folder; name the competition's folder: --data DIR")
    file = data / (competition or NEWEST).sample_submission
    sample = _read_sample(file)
    competition = (
        competition or single_column_competition(sample.columns) or _infer_competition(data)
    )
    _check_columns(sample, competition, file)
    soundscapes = _find_soundscapes(data / competition.test_soundscapes, competition)
    rows = RequestedRows(competition, _row_ids(data, competition, sample, soundscapes))
    row_spelling = {nfc(name): name for name in rows.windows}  # file systems may use NFD
    soundscapes = {row_spelling.get(nfc(name), name): path for name, path in soundscapes.items()}
    if not rows.row_ids:
        raise ValueError(
            f"{file}: it has no rows, and {data / competition.test_soundscapes} "
            "has no soundscapes; there is nothing to predict"
        )
    if competition.cell_type == "probability":
        species = [str(name) for name in sample if name != "row_id"]
    else:
        has_birds = competition.cell_type == "decision"
        codes = rows.birds if has_birds else read_label_set(competition, data).codes
        species = [code for code in codes if code]
    if not species:
        raise ValueError(
            f"{data / competition.rows_table}: no row_id names a bird; write FILE_BIRD_SECONDS"
        )
    requested = {name: path for name, path in soundscapes.items() if name in rows.windows}
    task = SubmissionTask(competition, data, rows, species, requested)
    _warn_of_mismatches(task, soundscapes)
    return task


def _infer_competition(data: Path) -> Competition:
    try:
        return competition_of_folder(data)
    except ValueError:  # a folder with only a sample and soundscapes
        warnings.warn(
            f"{data}: the folder does not show its year, {NEWEST.name} is assumed; set "
            "--competition for another",
            stacklevel=3,
        )
        return NEWEST


def _read_sample(file: Path) -> pd.DataFrame:
    if not file.is_file():
        raise ValueError(f"{file}: no such file; name the competition's folder: --data DIR")
    sample = read_table_with_row_id(file)
    if len(sample.columns) < 2 or sample.columns[0] != "row_id":
        raise ValueError(f"{file}: expected the columns row_id and one per species")
    return sample


def _check_columns(sample: pd.DataFrame, competition: Competition, file: Path) -> None:
    """Refuse a sample submission whose columns are those of another competition."""
    other = single_column_competition(sample.columns)
    if (other.column if other else "") != competition.column:
        columns = (
            f"column '{competition.column}'" if competition.column else "a column for each species"
        )
        raise ValueError(
            f"{file}: {competition.name} has {columns}; name the file's own year with --competition"
        )


def _find_soundscapes(folder: Path, competition: Competition) -> dict[str, str]:
    """Return the paths of the test soundscapes by their names in row ids."""
    found: dict[str, str] = {}
    sound = list_audio_files(folder)
    if sound.unsupported:
        warnings.warn(f"{folder}: {unsupported_files_message(sound.unsupported)}", stacklevel=3)
    for path in sound.recordings:
        name = competition.soundscape_name(replace_surrogates(PurePosixPath(path).stem))
        if name in found:
            warnings.warn(
                f"{folder}: both {found[name]} and {path} are named '{name}' in row ids; only the "
                "first is predicted",
                stacklevel=2,
            )
        else:
            found[name] = path
    return found


def _row_ids(
    data: Path, competition: Competition, sample: pd.DataFrame, soundscapes: dict[str, str]
) -> Iterable[str]:
    """Return the requested row ids: of the competition's table, all windows, or the sample's."""
    table = data / competition.rows_table
    if competition.rows_table:
        if table.is_file():
            return read_table_with_row_id(table)["row_id"]
        warnings.warn(f"{table}: no such file; the sample's rows are used", stacklevel=3)
    if competition.rows_table or not soundscapes:
        return sample["row_id"]
    return _row_ids_of_windows(data / competition.test_soundscapes, competition, soundscapes)


def _row_ids_of_windows(
    folder: Path, competition: Competition, soundscapes: dict[str, str]
) -> list[str]:
    """Return the row ids of all windows.

    Hidden soundscapes have one length. Where more than half have it, a shorter one is truncated,
    and gets as many rows as the others. So does one of unknown length.
    """
    lengths = {name: _num_windows(folder / path, competition) for name, path in soundscapes.items()}
    usual = round(competition.hidden_seconds / competition.window_seconds)
    known = Counter(length for length in lengths.values() if length)
    least = 0
    if known:
        usual, number = known.most_common(1)[0]
        least = usual if number > len(lengths) / 2 else 0
    return [
        competition.format_row_id(name, window * competition.window_seconds)
        for name, length in lengths.items()
        for window in range(1, max(length or usual, least) + 1)
    ]


def _num_windows(file: Path, competition: Competition) -> int:
    """Return the number of windows of a soundscape by its header; 0 if that is unknown."""
    try:
        info = read_audio_info(file)
    except AudioError:
        return 0
    if not info.num_frames:
        return 0
    window = round(competition.window_seconds * info.sample_rate)
    tail = int(MIN_TAIL_SECONDS * info.sample_rate)
    return num_windows(info.num_frames, window, window, tail, "pad")


def _warn_of_mismatches(task: SubmissionTask, found: dict[str, str]) -> None:
    """Warn of repeated and invalid row ids, and where rows and soundscapes do not match."""
    rows = task.rows
    ignored = [path for name, path in found.items() if name not in task.soundscapes]
    absent = [name for name in rows.windows if name not in found] if found else []
    faulty = {
        "repeated, written once": rows.repeated,
        "without a soundscape and time, they keep the prior": rows.invalid,
    }
    for problem, row_ids in faulty.items():
        if row_ids:
            number = format_count(len(row_ids), "row id")
            names = first_few([f"'{row_id}'" for row_id in row_ids])
            warnings.warn(f"{number} {problem}: {names}", stacklevel=3)
    if ignored:
        soundscapes = format_count(len(ignored), "soundscape")
        warnings.warn(f"{soundscapes} without requested rows: {first_few(ignored)}", stacklevel=3)
    if absent:
        windows = [window for name in absent for window in rows.windows[name].values()]
        number = format_count(rows.count_rows_of_windows(windows), "row")
        missing = format_count(len(absent), "soundscape")
        warnings.warn(
            f"{number} of {missing} that {task.soundscapes_folder} lacks keep the prior: "
            f"{first_few(absent)}",
            stacklevel=3,
        )
