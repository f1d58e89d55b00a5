"""The torch engine: the classifier with its trained weights, on a GPU if there is one.

On a GPU several threads predict a batch each, in a CUDA stream of their own: while one waits for
its logits, the others copy waveforms to the GPU and start kernels, so that it always has work.
"""

import os
import threading
import warnings
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from birdmix.bundle.bundle_weights import load_classifier
from birdmix.bundle.golden_storage import read_golden
from birdmix.bundle.manifest import Manifest
from birdmix.engines.agreement import MIN_WINDOWS, measure_agreement
from birdmix.engines.engine_interface import EngineOutput
from birdmix.frontend.log_mel import LogMel
from birdmix.messages import first_line
from birdmix.model.classifier import Classifier, to_channels_last_memory

# Most values in the complex spectrograms of a batch: 2 GiB.
_MAX_VALUES = 2**28

# Threads that use a GPU at a time: one waits for its logits, one copies, two start kernels, which
# takes a processor longer than the GPU needs for the windows of a short recording.
_GPU_THREADS = 4

# Most windows of a batch, on a CPU and on a GPU. On a GPU one batch is computed per thread, and
# each recording in work collects one on the host, 41 MB for 64 windows of 5 s.
_MAX_BATCH, _MAX_GPU_BATCH = 32, 64

# The part of a GPU's memory that the batches of all threads may fill.
_MEMORY_FRACTION = 0.5

# The CUDA stream of each thread: a log-mel that one engine computed is read by others.
_thread_local = threading.local()


def has_gpu() -> bool:
    """Return whether torch has a GPU to run models on."""
    return torch.cuda.is_available()


class TorchEngine:
    """Log-mel and classifier on a GPU if there is one, on the CPU otherwise.

    Args:
        bundle: The bundle's folder.
        manifest: Its manifest.
        device: cpu or cuda; None is a GPU if there is one.
        precision: Precision of the backbone, f32 or bf16. None is bf16 on a GPU that has it, if the
            golden windows are ranked as in float32; with a warning if they are not.
    """

    def __init__(
        self,
        bundle: Path,
        manifest: Manifest,
        device: str | None = None,
        precision: str | None = None,
    ) -> None:
        self.manifest = manifest
        self.device = torch.device(device or _device_of_process())
        precision = precision or _choose_precision(bundle, manifest, self.device)
        self.name = f"torch {self.device.type}{' bf16' if precision == 'bf16' else ''}"
        self.input_key: Hashable = ("torch", repr(manifest.log_mel))
        classifier = to_channels_last_memory(load_classifier(bundle, manifest)).to(self.device)
        self.num_samples = manifest.samples_per_window if _has_fixed_size(classifier) else None
        if precision == "bf16":
            classifier.backbone = Bfloat16Backbone(classifier.backbone)
        self.classifier = classifier
        self.log_mel = LogMel(manifest.log_mel).to(self.device)
        self.num_threads = 1  # torch has its own threads on a CPU
        self.batch_size = _largest_batch(manifest, _MAX_BATCH)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # before other streams read the weights
            self.num_threads = _GPU_THREADS
            self.batch_size = _largest_batch(manifest, self._largest_batch_in_memory())

    def preprocess(self, waveforms: np.ndarray) -> Tensor:
        """Compute log-mels [W, 1, M, F] on the device, of waveforms, float32 [W, T]."""
        with self._on_device():
            host = torch.from_numpy(waveforms)
            if self.device.type == "cuda":
                host = host.pin_memory()  # else the copy would wait for the stream
            return self.log_mel(host.to(self.device, non_blocking=True))

    def infer(self, inputs: Tensor) -> EngineOutput:
        """Compute the logits of log-mels [W, 1, M, F]; the thread waits for its own batch only."""
        with self._on_device():
            output = self.classifier(inputs.to(memory_format=torch.channels_last))
            frames = None if output.frame_logits is None else _to_numpy(output.frame_logits)
            return EngineOutput(_to_numpy(output.logits), frames)

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        """Run torch without gradients, in this thread's stream.

        Raises:
            ValueError: If the GPU has too little memory.
        """
        try:
            with torch.inference_mode(), _stream_of_thread(self.device):
                yield
        except torch.OutOfMemoryError as error:
            raise ValueError(
                f"engine=torch: batches of {self.batch_size} windows do not fit into the GPU "
                f"({first_line(error)}); end other programs that use it, or predict on the CPU "
                "with CUDA_VISIBLE_DEVICES= before the command"
            ) from error

    def _largest_batch_in_memory(self) -> int:
        """Return how many windows fit into the GPU in each thread, by the memory that two take.

        It depends on the size of the GPU rather than on its free memory: batches of other sizes
        round differently.
        """
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        self.infer(self.preprocess(np.zeros((2, self.manifest.samples_per_window), np.float32)))
        per_window = (torch.cuda.max_memory_allocated(self.device) - before) // 2
        total = torch.cuda.get_device_properties(self.device).total_memory
        return batch_size_by_memory(per_window, total)


class Bfloat16Backbone(nn.Module):
    """A backbone that computes in bfloat16, as under autocast, and returns float32.

    The head stays in float32: a logit of bfloat16 has two to three digits.

    Args:
        backbone: The backbone; the weights of its plain convolutions and linear layers are
            converted in place, once instead of in every call.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        for module in backbone.modules():
            if type(module) in (nn.Conv1d, nn.Conv2d, nn.Linear):  # subclasses compute with weights
                module.to(torch.bfloat16)

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the feature map, float32, of inputs [B, c, M, F]."""
        # The cache of autocast is common to all threads: one would read what the stream of another
        # has not yet written.
        with torch.autocast(inputs.device.type, torch.bfloat16, cache_enabled=False):
            features: Tensor = self.backbone(inputs)
        return features.float()


def batch_size_by_memory(bytes_per_window: int, total_bytes: int) -> int:
    """Return how many windows a thread computes at a time on a GPU: a power of two, at most 64.

    Args:
        bytes_per_window: Memory that the largest tensors of a window take at a time.
        total_bytes: Memory of the GPU.
    """
    fitting = int(_MEMORY_FRACTION * total_bytes / _GPU_THREADS) // max(bytes_per_window, 1)
    return min(2 ** max(fitting.bit_length() - 1, 0), _MAX_GPU_BATCH)


def describe_bf16_disagreement(bundle: Path, manifest: Manifest, device: torch.device) -> str:
    """Return why a bundle must not be predicted in bfloat16; empty if it may.

    The golden windows must be ranked as in float32, as those of an export in bf16.
    """
    try:
        golden = read_golden(bundle)
    except ValueError as error:
        return str(error)
    if len(golden.logits) < MIN_WINDOWS:
        return f"{bundle}: fewer than {MIN_WINDOWS} golden windows, too few to rank"
    engine = TorchEngine(bundle, manifest, str(device), "bf16")
    output = engine.infer(torch.from_numpy(golden.inputs).float().to(device))
    reference = EngineOutput(golden.logits, golden.frame_logits)
    violation = measure_agreement(output, reference).describe_exceeded_limit("bf16")
    return violation and f"{bundle}: over its golden windows {violation}"


def _choose_precision(bundle: Path, manifest: Manifest, device: torch.device) -> str:
    if device.type != "cuda" or not torch.cuda.is_bf16_supported(including_emulation=False):
        return "f32"
    reason = describe_bf16_disagreement(bundle, manifest, device)
    if reason:
        warnings.warn(f"predicting in float32, slower than in bfloat16: {reason}", stacklevel=2)
        return "f32"
    return "bf16"


def _device_of_process() -> str:
    """Return a GPU, or cpu if there is none; processes on one machine take its GPUs in turn."""
    if not has_gpu():
        return "cpu"
    number = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or "0"
    return f"cuda:{int(number) % torch.cuda.device_count()}"


def _stream_of_thread(device: torch.device) -> AbstractContextManager:
    """Return a context in which this thread uses its own CUDA stream; on a CPU it does nothing."""
    if device.type != "cuda":
        return nullcontext()
    if not hasattr(_thread_local, "stream"):
        _thread_local.stream = torch.cuda.Stream(device)
    return torch.cuda.stream(_thread_local.stream)


def _largest_batch(manifest: Manifest, limit: int) -> int:
    """Return how many windows are computed at a time: ``limit``, fewer of very long ones."""
    log_mel = manifest.log_mel
    num_values = log_mel.samples_to_num_frames(manifest.samples_per_window) * (
        log_mel.n_fft // 2 + 1
    )
    return min(max(_MAX_VALUES // num_values, 1), limit)


def _has_fixed_size(classifier: Classifier) -> bool:
    """Return whether a backbone takes inputs of one size only."""
    return bool(classifier.backbone.pretrained_cfg.get("fixed_input_size"))


def _to_numpy(logits: Tensor) -> np.ndarray:
    return logits.float().cpu().numpy()
