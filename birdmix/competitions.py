"""What each competition calls its files, rows and metric, told once."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from birdmix.suggest import check_choice

#: A row of the soundscapes of 2021 in which nobody calls.
NO_CALL = "nocall"

#: What a solution may say besides: which rows count before the end, after it, or never.
USAGE = "Usage"
IGNORED = "Ignored"


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
        solution: The truth in a submission's form; hidden at Kaggle, present in the demo.
        window_seconds: Length of the window that a row stands for.
        metric: What a submission is scored by.
        value: What it says: a probability of each species; a decision, true or false, on the one
            species in the row's id; or the codes of the species heard.
        column: The column that says so; empty where there is one for each species.
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
    solution: str = "solution.csv"
    window_seconds: float = 5.0
    metric: str = "macro ROC-AUC"
    value: str = "probability"
    column: str = ""

    @property
    def hint(self) -> str:
        """What a folder must hold to be read as this competition's."""
        needed = (self.train_table, f"{self.train_audio}/", self.taxonomy)
        return f"a {self.name} folder holds {', '.join(filter(None, needed))}"

    def row_id(self, stem: str, end_seconds: float) -> str:
        """Return the row id of a soundscape's window that ends at ``end_seconds``."""
        return f"{stem}_{round(end_seconds)}"


BIRDCLEF_2021 = Competition(
    name="birdclef-2021",
    sign="train_short_audio",
    train_audio="train_short_audio",
    folder_per_label=True,
    soundscape_labels="train_soundscape_labels.csv",
    metric="F1 of rows",
    value="codes",
    column="birds",
)
BIRDCLEF_2022 = Competition(
    name="birdclef-2022",
    sign="scored_birds.json",
    metric="weighted accuracy",
    value="decision",
    column="target",
)
BIRDCLEF_2024 = Competition(
    name="birdclef-2024", sign="unlabeled_soundscapes", train_soundscapes="unlabeled_soundscapes"
)
BIRDCLEF_2023 = Competition(name="birdclef-2023", sign="train_metadata.csv", metric="padded cmAP")
BIRDCLEF_2025 = Competition(
    name="birdclef-2025",
    sign="recording_location.txt",
    train_table="train.csv",
    taxonomy="taxonomy.csv",
)
BIRDCLEF_2026 = Competition(
    name="birdclef-2026",
    sign="taxonomy.csv",
    train_table="train.csv",
    soundscape_labels="train_soundscapes_labels.csv",
    taxonomy="taxonomy.csv",
)


def window_and_bird(row_id: str) -> tuple[str, str]:
    """Split a row id of 2022, ``soundscape_{id}_{bird}_{end}``, into its window and its bird.

    Raises:
        ValueError: If it is none.
    """
    try:
        soundscape, bird, end = row_id.rsplit("_", 2)
    except ValueError:
        raise ValueError(f"row_id '{row_id}' names no bird; it is FILE_BIRD_END") from None
    return f"{soundscape}_{end}", bird


#: In the order in which a folder is asked for their signs.
COMPETITIONS = (
    BIRDCLEF_2021,
    BIRDCLEF_2022,
    BIRDCLEF_2024,
    BIRDCLEF_2023,
    BIRDCLEF_2025,
    BIRDCLEF_2026,
)


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
