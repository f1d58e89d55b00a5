"""What each competition calls its files, rows and metric, told once."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Competition:
    """One year's layout.

    Attributes:
        name: Name of the competition.
        train_table: Metadata of the focal recordings.
        train_audio: Folder of the focal recordings.
        train_soundscapes: Folder of the soundscapes given for training.
        soundscape_labels: Labels of those soundscapes' windows.
        test_soundscapes: Folder of the soundscapes to predict.
        taxonomy: The label set.
        sample_submission: Gives a submission's columns and their order.
        solution: The truth in a submission's form; hidden at Kaggle, present in the demo.
        window_seconds: Length of the window that a row stands for.
    """

    name: str
    train_table: str
    train_audio: str
    train_soundscapes: str
    soundscape_labels: str
    test_soundscapes: str
    taxonomy: str
    sample_submission: str
    solution: str
    window_seconds: float

    @property
    def hint(self) -> str:
        """What a folder must hold to be read as this competition's."""
        return (
            f"a {self.name} folder holds {self.train_table}, {self.train_audio}/ "
            f"and {self.taxonomy}"
        )

    def row_id(self, stem: str, end_seconds: float) -> str:
        """Return the row id of a soundscape's window that ends at ``end_seconds``."""
        return f"{stem}_{round(end_seconds)}"


BIRDCLEF_2026 = Competition(
    name="birdclef-2026",
    train_table="train.csv",
    train_audio="train_audio",
    train_soundscapes="train_soundscapes",
    soundscape_labels="train_soundscapes_labels.csv",
    test_soundscapes="test_soundscapes",
    taxonomy="taxonomy.csv",
    sample_submission="sample_submission.csv",
    solution="solution.csv",
    window_seconds=5.0,
)
