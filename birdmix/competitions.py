"""What each competition calls its files, rows and metric, told once."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Competition:
    """One year's layout.

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
)
BIRDCLEF_2022 = Competition(name="birdclef-2022", sign="scored_birds.json")
BIRDCLEF_2024 = Competition(
    name="birdclef-2024", sign="unlabeled_soundscapes", train_soundscapes="unlabeled_soundscapes"
)
BIRDCLEF_2023 = Competition(name="birdclef-2023", sign="train_metadata.csv")
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
