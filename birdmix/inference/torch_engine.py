"""The torch engine: the classifier as it was trained."""

from pathlib import Path

import numpy as np
import torch

from birdmix.bundle.manifest import Manifest
from birdmix.bundle.weights import load_classifier
from birdmix.frontend.log_mel import LogMel
from birdmix.model.classifier import channels_last


class TorchEngine:
    """Log-mel and classifier on a GPU if there is one, on the CPU otherwise.

    Args:
        bundle: The bundle's folder.
        manifest: Its manifest.
    """

    def __init__(self, bundle: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.classifier = channels_last(load_classifier(bundle, manifest)).to(self.device)
        self.log_mel = LogMel(manifest.log_mel).to(self.device)

    @torch.inference_mode()
    def __call__(self, waveforms: np.ndarray) -> np.ndarray:
        """Return the logits, float32 [W, C], of waveforms, float32 [W, T]."""
        mel = self.log_mel(torch.from_numpy(waveforms).to(self.device))
        logits = self.classifier(mel.to(memory_format=torch.channels_last)).clip
        return logits.float().cpu().numpy()
