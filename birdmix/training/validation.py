"""Validation: logits of held-out recordings and soundscape windows, and the monitored metric.

Shapes: N examples (recordings or annotated windows), W windows, C classes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import nn

from birdmix.frontend.log_mel import LogMel
from birdmix.loading.batch import Batch
from birdmix.messages import did_you_mean, first_few
from birdmix.metrics.eval_result import EvalResult
from birdmix.metrics.validation_metrics import METRICS, unmet_metric_requirements
from birdmix.recordings.data_splits import HELD_OUT, SOUNDSCAPES
from birdmix.recordings.recordings_table import Recordings
from birdmix.training.distributed_processes import Processes


@dataclass(frozen=True)
class ValidationSet:
    """A data set to evaluate on.

    Attributes:
        name: Prefix of the names of its metrics: validation, or validation_soundscape.
        targets: Targets in [0, 1], [N, C].
        known: Which targets are known, bool [N, C].
        batches: Batches of windows: this process's share.
        num_batches: Number of batches over all processes.
        table: Table of the N recordings or annotated windows.
    """

    name: str
    targets: np.ndarray
    known: np.ndarray
    batches: Iterable[Batch]
    num_batches: int
    table: Recordings

    def unmet_metric_requirements(self) -> dict[str, str]:
        """Return the requirement of each metric that the truth does not meet, "" if it does."""
        logits = np.zeros_like(self.targets)
        result = EvalResult(self.name, self.targets, self.known, logits)
        return unmet_metric_requirements(result)


def check_monitor_name(monitor: str) -> None:
    """Check that a metric of some run has this name.

    Raises:
        ValueError: If none has.
    """
    names = ["train_loss", *(f"{name}_{m}" for name in (HELD_OUT, SOUNDSCAPES) for m in METRICS)]
    if monitor not in names:
        raise ValueError(
            f"validation.monitor={monitor} is not a metric of a run{did_you_mean(monitor, names)}"
        )


def choose_monitor(sets: Sequence[ValidationSet], wanted: str | None) -> str | None:
    """Return the metric that ranks epochs.

    Args:
        sets: The validation sets.
        wanted: Name of a metric; None is the macro ROC-AUC of the last set, or its loss where the
            macro ROC-AUC is undefined.

    Returns:
        Name of the metric; None if there is no validation set and no metric is wanted.

    Raises:
        ValueError: If the wanted metric will not be defined in any epoch.
    """
    unmet = {"train_loss": ""}
    for validation in sets:
        unmet |= validation.unmet_metric_requirements()
    names = [name for name, requirement in unmet.items() if not requirement]
    if wanted is not None and unmet.get(wanted):
        raise ValueError(
            f"validation.monitor={wanted} is undefined: the validation set needs {unmet[wanted]}; "
            f"hold out more recordings, or use one of {', '.join(names)}"
        )
    if wanted is not None and wanted not in names:
        raise ValueError(
            f"validation.monitor={wanted} is not a metric of this run"
            f"{did_you_mean(wanted, names)}; available: {', '.join(names)}"
        )
    if wanted is not None or not sets:
        return wanted
    defaults = [f"{sets[-1].name}_{metric}" for metric in ("macro_roc_auc", "loss")]
    return next(metric for metric in defaults if metric in names)


def evaluate(
    processes: Processes,
    classifier: nn.Module,
    log_mel: LogMel,
    validation: ValidationSet,
    after_batch: Callable[[], object] = lambda: None,
) -> EvalResult:
    """Evaluate a model on a validation set; a recording's logits are the mean over its windows.

    Args:
        processes: Processes that share the batches; all get the whole result.
        classifier: Model to evaluate; it is left in evaluation mode.
        log_mel: The front end.
        validation: Data set to evaluate on.
        after_batch: Called after each round of batches, equally often in all processes.

    Returns:
        Truth and logits of the whole set.

    Raises:
        ValueError: If logits are not finite.
    """
    processes.broadcast_buffers(classifier)
    classifier.eval()
    batches = iter(validation.batches)
    predicted = []
    for _ in range(-(-validation.num_batches // processes.size)):
        batch = next(batches, None)
        if batch is not None:
            predicted.append(_predict_batch(processes.fabric, classifier, log_mel, batch))
        after_batch()
    # Batches are summed in their order, so that sums do not depend on the number of processes.
    predicted_by_process = processes.gather(predicted)
    total = np.zeros(validation.targets.shape)
    count = np.zeros((len(total), 1))
    for index in range(validation.num_batches):
        rank, position = index % processes.size, index // processes.size
        rows, logits = predicted_by_process[rank][position]
        np.add.at(total, rows, logits)
        np.add.at(count, rows, 1)
    _check_finite(validation, total)
    return EvalResult(validation.name, validation.targets, validation.known, total / count)


def _check_finite(validation: ValidationSet, logits: np.ndarray) -> None:
    """Refuse logits [N, C] that are not finite, because their metrics would not be either.

    Raises:
        ValueError: With the recordings concerned.
    """
    nonfinite = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(nonfinite):
        paths = list(dict.fromkeys(validation.table.paths[row] for row in nonfinite.tolist()))
        raise ValueError(
            f"{validation.name}: logits of {len(nonfinite)} of {len(logits)} recordings or windows "
            f"are not finite ({first_few(paths)}); if these are all, lower optim.lr or set "
            "trainer.precision=32-true; otherwise check them with birdmix doctor"
        )


@torch.inference_mode()
def _predict_batch(
    fabric: Fabric, classifier: nn.Module, log_mel: LogMel, batch: Batch
) -> tuple[np.ndarray, np.ndarray]:
    """Return the table rows of a batch of windows, [W], and their logits, [W, C]."""
    batch = fabric.to_device(batch)
    with fabric.autocast():
        output = classifier(log_mel(batch.examples.x))
    assert batch.context.row is not None
    return batch.context.row, output.logits.double().cpu().numpy()
