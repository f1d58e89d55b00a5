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
from birdmix.metrics.ranking import macro_roc_auc, padded_cmap, top1_accuracy
from birdmix.suggest import did_you_mean
from birdmix.training.processes import Processes
from birdmix.windows import probability

_FIGURES = ("loss", "macro_roc_auc", "padded_cmap", "top1_accuracy")


@dataclass(frozen=True)
class ValidationSet:
    """Rows to be judged by.

    Attributes:
        name: Begins the names of its metrics: validation, or validation_soundscape.
        targets: Targets of its rows, [N, C].
        known: Which of them are known, bool [N, C].
        batches: The windows of its rows, batch by batch: this process's share of them.
        num_batches: Number of all batches, over all processes.
    """

    name: str
    targets: np.ndarray
    known: np.ndarray
    batches: Iterable[Batch]
    num_batches: int

    def figures(self) -> list[str]:
        """Return the names of the figures that this truth allows."""
        return list(
            Judged(self.name, self.targets, self.known, np.zeros_like(self.targets)).metrics()
        )


@dataclass(frozen=True)
class Judged:
    """Truth and logits of a validation set, one row per recording or annotated window, [N, C].

    Attributes:
        known: Which of the truth is known; figures leave out the rest.
    """

    name: str
    truth: np.ndarray
    known: np.ndarray
    logits: np.ndarray

    def metrics(self) -> dict[str, float]:
        """Return the set's figures; a figure that is not defined here is left out."""
        loss, macro, cmap, top1 = (f"{self.name}_{figure}" for figure in _FIGURES)
        known = self.known
        figures = {loss: float(_soft_bce(self.truth, self.logits)[known].mean())}
        positive = self.positive
        if ((positive & known).any(axis=0) & (~positive & known).any(axis=0)).any():
            figures[macro] = macro_roc_auc(positive, self.logits, known)
        figures[cmap] = padded_cmap(positive, probability(self.logits), known=known)
        if (self.truth == 1).any(axis=1).all():
            figures[top1] = top1_accuracy(self.truth == 1, np.where(known, self.logits, -np.inf))
        return figures

    @property
    def positive(self) -> np.ndarray:
        """Which labels are more likely there than not, bool [N, C]."""
        return self.truth >= 0.5


def monitored_figure(sets: Sequence[ValidationSet], wanted: str | None) -> str | None:
    """Return the figure that tells better epochs from worse, None if there is nothing to hear.

    Raises:
        ValueError: If a figure is wanted that no epoch will have.
    """
    names = ["train_loss", *(figure for each in sets for figure in each.figures())]
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
    return Judged(validation.name, validation.targets, validation.known, total / count)


@torch.inference_mode()
def _hear(
    fabric: Fabric, classifier: nn.Module, log_mel: LogMel, batch: Batch
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a batch of windows, and their logits."""
    batch = fabric.to_device(batch)
    with fabric.autocast():
        logits = classifier(log_mel(batch.x)).clip
    return batch.row.cpu().numpy(), logits.double().cpu().numpy()


def _soft_bce(truth: np.ndarray, logits: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, logits) - truth * logits
