"""Run directory: names of a run's files, and checks that no foreign file is replaced."""

from functools import partial
from pathlib import Path

from birdmix.bundle.manifest import is_bundle_without_file_list, write_bundle_file_list
from birdmix.config.run_config_file import CONFIG, read_config
from birdmix.experiments.run_bundles import BEST, bundle_folders_of_run
from birdmix.files import check_replaceable_folder
from birdmix.ownership import OutputFiles, read_file_list
from birdmix.partial_files import remove_partials
from birdmix.training.checkpoint import LAST_CHECKPOINT, PREVIOUS_CHECKPOINT
from birdmix.training.metrics_log import FINAL_METRICS_FILE, METRICS_FILE
from birdmix.training.out_of_fold import OUT_OF_FOLD
from birdmix.training.phase_timer import TIMINGS_FILE, TOTAL_TIME_FILE

#: File of the predictions of a competition's test soundscapes.
SUBMISSION = "submission.csv"

#: Folder of a run's figures, and their file names.
FIGURES = "figures"
MIXED_BATCH, LEARNING_CURVES = "mixed_batch.png", "learning_curves.png"
ROC_AUC_PER_CLASS = "roc_auc_per_class.png"

_REMEDY = "name another run_dir"


def check_run_directory(directory: Path, *, is_resumed: bool) -> None:
    """Check that a run would replace no file that birdmix did not write.

    Args:
        directory: The run directory.
        is_resumed: Whether the run in this directory, which has been read, is resumed.

    Raises:
        ValueError: If it would replace one; the message names it and a remedy.
    """
    is_old_run = _is_unlisted_run(directory, is_resumed)
    for files in _output_files(directory, is_old_run):
        files.check()
    for folder in bundle_folders_of_run(directory):
        if not (is_old_run and is_bundle_without_file_list(folder)):
            check_replaceable_folder(folder, _REMEDY)


def register_run_output_files(directory: Path, *, is_resumed: bool) -> None:
    """Check a run directory, and list the files that the run will write, before it writes them.

    Args:
        directory: The run directory.
        is_resumed: See ``check_run_directory``.

    Raises:
        ValueError: As ``check_run_directory``.
    """
    check_run_directory(directory, is_resumed=is_resumed)
    is_old_run = _is_unlisted_run(directory, is_resumed)
    for folder in bundle_folders_of_run(directory):
        if is_old_run and is_bundle_without_file_list(folder):
            write_bundle_file_list(folder)
    for files in _output_files(directory, is_old_run):
        if files.folder == directory or files.folder.is_dir():
            files.register()


def figure_output_files(directory: Path) -> OutputFiles:
    """Return the figures of a run as output files."""
    return OutputFiles(directory / FIGURES, (MIXED_BATCH, LEARNING_CURVES, ROC_AUC_PER_CLASS))


def remove_run_partials(directory: Path) -> None:
    """Remove the incomplete files that killed processes left in a run directory."""
    for folder in (directory, directory / BEST, directory / FIGURES, directory / "bundle"):
        remove_partials(folder)


def _output_files(directory: Path, is_old_run: bool) -> list[OutputFiles]:
    """Return a run's output files per folder; an old run's files may be replaced."""
    changing = (CONFIG, METRICS_FILE, TIMINGS_FILE, LAST_CHECKPOINT, PREVIOUS_CHECKPOINT)
    make_files = partial(OutputFiles, remedy=_REMEDY, may_replace=lambda file: is_old_run)
    return [
        make_files(directory / FIGURES, figure_output_files(directory).names),
        # Last, since a list in this folder means that the other folders are claimed.
        make_files(
            directory, (FINAL_METRICS_FILE, TOTAL_TIME_FILE, OUT_OF_FOLD, SUBMISSION), changing
        ),
    ]


def _is_unlisted_run(directory: Path, is_resumed: bool) -> bool:
    """Return whether a run has no list of its files: an older version's, or a copy without it."""
    if read_file_list(directory) is not None:
        return False
    if is_resumed or not (directory / CONFIG).is_file():
        return is_resumed
    try:
        read_config(directory)
    except Exception:  # libraries raise various errors for foreign files
        return False
    return True
