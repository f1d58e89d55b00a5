"""The BirdCLEF competitions: names of files and columns, row ids, metric and limits of each."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from birdmix.messages import check_choice

#: Code of a row without birds, in the submissions of 2021.
NO_CALL = "nocall"

#: Optional column of a solution: Public, Private or Ignored; and its value for rows not scored.
USAGE = "Usage"
IGNORED = "Ignored"


class RowId(NamedTuple):
    """A parsed row id.

    Attributes:
        soundscape: Name of the soundscape in row ids.
        end_seconds: End of the row's window in the soundscape.
        bird: Code of the species, where a row is about one; else empty.
    """

    soundscape: str
    end_seconds: int
    bird: str


@dataclass(frozen=True)
class Competition:
    """Layout of one year's data, and the format and metric of its submissions.

    Attributes:
        name: Name of the competition.
        marker: A file or folder in the data of this year, but not in those of years listed later.
        train_table: Table of the focal recordings' metadata.
        train_audio: Folder of the focal recordings.
        folder_per_label: Whether the metadata leave out the label folder that a file lies in.
        train_soundscapes: Folder of the training soundscapes.
        soundscape_labels: Table of the labels of their windows; empty if there is none.
        test_soundscapes: Folder of the soundscapes to predict.
        taxonomy: Table of the label set; empty where it is the labels of the focal recordings.
        sample_submission: Table with a submission's columns in their order.
        rows_table: Table of the requested rows; empty if they are all windows of soundscapes.
        solution: The truth in a submission's format; hidden at Kaggle, present in the demo.
        window_seconds: Length of a row's window.
        metric: Name of the metric.
        cell_type: Type of a row's cells: ``probability`` of each species; ``decision``, true or
            false, on the species in the row id; or ``codes`` of the species present.
        column: Column of decisions or codes; empty where there is a column for each species.
        ids_omit_date: Whether row ids leave out the date at the end of a soundscape's file name.
        site_pattern: Regular expression whose first group is the recorder's site in a soundscape's
            name; empty if names have no site.
        hidden_soundscapes: Approximate number of soundscapes in the hidden test.
        hidden_seconds: Length of each of them.
        limit_minutes: Time limit of a submission; None where it is not known.
    """

    name: str
    marker: str
    train_table: str = "train_metadata.csv"
    train_audio: str = "train_audio"
    folder_per_label: bool = False
    train_soundscapes: str = "train_soundscapes"
    soundscape_labels: str = ""
    test_soundscapes: str = "test_soundscapes"
    taxonomy: str = ""
    sample_submission: str = "sample_submission.csv"
    rows_table: str = ""
    solution: str = "solution.csv"
    window_seconds: float = 5.0
    metric: str = "macro ROC-AUC"
    cell_type: str = "probability"
    column: str = ""
    ids_omit_date: bool = False
    site_pattern: str = ""
    hidden_soundscapes: int = 600
    hidden_seconds: int = 60
    limit_minutes: int | None = 90

    @property
    def required_files_hint(self) -> str:
        """Sentence on the files that a folder of this competition must hold, for messages."""
        required = (self.train_table, f"{self.train_audio}/", self.taxonomy)
        return f"a {self.name} folder holds {', '.join(filter(None, required))}"

    def format_row_id(self, soundscape: str, end_seconds: float, bird: str = "") -> str:
        """Return the row id of a soundscape's window that ends at ``end_seconds``."""
        return "_".join(filter(None, (soundscape, bird, f"{round(end_seconds)}")))

    def parse_row_id(self, row_id: str) -> RowId:
        """Parse a row id.

        Raises:
            ValueError: If it does not have the competition's format.
        """
        has_bird = self.cell_type == "decision"
        parts = row_id.rsplit("_", 2 if has_bird else 1)
        if len(parts) != 2 + has_bird or not all(parts) or not parts[-1].isdecimal():
            form = "FILE_BIRD_SECONDS" if has_bird else "FILE_SECONDS"
            raise ValueError(f"row_id '{row_id}' is not valid in {self.name}; it must be {form}")
        return RowId(parts[0], int(parts[-1]), parts[1] if has_bird else "")

    def soundscape_name(self, stem: str) -> str:
        """Return a soundscape's name in row ids, given its file name without the suffix."""
        return stem.rpartition("_")[0] or stem if self.ids_omit_date else stem

    def site_of_soundscape(self, soundscape: str) -> str:
        """Return the site in a soundscape's name (as in row ids); empty if there is none."""
        match = re.match(self.site_pattern, soundscape) if self.site_pattern else None
        return match[1] if match else ""


BIRDCLEF_2021 = Competition(
    name="birdclef-2021",
    marker="train_short_audio",
    train_audio="train_short_audio",
    folder_per_label=True,
    soundscape_labels="train_soundscape_labels.csv",
    metric="F1 of rows",
    cell_type="codes",
    column="birds",
    rows_table="test.csv",
    ids_omit_date=True,
    site_pattern=r"[^_]+_([^_]+)$",
    hidden_soundscapes=80,
    hidden_seconds=600,
    limit_minutes=None,
)
BIRDCLEF_2022 = Competition(
    name="birdclef-2022",
    marker="scored_birds.json",
    metric="weighted accuracy",
    cell_type="decision",
    column="target",
    rows_table="test.csv",
    hidden_soundscapes=5500,
    limit_minutes=540,
)
BIRDCLEF_2024 = Competition(
    name="birdclef-2024",
    marker="unlabeled_soundscapes",
    train_soundscapes="unlabeled_soundscapes",
    hidden_soundscapes=1100,
    hidden_seconds=240,
    limit_minutes=120,
)
BIRDCLEF_2023 = Competition(
    name="birdclef-2023",
    marker="train_metadata.csv",
    metric="padded cmAP",
    hidden_soundscapes=200,
    hidden_seconds=600,
    limit_minutes=120,
)
BIRDCLEF_2025 = Competition(
    name="birdclef-2025",
    marker="recording_location.txt",
    train_table="train.csv",
    taxonomy="taxonomy.csv",
    hidden_soundscapes=700,
)
BIRDCLEF_2026 = Competition(
    name="birdclef-2026",
    marker="taxonomy.csv",
    train_table="train.csv",
    soundscape_labels="train_soundscapes_labels.csv",
    taxonomy="taxonomy.csv",
    site_pattern=r"BC2026_[^_]+_[^_]+_([^_]+)_",
)

#: All competitions, in the order in which a folder is searched for their markers.
COMPETITIONS = (
    BIRDCLEF_2021,
    BIRDCLEF_2022,
    BIRDCLEF_2024,
    BIRDCLEF_2023,
    BIRDCLEF_2025,
    BIRDCLEF_2026,
)

#: The newest competition, the default.
NEWEST = COMPETITIONS[-1]


def competition_of_folder(folder: Path) -> Competition:
    """Return the competition that a folder belongs to, by its files.

    Raises:
        ValueError: If it belongs to none.
    """
    for competition in COMPETITIONS:
        if (Path(folder) / competition.marker).exists():
            return competition
    markers = ", ".join(each.marker for each in COMPETITIONS)
    message = f"{folder}: not a BirdCLEF folder; those of 2021 to 2026 hold one of {markers}"
    raise ValueError(message)


def competition_named(name: str) -> Competition:
    """Return a competition by its name.

    Raises:
        ValueError: If there is none of that name; the message has the nearest name.
    """
    check_choice("competition", name, (each.name for each in COMPETITIONS))
    return next(each for each in COMPETITIONS if each.name == name)


def single_column_competition(columns: Iterable[str]) -> Competition | None:
    """Return the competition with a single column that is among these; None if there is none."""
    names = set(columns)
    return next((each for each in COMPETITIONS if each.column and each.column in names), None)


def competition_of_columns(columns: Iterable[str]) -> Competition:
    """Return the competition of a submission or solution, by its columns.

    Raises:
        ValueError: If several competitions have such columns.
    """
    competition = single_column_competition(columns)
    if competition:
        return competition
    candidates = ", ".join(f"{c.name} ({c.metric})" for c in COMPETITIONS if not c.column)
    raise ValueError(f"several competitions have a column per species: {candidates}")
