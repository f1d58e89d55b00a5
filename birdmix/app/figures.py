"""Draw a run's figures."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from birdmix.app.console import warn
from birdmix.app.data import Data
from birdmix.app.feed import build_batches, build_loader
from birdmix.app.schema import Config
from birdmix.batch import Batch
from birdmix.keys import StepKeys
from birdmix.labels import Labels
from birdmix.metrics.ranking import average_precision_per_class, roc_auc_per_class
from birdmix.mix import Plan
from birdmix.mix.post import peaks
from birdmix.ownership import OutputFiles
from birdmix.recordings.table import Recordings, concatenated
from birdmix.report.curves import draw_learning_curves
from birdmix.report.mixed_batch import MixedSample, draw_mixed_batch
from birdmix.report.per_class import draw_roc_auc_per_class
from birdmix.training.judged import Judged
from birdmix.training.log import METRICS
from birdmix.training.loggers import Showing
from birdmix.training.position import Position
from birdmix.training.run import Training
from birdmix.training.step import Seen, is_mixed

#: The folder of a run's figures.
FIGURES = "figures"

_MIXED_BATCH, _CURVES = "mixed_batch.png", "learning_curves.png"
_PER_CLASS = "roc_auc_per_class.png"

# Samples of the mixed batch that are drawn, and that loggers get to hear.
_NUM_DRAWN, _NUM_HEARD = 8, 4
# Names of one recording's labels; more would not fit.
_NUM_NAMES = 4
# Batches among which a mixed one is looked for.
_NUM_SEARCHED = 20

_TITLES = {
    "validation": "held-out recordings",
    "validation_soundscape": "labelled soundscape windows",
    "soundscape": "test soundscape windows",
}


def figures_in(directory: Path) -> OutputFiles:
    """Return the figures that a run draws."""
    return OutputFiles(directory / FIGURES, (_MIXED_BATCH, _CURVES, _PER_CLASS))


def draw_figures(
    config: Config, data: Data, training: Training, directory: Path, judged: Judged | None
) -> Showing:
    """Draw a mixed batch, the learning curves and, if anything was judged, each class's ROC-AUC.

    What cannot be drawn is left out, with a warning: a run never fails by its pictures.

    Returns:
        What loggers show: the pictures, sounds of the mixed batch, and a table of the classes.
    """
    figures = directory / FIGURES
    with optional(figures):
        figures_in(directory).claim()
    sounds: list[np.ndarray] = []

    def mixed_batch(path: Path) -> None:
        batch, keys = _first_mixed(config, data, training)
        seen = training.step.see(batch, keys)
        samples = [_sample(seen, row, data) for row in range(min(_NUM_DRAWN, len(batch.x)))]
        draw_mixed_batch(path, samples, config.frontend.log_mel)
        heard = training.step.hear(batch, keys)[0].x[:_NUM_HEARD].float().cpu()
        sounds.extend(each.numpy() for each in heard / peaks(heard)[:, None].clamp(min=1))

    def learning_curves(path: Path) -> None:
        draw_learning_curves(path, pd.read_csv(directory / METRICS))

    def roc_auc(path: Path) -> None:
        assert judged is not None
        draw_roc_auc_per_class(
            path,
            data.labels,
            roc_auc_per_class(judged.positive, judged.logits, judged.known),
            (judged.positive & judged.known).sum(axis=0),
            f"ROC-AUC per class, {_TITLES[judged.name]}",
        )

    drawn: dict[str, tuple[str, Callable[[Path], None]]] = {
        "mixed batch": (_MIXED_BATCH, mixed_batch),
        "learning curves": (_CURVES, learning_curves),
    }
    if judged is not None:
        drawn["ROC-AUC per class"] = (_PER_CLASS, roc_auc)
    pictures = {}
    for title, (name, draw) in drawn.items():
        with optional(figures / name):
            draw(figures / name)
            pictures[title] = figures / name
    return Showing(
        pictures,
        sounds=sounds,
        sample_rate=config.frontend.log_mel.sample_rate,
        table=classes_as_markdown(data.labels, judged) if judged is not None else "",
    )


@contextmanager
def optional(what: Path | str) -> Iterator[None]:
    """Turn an error of something that a run can do without into a warning that names it."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        warn(f"{what} was left out, the rest of the run is complete: {reason}")


def classes_as_markdown(labels: Labels, judged: Judged) -> str:
    """Return a table of the classes: rows that are known, positives, ROC-AUC, average precision."""
    columns = (
        labels.codes,
        labels.names,
        judged.known.sum(axis=0),
        (judged.positive & judged.known).sum(axis=0),
        roc_auc_per_class(judged.positive, judged.logits, judged.known),
        average_precision_per_class(judged.positive, judged.logits, judged.known),
    )
    lines = [
        f"| {code} | {name} | {rows} | {positives} | {_figure(roc_auc)} | {_figure(precision)} |"
        for code, name, rows, positives, roc_auc, precision in zip(*columns, strict=True)
    ]
    head = "| class | name | rows | positives | ROC-AUC | average precision |"
    return "\n".join([f"{_TITLES[judged.name]}\n", head, "|---" * 6 + "|", *lines])


def _figure(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3f}"


def _first_mixed(config: Config, data: Data, training: Training) -> tuple[Batch, StepKeys]:
    """Load the run's first mixed batch again; the first batch of all if none is mixed early on."""
    epoch, index = divmod(_first_mix(config, data, training), training.batches_per_epoch)
    start = Position(epoch=epoch, batch=index)
    batches = build_batches(config, data, start, training.processes)
    batch = next(iter(build_loader(config, data, batches, num_workers=0)))
    return training.fabric.to_device(batch), training.keys(epoch, index)


def _first_mix(config: Config, data: Data, training: Training) -> int:
    """Return which of the run's first batches is mixed first, 0 if none; nothing is decoded."""
    stages = training.step.stages
    size = max(config.data.batch_size // training.processes.size, stages.num_batch_sources)
    pool_size = (config.data.pool.size or config.data.batch_size) if data.pool else 0
    num_batches = training.batches_per_epoch * training.trainer.max_epochs
    for number in range(min(_NUM_SEARCHED, num_batches)):
        keys = training.keys(*divmod(number, training.batches_per_epoch))
        if is_mixed({**stages.waveform, **stages.spectrogram}, size, pool_size, keys):
            return number
    return 0


def _sample(seen: Seen, row: int, data: Data) -> MixedSample:
    names = data.labels.names
    target = seen.batch.target[row].tolist()
    return MixedSample(
        mel=seen.batch.x[row, 0].cpu().numpy(),
        sources=tuple(_sources(seen, row, data)),
        target={names[c]: value for c, value in enumerate(target) if value > 0},
    )


def _sources(seen: Seen, row: int, data: Data) -> list[str]:
    """Say what was mixed into a sample: a line for each source of its last mix."""
    rows = seen.batch.row.tolist()
    nothing = Plan.identity(len(rows))
    summed, injected = (seen.plans.get(slot, nothing) for slot in ("mixup", "inject"))
    on_mels = [plan for slot, plan in seen.plans.items() if slot not in ("mixup", "inject")]
    pool = seen.batch.pool

    def waves(row: int) -> list[str]:
        own, *laid_over = _pairs(injected, row)
        lines = [
            f"{_name(data.train, rows[source])} x {gain * own[1]:.2f}"
            for source, gain in _pairs(summed, row)
            if gain
        ]
        for source, gain in laid_over:
            if gain and pool is not None:
                name = _name(concatenated(data.pool.values()), int(pool.row[source - len(rows)]))
                lines.append(f"pool: {name} x {gain:.2f}")
        return lines

    def blend(row: int, plans: list[Plan]) -> list[str]:
        if not plans:
            return waves(row)
        *earlier, last = plans
        if last.num_sources[row] == 1:
            return blend(row, earlier)
        parts = last.parts(tuple(seen.batch.x.shape))[row]
        pairs = zip(last.source[row].tolist(), parts.tolist(), strict=True)
        return [f"{part:.2f} of ({' + '.join(blend(source, earlier))})" for source, part in pairs]

    return blend(row, on_mels)


def _name(recordings: Recordings, row: int) -> str:
    """Return the names of a recording's labels, a few of them where it has many."""
    labels = recordings.labels
    names = [labels.names[labels.column(code)] for code in recordings.codes(row)]
    if len(names) > _NUM_NAMES:
        names = [*names[: _NUM_NAMES - 1], f"{len(names) - _NUM_NAMES + 1} more"]
    return " + ".join(names) or "no bird"


def _pairs(plan: Plan, row: int) -> list[tuple[int, float]]:
    """Return the sources of a sample and their gains."""
    return list(zip(plan.source[row].tolist(), plan.gain[row].tolist(), strict=True))
