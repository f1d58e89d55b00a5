"""The torch engine: the classifier with its trained weights, on a GPU if there is one."""

from collections.abc import Hashable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from birdmix.bundle.bundle_weights import load_classifier
from birdmix.bundle.manifest import Manifest
from birdmix.engines.engine_interface import EngineOutput
from birdmix.frontend.log_mel import LogMel
from birdmix.model.classifier import Classifier, to_channels_last_memory

# Most values in the complex spectrograms of a batch: 2 GiB.
_MAX_VALUES = 2**28


def has_gpu() -> bool:
    """Return whether torch has a GPU to run models on."""
    return torch.cuda.is_available()


class TorchEngine:
    """Log-mel and classifier on a GPU if there is one, on the CPU otherwise.

    Args:
        bundle: The bundle's folder.
        manifest: Its manifest.
        device: cpu or cuda; None is a GPU if there is one.
    """

    num_threads = 1  # torch has its own threads

    def __init__(self, bundle: Path, manifest: Manifest, device: str | None = None) -> None:
        self.manifest = manifest
        self.device = torch.device(device or ("cuda" if has_gpu() else "cpu"))
        self.name = f"torch {self.device.type}"
        self.input_key: Hashable = ("torch", repr(manifest.log_mel))
        self.classifier = to_channels_last_memory(load_classifier(bundle, manifest)).to(self.device)
        self.log_mel = LogMel(manifest.log_mel).to(self.device)
        self.batch_size = _batch_size(manifest)
        self.num_samples = manifest.samples_per_window if _has_fixed_size(self.classifier) else None

    @torch.inference_mode()
    def preprocess(self, waveforms: np.ndarray) -> Tensor:
        """Compute log-mels [W, 1, M, F] on the device, of waveforms, float32 [W, T]."""
        return self.log_mel(torch.from_numpy(waveforms).to(self.device))

    @torch.inference_mode()
    def infer(self, inputs: Tensor) -> EngineOutput:
        """Compute the logits of log-mels [W, 1, M, F]."""
        output = self.classifier(inputs.to(memory_format=torch.channels_last))
        frames = None if output.frame_logits is None else _to_numpy(output.frame_logits)
        return EngineOutput(_to_numpy(output.logits), frames)


def _batch_size(manifest: Manifest) -> int:
    """Return how many windows are computed at a time: 32, fewer of very long ones."""
    log_mel = manifest.log_mel
    num_values = log_mel.samples_to_num_frames(manifest.samples_per_window) * (
        log_mel.n_fft // 2 + 1
    )
    return min(max(_MAX_VALUES // num_values, 1), 32)


def _has_fixed_size(classifier: Classifier) -> bool:
    """Return whether a backbone takes inputs of one size only."""
    return bool(classifier.backbone.pretrained_cfg.get("fixed_input_size"))


def _to_numpy(logits: Tensor) -> np.ndarray:
    return logits.float().cpu().numpy()
