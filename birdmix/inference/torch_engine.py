"""The torch engine: the classifier as it was trained."""

from collections.abc import Hashable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from birdmix.bundle.manifest import Manifest
from birdmix.bundle.weights import load_classifier
from birdmix.frontend.log_mel import LogMel
from birdmix.inference.engine import Heard
from birdmix.model.classifier import Classifier, channels_last

# Numbers of the complex spectrograms of a batch: 2 GiB.
_MOST_VALUES = 2**28


def has_gpu() -> bool:
    """Tell whether torch has a GPU to listen on."""
    return torch.cuda.is_available()


class TorchEngine:
    """Log-mel and classifier on a GPU if there is one, on the CPU otherwise.

    Args:
        bundle: The bundle's folder.
        manifest: Its manifest.
        device: cpu or cuda; None is a GPU if there is one.
    """

    side_by_side = 1  # torch has threads of its own

    def __init__(self, bundle: Path, manifest: Manifest, device: str | None = None) -> None:
        self.manifest = manifest
        self.device = torch.device(device or ("cuda" if has_gpu() else "cpu"))
        self.name = f"torch {self.device.type}"
        self.ear: Hashable = ("torch", repr(manifest.log_mel))
        self.classifier = channels_last(load_classifier(bundle, manifest)).to(self.device)
        self.log_mel = LogMel(manifest.log_mel).to(self.device)
        self.batch = _batch_of(manifest)
        self.num_samples = manifest.num_samples if _has_one_size(self.classifier) else None

    @torch.inference_mode()
    def hear(self, waveforms: np.ndarray) -> Tensor:
        """Turn waveforms, float32 [W, T], into log-mels [W, 1, M, F] on the device."""
        return self.log_mel(torch.from_numpy(waveforms).to(self.device))

    @torch.inference_mode()
    def judge(self, pictures: Tensor) -> Heard:
        """Return the logits of log-mels [W, 1, M, F]."""
        logits = self.classifier(pictures.to(memory_format=torch.channels_last))
        frames = None if logits.frames is None else _on_host(logits.frames)
        return Heard(_on_host(logits.clip), frames)


def _batch_of(manifest: Manifest) -> int:
    """Return how many windows are computed at a time: 32, fewer of very long ones."""
    log_mel = manifest.log_mel
    num_values = log_mel.num_frames(manifest.num_samples) * (log_mel.n_fft // 2 + 1)
    return min(max(_MOST_VALUES // num_values, 1), 32)


def _has_one_size(classifier: Classifier) -> bool:
    """Tell whether a backbone was made for pictures of one size."""
    return bool(classifier.backbone.pretrained_cfg.get("fixed_input_size"))


def _on_host(logits: Tensor) -> np.ndarray:
    return logits.float().cpu().numpy()
