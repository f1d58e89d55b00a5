"""What each competition calls its files, rows and metric, told once."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from birdmix.suggest import check_choice

#: A row of the soundscapes of 2021 in which nobody calls.
NO_CALL = "nocall"

#: What a solution may say besides: which rows count before the end, after it, or never.
USAGE = "Usage"
IGNORED = "Ignored"


class Row(NamedTuple):
    """What a row of a submission is about.

    Attributes:
        soundscape: As row ids call it.
        end_seconds: Where the row's window ends in it.
        bird: The species, where a row is about one.
    """

    soundscape: str
    end_seconds: int
    bird: str


@dataclass(frozen=True)
class Competition:
    """One year's layout, and how it scores.

    Attributes:
        name: Name of the competition.
        sign: A file or folder that tells this year's data from those listed before it.
        train_table: Metadata of the focal recordings.
        train_audio: Folder of the focal recordings.
        folder_per_label: Whether the metadata leave out the label folder that a file lies in.
        train_soundscapes: Folder of the soundscapes given for training.
        soundscape_labels: Labels of those soundscapes' windows; empty if there are none.
        test_soundscapes: Folder of the soundscapes to predict.
        taxonomy: The label set; empty where it is the labels of the focal recordings.
        sample_submission: Gives a submission's columns and their order.
        asked: Table of the rows asked for; empty where they are all windows of the soundscapes.
        solution: The truth in a submission's form; hidden at Kaggle, present in the demo.
        window_seconds: Length of the window that a row stands for.
        metric: What a submission is scored by.
        value: What it says: a probability of each species; a decision, true or false, on the one
            species in the row's id; or the codes of the species heard.
        column: The column that says so; empty where there is one for each species.
        undated: Whether row ids leave out the date in which a soundscape's name ends.
        site: Finds the recorder's site in what row ids call a soundscape; empty if it is not there.
        hidden_soundscapes: About how many the hidden test has, ...
        hidden_seconds: ... and how long each of them is.
        limit_minutes: What a submission may take; None where it is not known.
    """

    name: str
    sign: str
    train_table: str = "train_metadata.csv"
    train_audio: str = "train_audio"
    folder_per_label: bool = False
    train_soundscapes: str = "train_soundscapes"
    soundscape_labels: str = ""
    test_soundscapes: str = "test_soundscapes"
    taxonomy: str = ""
    sample_submission: str = "sample_submission.csv"
    asked: str = ""
    solution: str = "solution.csv"
    window_seconds: float = 5.0
    metric: str = "macro ROC-AUC"
    value: str = "probability"
    column: str = ""
    undated: bool = False
    site: str = ""
    hidden_soundscapes: int = 600
    hidden_seconds: int = 60
    limit_minutes: int | None = 90

    @property
    def hint(self) -> str:
        """What a folder must hold to be read as this competition's."""
        needed = (self.train_table, f"{self.train_audio}/", self.taxonomy)
        return f"a {self.name} folder holds {', '.join(filter(None, needed))}"

    def row_id(self, soundscape: str, end_seconds: float, bird: str = "") -> str:
        """Return the row id of a soundscape's window that ends at ``end_seconds``."""
        return "_".join(filter(None, (soundscape, bird, f"{round(end_seconds)}")))

    def row(self, row_id: str) -> Row:
        """Return what a row is about.

        Raises:
            ValueError: If the row id does not say.
        """
        decides = self.value == "decision"
        parts = row_id.rsplit("_", 2 if decides else 1)
        if len(parts) != 2 + decides or not all(parts) or not parts[-1].isdecimal():
            form = "FILE_BIRD_SECONDS" if decides else "FILE_SECONDS"
            raise ValueError(f"row_id '{row_id}' is none of {self.name}; it is {form}")
        return Row(parts[0], int(parts[-1]), parts[1] if decides else "")

    def soundscape(self, stem: str) -> str:
        """Return what row ids call a soundscape, given its file's name without the suffix."""
        return stem.rpartition("_")[0] or stem if self.undated else stem

    def site_of(self, soundscape: str) -> str:
        """Return the site of a soundscape, as row ids call it; empty if nothing tells."""
        match = re.match(self.site, soundscape) if self.site else None
        return match[1] if match else ""


BIRDCLEF_2021 = Competition(
    name="birdclef-2021",
    sign="train_short_audio",
    train_audio="train_short_audio",
    folder_per_label=True,
    soundscape_labels="train_soundscape_labels.csv",
    metric="F1 of rows",
    value="codes",
    column="birds",
    asked="test.csv",
    undated=True,
    site=r"[^_]+_([^_]+)$",
    hidden_soundscapes=80,
    hidden_seconds=600,
    limit_minutes=None,
)
BIRDCLEF_2022 = Competition(
    name="birdclef-2022",
    sign="scored_birds.json",
    metric="weighted accuracy",
    value="decision",
    column="target",
    asked="test.csv",
    hidden_soundscapes=5500,
    limit_minutes=540,
)
BIRDCLEF_2024 = Competition(
    name="birdclef-2024",
    sign="unlabeled_soundscapes",
    train_soundscapes="unlabeled_soundscapes",
    hidden_soundscapes=1100,
    hidden_seconds=240,
    limit_minutes=120,
)
BIRDCLEF_2023 = Competition(
    name="birdclef-2023",
    sign="train_metadata.csv",
    metric="padded cmAP",
    hidden_soundscapes=200,
    hidden_seconds=600,
    limit_minutes=120,
)
BIRDCLEF_2025 = Competition(
    name="birdclef-2025",
    sign="recording_location.txt",
    train_table="train.csv",
    taxonomy="taxonomy.csv",
    hidden_soundscapes=700,
)
BIRDCLEF_2026 = Competition(
    name="birdclef-2026",
    sign="taxonomy.csv",
    train_table="train.csv",
    soundscape_labels="train_soundscapes_labels.csv",
    taxonomy="taxonomy.csv",
    site=r"BC2026_[^_]+_[^_]+_([^_]+)_",
)

#: In the order in which a folder is asked for their signs.
COMPETITIONS = (
    BIRDCLEF_2021,
    BIRDCLEF_2022,
    BIRDCLEF_2024,
    BIRDCLEF_2023,
    BIRDCLEF_2025,
    BIRDCLEF_2026,
)

#: The last one: what is taken where nothing says another.
NEWEST = COMPETITIONS[-1]


def competition_of(folder: Path) -> Competition:
    """Tell from its files which competition a folder is of.

    Raises:
        ValueError: If it is of none.
    """
    for competition in COMPETITIONS:
        if (Path(folder) / competition.sign).exists():
            return competition
    signs = ", ".join(each.sign for each in COMPETITIONS)
    raise ValueError(f"{folder}: not a BirdCLEF folder; one of 2021 to 2026 holds one of {signs}")


def competition_named(name: str) -> Competition:
    """Return a competition by its name.

    Raises:
        ValueError: If there is none; the nearest name is offered.
    """
    check_choice("competition", name, (each.name for each in COMPETITIONS))
    return next(each for each in COMPETITIONS if each.name == name)


def competition_with_column(columns: Iterable[str]) -> Competition | None:
    """Return the competition whose one column is among these; None if there is none."""
    names = set(columns)
    return next((each for each in COMPETITIONS if each.column and each.column in names), None)


def competition_of_columns(columns: Iterable[str]) -> Competition:
    """Tell from the columns of a submission or solution which competition it is of.

    Raises:
        ValueError: If several have such columns.
    """
    competition = competition_with_column(columns)
    if competition:
        return competition
    several = ", ".join(f"{c.name} ({c.metric})" for c in COMPETITIONS if not c.column)
    raise ValueError(f"a column per species does not tell the competition, it may be {several}")
