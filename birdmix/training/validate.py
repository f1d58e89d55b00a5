"""Validation: hear held-out recordings and soundscape windows, and score them.

Shapes: N rows, W windows, C classes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import nn

from birdmix.batch import Batch
from birdmix.frontend.log_mel import LogMel
from birdmix.metrics.ranking import macro_roc_auc, padded_cmap, top1_accuracy
from birdmix.windows import probability


@dataclass(frozen=True)
class ValidationSet:
    """Rows to be judged by.

    Attributes:
        name: Begins the names of its metrics: validation, or validation_soundscape.
        targets: Targets of its rows, [N, C].
        batches: The windows of its rows, batch by batch.
    """

    name: str
    targets: np.ndarray
    batches: Iterable[Batch]


@dataclass(frozen=True)
class Judged:
    """Truth and logits of a validation set, one row per recording or annotated window, [N, C]."""

    name: str
    truth: np.ndarray
    logits: np.ndarray

    def metrics(self) -> dict[str, float]:
        """Return the set's figures; a figure that is not defined here is left out."""
        figures = {f"{self.name}_loss": float(_soft_bce(self.truth, self.logits))}
        positive = self.truth >= 0.5
        if (positive.any(axis=0) & ~positive.all(axis=0)).any():
            figures[f"{self.name}_macro_roc_auc"] = macro_roc_auc(positive, self.logits)
        figures[f"{self.name}_padded_cmap"] = padded_cmap(positive, probability(self.logits))
        if (self.truth == 1).any(axis=1).all():
            figures[f"{self.name}_top1_accuracy"] = top1_accuracy(self.truth == 1, self.logits)
        return figures


@torch.inference_mode()
def judge(
    fabric: Fabric, classifier: nn.Module, log_mel: LogMel, validation: ValidationSet
) -> Judged:
    """Hear a validation set; a recording's logits are the mean over its windows."""
    total = np.zeros(validation.targets.shape)
    count = np.zeros((len(total), 1))
    classifier.eval()
    for batch in validation.batches:
        batch = fabric.to_device(batch)
        with fabric.autocast():
            logits = classifier(log_mel(batch.x))
        rows = batch.row.cpu().numpy()
        np.add.at(total, rows, logits.double().cpu().numpy())
        np.add.at(count, rows, 1)
    return Judged(validation.name, validation.targets, total / count)


def _soft_bce(truth: np.ndarray, logits: np.ndarray) -> np.ndarray:
    return (np.logaddexp(0, logits) - truth * logits).mean()
