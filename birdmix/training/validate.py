"""Validation: hear held-out recordings and soundscape windows, and score them.

Shapes: N rows, W windows, C classes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import nn

from birdmix.batch import Batch
from birdmix.frontend.log_mel import LogMel
from birdmix.recordings.table import Recordings
from birdmix.suggest import did_you_mean, first_few
from birdmix.training.judged import Judged
from birdmix.training.processes import Processes


@dataclass(frozen=True)
class ValidationSet:
    """Rows to be judged by.

    Attributes:
        name: Begins the names of its metrics: validation, or validation_soundscape.
        targets: Targets of its rows, [N, C].
        known: Which of them are known, bool [N, C].
        batches: The windows of its rows, batch by batch: this process's share of them.
        num_batches: Number of all batches, over all processes.
        rows: What they are: recordings, or annotated windows.
    """

    name: str
    targets: np.ndarray
    known: np.ndarray
    batches: Iterable[Batch]
    num_batches: int
    rows: Recordings

    def figures(self) -> dict[str, str]:
        """Return the names of all figures, and what this truth lacks to have them, if anything."""
        silent = np.zeros_like(self.targets)
        return Judged(self.name, self.targets, self.known, silent).lacking()


def monitored_figure(sets: Sequence[ValidationSet], wanted: str | None) -> str | None:
    """Return the figure that tells better epochs from worse, None if there is nothing to hear.

    Raises:
        ValueError: If a figure is wanted that no epoch will have.
    """
    lacking = {"train_loss": ""}
    for each in sets:
        lacking |= each.figures()
    names = [name for name, lacks in lacking.items() if not lacks]
    if wanted is not None and lacking.get(wanted):
        raise ValueError(
            f"validation.monitor={wanted}: nothing can be scored, since what is held out has not "
            f"{lacking[wanted]}; hold out more, or take one of {', '.join(names)}"
        )
    if wanted is not None and wanted not in names:
        raise ValueError(
            f"validation.monitor={wanted} is no figure of this run{did_you_mean(wanted, names)}; "
            f"there are {', '.join(names)}"
        )
    if wanted is not None or not sets:
        return wanted
    last = [f"{sets[-1].name}_{figure}" for figure in ("macro_roc_auc", "loss")]
    return next(figure for figure in last if figure in names)


def judge(
    processes: Processes,
    classifier: nn.Module,
    log_mel: LogMel,
    validation: ValidationSet,
    between: Callable[[], object] = lambda: None,
) -> Judged:
    """Hear a validation set; a recording's logits are the mean over its windows.

    Args:
        processes: Each hears a share; all of them get the whole result.
        classifier: What is judged; it is left in evaluation mode.
        log_mel: The front end.
        validation: What it is judged by.
        between: Called after each round of batches, equally often in all processes.
    """
    processes.share_buffers(classifier)
    classifier.eval()
    batches = iter(validation.batches)
    heard = []
    for _ in range(-(-validation.num_batches // processes.size)):
        batch = next(batches, None)
        if batch is not None:
            heard.append(_hear(processes.fabric, classifier, log_mel, batch))
        between()
    # Dealt out like cards and taken up again, so that sums do not depend on the number of hands.
    shares = processes.gather(heard)
    total = np.zeros(validation.targets.shape)
    count = np.zeros((len(total), 1))
    for index in range(validation.num_batches):
        rows, logits = shares[index % processes.size][index // processes.size]
        np.add.at(total, rows, logits)
        np.add.at(count, rows, 1)
    _check_finite(validation, total)
    return Judged(validation.name, validation.targets, validation.known, total / count)


def _check_finite(validation: ValidationSet, logits: np.ndarray) -> None:
    """Refuse logits [N, C] that are no numbers: metrics of them would be none either.

    Raises:
        ValueError: With the recordings.
    """
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        paths = list(dict.fromkeys(validation.rows.paths[row] for row in bad.tolist()))
        raise ValueError(
            f"{validation.name}: logits of {len(bad)} of {len(logits)} rows are not finite, of "
            f"{first_few(paths)}; if it is all of them lower optim.lr, or take trainer.precision=32"
            "-true; if it is some look at them with birdmix doctor"
        )


@torch.inference_mode()
def _hear(
    fabric: Fabric, classifier: nn.Module, log_mel: LogMel, batch: Batch
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a batch of windows, and their logits."""
    batch = fabric.to_device(batch)
    with fabric.autocast():
        logits = classifier(log_mel(batch.x)).clip
    return batch.row.cpu().numpy(), logits.double().cpu().numpy()
