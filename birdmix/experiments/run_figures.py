"""Figures of a run: a mixed batch, learning curves, ROC-AUC per class.

A figure that cannot be drawn gives a warning; the run does not fail.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from birdmix.config.schema import Config
from birdmix.console import warn
from birdmix.experiments.builders import (
    build_batch_sampler,
    build_training_loader,
    mixed_pool_sizes,
)
from birdmix.experiments.run_directory import (
    FIGURES,
    LEARNING_CURVES,
    MIXED_BATCH,
    ROC_AUC_PER_CLASS,
    figure_output_files,
)
from birdmix.labels import Labels
from birdmix.loading.batch import Batch
from birdmix.loading.run_data import RunData
from birdmix.metrics.eval_result import EvalResult
from birdmix.metrics.ranking import average_precision_per_class, roc_auc_per_class
from birdmix.mix import DrawContext, Plan
from birdmix.mix.post_scaling import peaks
from birdmix.random_keys import StepKeys
from birdmix.recordings.data_splits import HELD_OUT, SOUNDSCAPES
from birdmix.recordings.recordings_table import Recordings
from birdmix.report.learning_curves_figure import draw_learning_curves
from birdmix.report.mixed_batch_figure import MixedExample, draw_mixed_batch
from birdmix.report.roc_auc_figure import draw_roc_auc_per_class
from birdmix.training.loggers import RunMedia
from birdmix.training.metrics_log import METRICS_FILE
from birdmix.training.run_position import RunPosition
from birdmix.training.training_run import TrainingRun
from birdmix.training.training_step import PreparedBatch, will_mix_batch

# Numbers of examples of the mixed batch: drawn, and sent to loggers as audio.
_NUM_DRAWN, _NUM_SOUNDS = 8, 4
# Label names of one recording that fit into the figure.
_MAX_NAMES = 4
# Number of first batches that are searched for a mixed one.
_NUM_SEARCHED = 20

# Titles by evaluation.
_TITLES = {
    HELD_OUT: "held-out recordings",
    SOUNDSCAPES: "labelled soundscape windows",
    "soundscape": "test soundscape windows",
}


def draw_figures(
    config: Config, data: RunData, training: TrainingRun, directory: Path, result: EvalResult | None
) -> RunMedia:
    """Draw a mixed batch, the learning curves and, given an evaluation, ROC-AUC per class.

    Args:
        config: The run's settings.
        data: The run's data.
        training: The training.
        directory: Run directory.
        result: The last evaluation, if there is one.

    Returns:
        Output for loggers: figures, audio of the mixed batch, and a table of the classes.
    """
    folder = directory / FIGURES
    with warn_on_error(folder):
        figure_output_files(directory).register()
    sounds: list[np.ndarray] = []

    def draw_first_mixed(path: Path) -> None:
        batch, keys = _load_first_mixed_batch(config, data, training)
        prepared = training.step.prepare_batch(batch, keys)
        examples = [
            _describe_example(prepared, row, data, training.step.mix_stages.waveform)
            for row in range(min(_NUM_DRAWN, batch.context.batch_size))
        ]
        draw_mixed_batch(path, examples, config.frontend.log_mel)
        mixed = training.step.mix_waveforms(batch, keys)[0].examples.x[:_NUM_SOUNDS].float().cpu()
        sounds.extend(each.numpy() for each in mixed / peaks(mixed)[:, None].clamp(min=1))

    def draw_curves(path: Path) -> None:
        draw_learning_curves(path, pd.read_csv(directory / METRICS_FILE))

    def draw_roc_auc(path: Path) -> None:
        assert result is not None
        draw_roc_auc_per_class(
            path,
            data.labels,
            roc_auc_per_class(result.positive, result.logits, result.known),
            (result.positive & result.known).sum(axis=0),
            f"ROC-AUC per class, {_TITLES[result.name]}",
        )

    plots: dict[str, tuple[str, Callable[[Path], None]]] = {
        "mixed batch": (MIXED_BATCH, draw_first_mixed),
        "learning curves": (LEARNING_CURVES, draw_curves),
    }
    if result is not None:
        plots["ROC-AUC per class"] = (ROC_AUC_PER_CLASS, draw_roc_auc)
    figures = {}
    for title, (name, draw) in plots.items():
        with warn_on_error(folder / name):
            draw(folder / name)
            figures[title] = folder / name
    return RunMedia(
        figures,
        sounds=sounds,
        sample_rate=config.frontend.log_mel.sample_rate,
        table=class_table_markdown(data.labels, result) if result is not None else "",
    )


@contextmanager
def warn_on_error(what: Path | str) -> Iterator[None]:
    """Turn an error while an optional output is written into a warning.

    Args:
        what: The output, as the warning names it.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        warn(f"{what} was not written, the rest of the run is complete: {reason}")


def class_table_markdown(labels: Labels, result: EvalResult) -> str:
    """Return a Markdown table of the classes: known rows, positives, ROC-AUC, average precision."""
    columns = (
        labels.codes,
        labels.names,
        result.known.sum(axis=0),
        (result.positive & result.known).sum(axis=0),
        roc_auc_per_class(result.positive, result.logits, result.known),
        average_precision_per_class(result.positive, result.logits, result.known),
    )
    lines = [
        f"| {code} | {name} | {rows} | {positives} | {_format(roc_auc)} | {_format(precision)} |"
        for code, name, rows, positives, roc_auc, precision in zip(*columns, strict=True)
    ]
    head = "| class | name | rows | positives | ROC-AUC | average precision |"
    return "\n".join([f"{_TITLES[result.name]}\n", head, "|---" * 6 + "|", *lines])


def _format(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3f}"


def _load_first_mixed_batch(
    config: Config, data: RunData, training: TrainingRun
) -> tuple[Batch, StepKeys]:
    """Load the run's first mixed batch again; its first batch if no early batch is mixed."""
    number = _find_first_mixed_batch(config, data, training)
    epoch, index = divmod(number, training.batches_per_epoch)
    start = RunPosition(epoch=epoch, batch=index)
    batches = build_batch_sampler(config, data, start, training.processes)
    batch = next(iter(build_training_loader(config, data, batches, num_workers=0)))
    return training.fabric.to_device(batch), training.batch_random_keys(epoch, index)


def _find_first_mixed_batch(config: Config, data: RunData, training: TrainingRun) -> int:
    """Return the number of the first mixed batch, 0 if no early batch is mixed; decodes nothing."""
    stages = training.step.mix_stages
    size = max(config.data.batch_size // training.processes.size, stages.min_batch_size)
    pool_sizes = {
        name: pool_size // training.processes.size
        for name, pool_size in mixed_pool_sizes(config).items()
    }
    context = DrawContext(size, pool_sizes)
    num_batches = training.batches_per_epoch * training.trainer.max_epochs
    for number in range(min(_NUM_SEARCHED, num_batches)):
        keys = training.batch_random_keys(*divmod(number, training.batches_per_epoch))
        if will_mix_batch({**stages.waveform, **stages.spectrogram}, context, keys):
            return number
    return 0


def _describe_example(
    prepared: PreparedBatch, row: int, data: RunData, waveform_operators: Collection[str]
) -> MixedExample:
    """Return log-mel, sources and target of a mixed example, for the figure."""
    names = data.labels.names
    target = prepared.batch.examples.target[row].tolist()
    return MixedExample(
        mel=prepared.batch.examples.x[row, 0].cpu().numpy(),
        sources=tuple(_source_lines(prepared, row, data.batch_rows, waveform_operators)),
        target={names[c]: value for c, value in enumerate(target) if value > 0},
    )


def _source_lines(
    prepared: PreparedBatch,
    row: int,
    batch_rows: Recordings,
    waveform_operators: Collection[str],
) -> list[str]:
    """Return a line for each source of the last mix of an example."""
    context = prepared.batch.context
    assert context.row is not None
    rows = context.row.tolist()
    pool_prefix = {
        source: f"{name}: " for name in context.pool_sizes for source in context.candidates(name)
    }
    waveform_plans = [plan for name, plan in prepared.plans.items() if name in waveform_operators]
    mel_plans = [plan for name, plan in prepared.plans.items() if name not in waveform_operators]

    def waveform_lines(row: int) -> list[str]:
        """Return the sources of the sum of waveforms: each plan is applied to those before."""
        gains = {row: 1.0}
        for plan in waveform_plans:
            (_, own_gain), *others = _sources_and_gains(plan, row)
            gains = {source: gain * own_gain for source, gain in gains.items()}
            for source, gain in others:
                if gain:
                    gains[source] = gains.get(source, 0.0) + gain
        return [
            f"{pool_prefix.get(source, '')}{_label_names(batch_rows, rows[source])} x {gain:.2f}"
            for source, gain in gains.items()
        ]

    def mel_lines(row: int, plans: list[Plan]) -> list[str]:
        if not plans:
            return waveform_lines(row)
        *earlier, last = plans
        if last.source_counts[row] == 1:
            return mel_lines(row, earlier)
        parts = last.source_fractions(tuple(prepared.batch.examples.x.shape))[row]
        pairs = zip(last.source[row].tolist(), parts.tolist(), strict=True)
        return [
            f"{part:.2f} of ({' + '.join(mel_lines(source, earlier))})" for source, part in pairs
        ]

    return mel_lines(row, mel_plans)


def _label_names(recordings: Recordings, row: int) -> str:
    """Return the names of a recording's labels, at most ``_MAX_NAMES`` of them."""
    labels = recordings.labels
    names = [labels.names[labels.column(code)] for code in recordings.label_codes_of_row(row)]
    if len(names) > _MAX_NAMES:
        names = [*names[: _MAX_NAMES - 1], f"{len(names) - _MAX_NAMES + 1} more"]
    return " + ".join(names) or "no bird"


def _sources_and_gains(plan: Plan, row: int) -> list[tuple[int, float]]:
    """Return the sources of an example in a plan, with their gains."""
    return list(zip(plan.source[row].tolist(), plan.gain[row].tolist(), strict=True))
