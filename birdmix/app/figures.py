"""Draw a run's figures."""

from pathlib import Path

import numpy as np
import pandas as pd

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
from birdmix.training.step import Seen

#: The folder of a run's figures.
FIGURES = "figures"

_MIXED_BATCH, _CURVES, _PER_CLASS = (
    *("mixed_batch.png", "learning_curves.png"),
    "roc_auc_per_class.png",
)

# Samples of the mixed batch that are drawn, and that loggers get to hear.
_NUM_DRAWN, _NUM_HEARD = 8, 4

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

    Returns:
        What loggers show: the pictures, sounds of the mixed batch, and a table of the classes.
    """
    figures_in(directory).claim()
    figures = directory / FIGURES
    pictures = {"mixed batch": figures / _MIXED_BATCH}
    batch, keys = _first_mixed(config, data, training)
    seen = training.step.see(batch, keys)
    samples = [_sample(seen, row, data) for row in range(min(_NUM_DRAWN, len(batch.x)))]
    draw_mixed_batch(pictures["mixed batch"], samples, config.frontend.log_mel)
    pictures["learning curves"] = figures / _CURVES
    draw_learning_curves(pictures["learning curves"], pd.read_csv(directory / METRICS))
    if judged is not None:
        pictures["ROC-AUC per class"] = figures / _PER_CLASS
        draw_roc_auc_per_class(
            pictures["ROC-AUC per class"],
            data.labels,
            roc_auc_per_class(judged.positive, judged.logits, judged.known),
            (judged.positive & judged.known).sum(axis=0),
            f"ROC-AUC per class, {_TITLES[judged.name]}",
        )
    heard = training.step.hear(batch, keys)[0].x[:_NUM_HEARD].float().cpu()
    return Showing(
        pictures,
        sounds=[each.numpy() for each in heard / peaks(heard)[:, None].clamp(min=1)],
        sample_rate=config.frontend.log_mel.sample_rate,
        table=classes_as_markdown(data.labels, judged) if judged is not None else "",
    )


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
    """Load the run's first mixed batch again; the first batch of all if nothing is ever mixed."""
    batches = build_loader(
        config, data, build_batches(config, data, Position(), training.processes), num_workers=0
    )
    first: tuple[Batch, StepKeys] | None = None
    for index, given in zip(range(20), batches, strict=False):
        batch = training.fabric.to_device(given)
        keys = training.keys(*divmod(index, training.batches_per_epoch))
        first = first or (batch, keys)
        if not all(plan.is_identity for plan in training.step.see(batch, keys).plans.values()):
            return batch, keys
    assert first is not None
    return first


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
    labels = recordings.labels
    names = (labels.names[labels.column(code)] for code in recordings.codes(row))
    return " + ".join(names) or "no bird"


def _pairs(plan: Plan, row: int) -> list[tuple[int, float]]:
    """Return the sources of a sample and their gains."""
    return list(zip(plan.source[row].tolist(), plan.gain[row].tolist(), strict=True))
