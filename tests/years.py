"""The tiny demo as each year's competition folder: the year's names, columns and row ids.

Names that the package uses are taken from ``birdmix.competitions``; others are defined here.
"""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from birdmix.competitions import (
    BIRDCLEF_2021,
    BIRDCLEF_2022,
    BIRDCLEF_2024,
    BIRDCLEF_2025,
    BIRDCLEF_2026,
    NO_CALL,
    Competition,
)

#: Names of the n-th test soundscape; 2026 keeps the demo's.
_TEST = {
    BIRDCLEF_2021.name: "278{n}_SSW_2017070{n}",
    BIRDCLEF_2022.name: "soundscape_45302878{n}",
    BIRDCLEF_2025.name: "soundscape_835873{n}",
    BIRDCLEF_2026.name: "{demo}",
}
_TEST_OF_OTHERS = "soundscape_2920{n}"

#: Names of the n-th soundscape given for training, in the years that gave some.
_TRAIN = {
    BIRDCLEF_2021.name: "1000{n}_COR_2019090{n}",
    BIRDCLEF_2024.name: "46083000{n}",
    BIRDCLEF_2025.name: "H02_2023050{n}_074000",
    BIRDCLEF_2026.name: "{demo}",
}

_COLUMNS = "primary_label secondary_labels type latitude longitude scientific_name common_name "
#: Columns of the metadata; where there is a taxonomy they are the demo's.
_METADATA = {
    BIRDCLEF_2021.name: _COLUMNS + "author date filename license rating time url",
    BIRDCLEF_2022.name: _COLUMNS + "author license rating time url filename",
}
_METADATA_OF_OTHERS = _COLUMNS + "author license rating url filename"

#: Further files of a year's folder, by which years are recognised.
_FURTHER_FILES = {
    BIRDCLEF_2022.name: {"eBird_Taxonomy_v2021.csv": "SPECIES_CODE,PRIMARY_COM_NAME,SCI_NAME\n"},
    BIRDCLEF_2025.name: {"recording_location.txt": "Location Name: the demo's\n"},
}


@dataclass(frozen=True)
class Year:
    """A year's competition folder.

    Attributes:
        competition: The competition.
        folder: The folder.
        soundscapes: Files of the test soundscapes by their names in row ids; they exist only
            where the test is not hidden.
        codes: The species, in the order of the sample's columns where it has one for each.
        row_ids: The requested row ids; where the test is hidden, those of the sample.
    """

    competition: Competition
    folder: Path
    soundscapes: dict[str, Path]
    codes: tuple[str, ...]
    row_ids: tuple[str, ...]

    @property
    def sample(self) -> Path:
        """The sample submission."""
        return self.folder / self.competition.sample_submission

    @property
    def solution(self) -> Path:
        """The truth in a submission's format."""
        return self.folder / self.competition.solution


def write_year(demo: Path, competition: Competition, folder: Path, *, hidden: bool = True) -> Year:
    """Write a demo, which has the layout of 2026, as the folder of any year.

    Args:
        demo: The demo.
        competition: The year's competition.
        folder: The folder to write.
        hidden: Whether the hidden test is included, as when Kaggle runs a submitted notebook;
            without it there are no test soundscapes, no solution, and three rows in ``test.csv``,
            as when a notebook is saved.
    """
    files = _stems(
        demo / BIRDCLEF_2026.test_soundscapes, _TEST.get(competition.name, _TEST_OF_OTHERS)
    )
    test = folder / competition.test_soundscapes
    test.mkdir(parents=True)
    truth = _read(demo / BIRDCLEF_2026.solution).set_index("row_id")
    stems = {file.stem: stem for file, stem in files.items()}
    solution = _solution(truth, competition, stems)
    row_ids = tuple(solution["row_id"] if hidden else solution["row_id"].head(3))
    if hidden:
        _copy(files, test)
        _write(solution, folder / competition.solution)
    else:
        (test / "readme.txt").write_text("the test is hidden\n")
    dummies = {"codes": NO_CALL, "decision": False, "probability": 1 / truth.shape[1]}
    sample = solution.head(3).astype(object)
    sample.iloc[:, 1:] = dummies[competition.cell_type]
    _write(sample, folder / competition.sample_submission)
    if competition.rows_table:
        _write(_rows_table(row_ids, competition), folder / competition.rows_table)
    _write_training(demo, competition, folder)
    for name, text in _FURTHER_FILES.get(competition.name, {}).items():
        (folder / name).write_text(text)
    soundscapes = {
        competition.soundscape_name(stem): test / f"{stem}.ogg" for stem in files.values()
    }
    return Year(competition, folder, soundscapes, tuple(truth.columns), row_ids)


def _stems(folder: Path, form: str) -> dict[Path, str]:
    """Return a year's file names, without the suffix, of the demo's soundscapes."""
    files = enumerate(sorted(folder.iterdir()), start=1)
    return {file: form.format(n=n, demo=file.stem) for n, file in files}


def _copy(files: dict[Path, str], folder: Path) -> None:
    for file, stem in files.items():
        shutil.copy(file, folder / f"{stem}.ogg")


def scored_birds(codes: list[str]) -> list[str]:
    """Return the species that 2022 scores: every other one."""
    return codes[::2]


def _read(table: Path) -> pd.DataFrame:
    return pd.read_csv(table, dtype=str, keep_default_na=False)


def _write(table: pd.DataFrame, file: Path) -> None:
    table.to_csv(file, index=False, lineterminator="\n")


def _solution(truth: pd.DataFrame, competition: Competition, stems: dict[str, str]) -> pd.DataFrame:
    """Return a year's solution, given the demo's truth."""
    rows = []
    for row_id, present in (truth == "1").iterrows():
        demo = BIRDCLEF_2026.parse_row_id(str(row_id))
        soundscape = competition.soundscape_name(stems[demo.soundscape])
        if competition.cell_type == "decision":
            rows += [
                {
                    "row_id": competition.format_row_id(soundscape, demo.end_seconds, bird),
                    competition.column: bool(present[bird]),
                }
                for bird in scored_birds(list(truth))
            ]
            continue
        cells = {code: int(present[code]) for code in truth}
        if competition.cell_type == "codes":
            cells = {competition.column: " ".join(truth.columns[present]) or NO_CALL}
        rows.append({"row_id": competition.format_row_id(soundscape, demo.end_seconds), **cells})
    return pd.DataFrame(rows)


def _rows_table(row_ids: Iterable[str], competition: Competition) -> pd.DataFrame:
    """Return the table of requested rows."""
    rows = []
    for row_id in row_ids:
        row = competition.parse_row_id(row_id)
        if competition.cell_type == "decision":
            cells = {"file_id": row.soundscape, "bird": row.bird, "end_time": row.end_seconds}
        else:
            audio_id, site = row.soundscape.split("_")
            cells = {"site": site, "seconds": row.end_seconds, "audio_id": audio_id}
        rows.append({"row_id": row_id, **cells})
    return pd.DataFrame(rows)


def _write_training(demo: Path, competition: Competition, folder: Path) -> None:
    shutil.copytree(demo / BIRDCLEF_2026.train_audio, folder / competition.train_audio)
    _write(_metadata(demo, competition), folder / competition.train_table)
    if competition.taxonomy:
        shutil.copy(demo / BIRDCLEF_2026.taxonomy, folder / competition.taxonomy)
    if competition.cell_type == "decision":
        codes = sorted({each.name for each in (demo / BIRDCLEF_2026.train_audio).iterdir()})
        (folder / competition.marker).write_text(json.dumps(scored_birds(codes)))
    if competition.name not in _TRAIN:
        return
    files = _stems(demo / BIRDCLEF_2026.train_soundscapes, _TRAIN[competition.name])
    (folder / competition.train_soundscapes).mkdir()
    _copy(files, folder / competition.train_soundscapes)
    if competition.soundscape_labels:
        labels = _read(demo / BIRDCLEF_2026.soundscape_labels)
        if competition.cell_type == "codes":
            stems = {file.name: stem for file, stem in files.items()}
            labels = _labels_by_row_id(labels, competition, stems)
        _write(labels, folder / competition.soundscape_labels)


def _metadata(demo: Path, competition: Competition) -> pd.DataFrame:
    table = _read(demo / BIRDCLEF_2026.train_table)
    if competition.taxonomy:
        return table
    table = table.assign(date="2013-05-25", time="08:30")
    if competition.folder_per_label:
        table["filename"] = [Path(name).name for name in table["filename"]]
    return table[_METADATA.get(competition.name, _METADATA_OF_OTHERS).split()]


def _labels_by_row_id(
    labels: pd.DataFrame, competition: Competition, stems: dict[str, str]
) -> pd.DataFrame:
    """Convert 2026's labels of soundscapes, which list windows twice, to the format of 2021."""
    rows = []
    for _, each in labels.drop_duplicates().iterrows():
        soundscape = competition.soundscape_name(stems[each["filename"]])
        audio_id, site = soundscape.split("_")
        seconds = int(pd.Timedelta(each["end"]).total_seconds())
        rows.append(
            {
                "row_id": competition.format_row_id(soundscape, seconds),
                "site": site,
                "audio_id": audio_id,
                "seconds": seconds,
                competition.column: each["primary_label"].replace(";", " ") or NO_CALL,
            }
        )
    return pd.DataFrame(rows)
