"""The run directory: what a run writes into it, and what must not be there before."""

from functools import partial
from pathlib import Path

from birdmix.app.bundles import BEST, bundle_folders
from birdmix.app.configure import CONFIG, read_config
from birdmix.app.figures import FIGURES, figures_in
from birdmix.app.out_of_fold import OUT_OF_FOLD
from birdmix.bundle.manifest import claim_bundle, is_unlisted_bundle
from birdmix.files import check_replaceable
from birdmix.ownership import OutputFiles, read_list
from birdmix.partials import remove_partials
from birdmix.training.checkpoint import LAST, PREVIOUS
from birdmix.training.log import FINAL, METRICS
from birdmix.training.timing import TIMINGS, TOTAL

#: The predictions of a competition's test soundscapes.
SUBMISSION = "submission.csv"

_REMEDY = "name another run_dir"


def check_run_directory(directory: Path, *, is_resumed: bool) -> None:
    """Refuse a directory where a run would replace what birdmix did not write.

    Args:
        directory: The run directory.
        is_resumed: Whether a run goes on there, which has been read.

    Raises:
        ValueError: With the file or folder and a remedy.
    """
    was_run = _is_unlisted_run(directory, is_resumed)
    for files in _output_files(directory, was_run):
        files.check()
    for folder in bundle_folders(directory):
        if not (was_run and is_unlisted_bundle(folder)):
            check_replaceable(folder, _REMEDY)


def claim_run_directory(directory: Path, *, is_resumed: bool) -> None:
    """Begin the list of a run directory, right before the first writing.

    Args:
        directory: The run directory.
        is_resumed: As ``check_run_directory`` takes it.

    Raises:
        ValueError: As ``check_run_directory``.
    """
    check_run_directory(directory, is_resumed=is_resumed)
    was_run = _is_unlisted_run(directory, is_resumed)
    for folder in bundle_folders(directory):
        if was_run and is_unlisted_bundle(folder):
            claim_bundle(folder)
    for files in _output_files(directory, was_run):
        if files.folder == directory or files.folder.is_dir():
            files.claim()


def remove_run_partials(directory: Path) -> None:
    """Remove what killed processes left unfinished in a run directory."""
    for folder in (directory, directory / BEST, directory / FIGURES, directory / "bundle"):
        remove_partials(folder)


def _output_files(directory: Path, was_run: bool) -> list[OutputFiles]:
    changing = (CONFIG, METRICS, TIMINGS, LAST, PREVIOUS)
    with_remedy = partial(OutputFiles, remedy=_REMEDY, allows=lambda file: was_run)
    return [
        with_remedy(directory / FIGURES, figures_in(directory).names),
        # Last, since its list tells that the others are claimed.
        with_remedy(directory, (FINAL, TOTAL, OUT_OF_FOLD, SUBMISSION), changing),
    ]


def _is_unlisted_run(directory: Path, is_resumed: bool) -> bool:
    """Return whether a birdmix that kept no lists began a run here, or the list was not copied."""
    if read_list(directory) is not None:
        return False
    if is_resumed or not (directory / CONFIG).is_file():
        return is_resumed
    try:
        read_config(directory)
    except Exception:  # whatever a foreign file makes a library raise
        return False
    return True
