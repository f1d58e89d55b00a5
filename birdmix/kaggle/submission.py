"""Writing a submission: a file of priors first, then the predictions of each soundscape."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from birdmix.audio.find_recordings import find_recordings
from birdmix.competitions import Competition
from birdmix.engines.registry import open_engine
from birdmix.inference.predict_files import OnProgress, Progress, predict_files
from birdmix.inference.settings import PredictSettings
from birdmix.kaggle.deadline import Deadline, OutOfTime, format_duration
from birdmix.kaggle.fallback_plan import FallbackPlan
from birdmix.kaggle.priors import class_priors
from birdmix.kaggle.settings import DeadlineSettings, PostprocessingSettings
from birdmix.kaggle.submission_table import SubmissionTable
from birdmix.kaggle.submission_task import SubmissionTask, read_task
from birdmix.kaggle.submission_writer import SubmissionWriter
from birdmix.messages import first_few, format_count
from birdmix.ownership import OutputFiles
from birdmix.partial_files import remove_partials

# Minutes of audio that are predicted to measure the speed while a notebook is saved.
_TIMED_MINUTES = 8


@dataclass
class SubmissionResult:
    """The result of writing a submission.

    Attributes:
        task: The requested rows and soundscapes.
        limit_seconds: Time limit; infinite if there is none.
        num_rows_predicted: Number of rows with predictions; the others hold priors.
        progress: Progress over the soundscapes; where there are none, over the recordings that were
            timed instead.
        with_warning: Soundscapes that were predicted with a warning, and the warning.
        in_time: Whether all soundscapes could be predicted within the limit.
    """

    task: SubmissionTask
    limit_seconds: float = math.inf
    num_rows_predicted: int = 0
    progress: Progress = field(default_factory=Progress)
    with_warning: list[str] = field(default_factory=list)
    in_time: bool = True

    @property
    def hidden_test_seconds(self) -> float:
        """Estimated seconds for the hidden test at the measured speed; 0 if unknown."""
        competition, progress = self.task.competition, self.progress
        audio_seconds = competition.hidden_soundscapes * competition.hidden_seconds
        return audio_seconds / progress.times_real_time if progress.audio_seconds else 0.0

    @property
    def allowed_seconds(self) -> float:
        """Seconds allowed: the limit, or else the competition's; infinite if unknown."""
        limit_minutes = self.task.competition.limit_minutes
        if self.limit_seconds < math.inf or limit_minutes is None:
            return self.limit_seconds
        return 60.0 * limit_minutes


def make_submission(
    bundles: Sequence[Path],
    data: Path,
    out: Path,
    *,
    competition: Competition | None = None,
    engine: str = "auto",
    settings: PredictSettings | None = None,
    postprocessing: PostprocessingSettings | None = None,
    deadline_settings: DeadlineSettings | None = None,
    progress: Progress | None = None,
    on_progress: OnProgress = lambda _: None,
    report: Callable[[str], None] = lambda _: None,
) -> SubmissionResult:
    """Predict a competition's test soundscapes, and write the submission.

    A file of priors is written first, and replaced as soundscapes are predicted. Where there are no
    soundscapes, as while a Kaggle notebook is saved, some other recordings are predicted to measure
    the speed.

    Args:
        bundles: Folders of the models' bundles.
        data: The competition's folder.
        out: The file to write.
        competition: The competition; None infers it from the folder.
        engine: auto, torch, onnx or openvino.
        settings: Prediction settings; the window is replaced by the competition's.
        postprocessing: Post-processing of the predictions.
        deadline_settings: Time limit.
        progress: Progress to update. Once it has files, the submission's file exists and is
            complete.
        on_progress: Called after each recording, and several times a second.
        report: Prints a line.

    Returns:
        The result.

    Raises:
        ValueError: If folder, models and settings do not fit each other.
    """
    if out.exists() and not out.is_file():
        raise ValueError(f"{out}: not a file; name a file to write, such as --out submission.csv")
    file = OutputFiles(out.parent, (out.name,), remedy="name another file for --out")
    file.check()
    postprocessing, deadline_settings = (
        postprocessing or PostprocessingSettings(),
        deadline_settings or DeadlineSettings(),
    )
    task = read_task(data, competition)
    file.register()
    remove_partials(out.parent)
    table = SubmissionTable(task, class_priors(data, task.competition, task.species))
    writer = SubmissionWriter(table, out)
    engines = [open_engine(bundle, engine) for bundle in bundles]
    plan = FallbackPlan(engines, settings or PredictSettings(), task)
    _warn_of_species(task, plan)
    writer.set_postprocessing(plan, postprocessing, report)
    result = SubmissionResult(
        task, deadline_settings.limit_seconds, progress=progress or Progress()
    )
    deadline = Deadline(deadline_settings, plan, report)

    def check_time(progress: Progress) -> None:
        deadline.write_seconds = writer.write_seconds
        on_progress(progress)
        deadline(progress)

    try:
        if task.soundscapes:
            _predict_soundscapes(result, plan, writer, check_time)
        else:
            _time_other_recordings(result, plan, deadline_settings.degrade, on_progress, report)
    except OutOfTime:
        result.in_time = False
    finally:
        plan.close()
        writer.write_file_now()
    result.num_rows_predicted = table.num_rows_predicted
    _warn_of_failures(result, table)
    return result


def _predict_soundscapes(
    result: SubmissionResult, plan: FallbackPlan, writer: SubmissionWriter, on_progress: OnProgress
) -> None:
    """Predict the soundscapes that rows are about."""
    task, progress = result.task, result.progress
    paths = list(task.soundscapes.values())
    for predictions in predict_files(
        plan, task.soundscapes_folder, paths, on_progress=on_progress, progress=progress
    ):
        if predictions.warning:
            result.with_warning.append(f"{predictions.path} ({predictions.warning})")
        writer.add(predictions)


def _time_other_recordings(
    result: SubmissionResult,
    plan: FallbackPlan,
    degrade: bool,
    on_progress: OnProgress,
    report: Callable[[str], None],
) -> None:
    """Measure the speed on some other recordings; with ``degrade``, until a variant is in time."""
    folder, paths = _recordings_to_time(result.task)
    while True:
        progress = result.progress
        for _ in predict_files(plan, folder, paths, on_progress=on_progress, progress=progress):
            pass
        slow = degrade and result.hidden_test_seconds > result.allowed_seconds
        dropped = plan.fall_back() if slow else ""
        if not dropped:
            return
        report(f"{describe_hidden_test_time(result)}; --degrade continues without {dropped}")
        result.progress = Progress()


def _recordings_to_time(task: SubmissionTask) -> tuple[Path, list[str]]:
    """Return a folder and some of its recordings, about ``_TIMED_MINUTES`` of audio."""
    competition = task.competition
    for name, seconds in (
        (competition.train_soundscapes, competition.hidden_seconds),
        (competition.train_audio, 60),
    ):
        paths = find_recordings(task.data / name)
        if paths:
            number = max(60 * _TIMED_MINUTES // seconds, 2)
            return task.data / name, paths[:: -(-len(paths) // number)]
    return task.data, []


def describe_hidden_test_time(result: SubmissionResult) -> str:
    """Return a line with the estimated time for the hidden test at the measured speed.

    Empty if nothing was predicted, or if this seems to have been the hidden test.
    """
    competition = result.task.competition
    needed, allowed = result.hidden_test_seconds, result.allowed_seconds
    if not needed or len(result.task.soundscapes) > competition.hidden_soundscapes / 2:
        return ""
    limit = "" if allowed == math.inf else f" of {format_duration(allowed)}"
    return (
        f"estimated time for the hidden test, about {competition.hidden_soundscapes:,} soundscapes "
        f"of {format_duration(competition.hidden_seconds)}: {format_duration(needed)}{limit}"
        f"{', too slow' if needed > allowed else ''}"
    )


def _warn_of_species(task: SubmissionTask, plan: FallbackPlan) -> None:
    labels = plan.full_predictor.labels
    unknown = [code for code in task.species if code not in labels]
    dropped = sorted(set(labels.codes) - set(task.species))
    if unknown:
        warnings.warn(
            f"the bundles have no class for {len(unknown)} of {len(task.species)} species, which "
            f"keep the prior: {first_few(unknown, 5, 'those that bundle.json lacks')}",
            stacklevel=3,
        )
    if dropped:
        warnings.warn(
            f"{len(dropped)} species of the bundles are not in the submission and are left out: "
            f"{first_few(dropped, 5, 'those that the sample submission lacks')}",
            stacklevel=3,
        )


def _warn_of_failures(result: SubmissionResult, table: SubmissionTable) -> None:
    effect = "its rows keep the prior" if result.task.soundscapes else "it was only to be timed"
    for path, reason in result.progress.failed:
        warnings.warn(f"{path}: {reason}; {effect}", stacklevel=3)
    if result.with_warning:
        number = format_count(len(result.with_warning), "soundscape")
        names = first_few(sorted(result.with_warning))
        warnings.warn(
            f"{number} with problems, predicted as far as possible: {names}", stacklevel=3
        )
    not_covered = table.num_uncovered_rows_by_soundscape
    if not_covered:
        paths = [result.task.soundscapes[name] for name in not_covered]
        rows = format_count(sum(not_covered.values()), "row")
        soundscapes = format_count(len(not_covered), "soundscape")
        warnings.warn(
            f"{rows} of {soundscapes} outside of the audio that could be predicted keep the prior: "
            f"{first_few(paths)}",
            stacklevel=3,
        )
