"""Prediction from Python: bundles that are loaded, and predict recordings and waveforms.

    import birdmix

    predictor = birdmix.load("runs/first/bundle")
    for record in predictor.predict("recordings"):
        print(record.path, record.detections(threshold=0.5))

Shapes: T samples, C classes.
"""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from birdmix.audio.decode import MIN_SECONDS, WaveformBlocks
from birdmix.engines.registry import open_engine
from birdmix.inference.input_files import InputFiles, find_input_files
from birdmix.inference.predict_files import OnProgress, Progress, predict_files
from birdmix.inference.recording_pipeline import NanLogitsError
from birdmix.inference.recording_predictions import RecordingPredictions
from birdmix.inference.recording_predictor import RecordingPredictor
from birdmix.inference.settings import PredictSettings
from birdmix.labels import Labels

# In Hz, and times full scale: others are in kHz, or are integers that were converted to floats.
_LOWEST_RATE, _LARGEST_SAMPLE = 1000, 100

#: A file or a folder.
StrPath = str | Path


def load(
    bundles: StrPath | Sequence[StrPath],
    engine: str = "auto",
    settings: PredictSettings | None = None,
) -> "Predictor":
    """Load one or several bundles, to predict with them.

    Args:
        bundles: Bundle of a run, ``RUN_DIR/bundle``; several are an ensemble.
        engine: torch, onnx or openvino; auto is the fastest one that is installed and that the
            bundle has an export for.
        settings: Windows, hop, ensemble and more; None is as in training, without overlap.

    Raises:
        ValueError: If there is no such bundle, it is damaged, or settings do not fit.
    """
    paths = [bundles] if isinstance(bundles, str | Path) else bundles
    settings = settings or PredictSettings()
    if settings.combine == "rank":
        raise ValueError(
            "combine='rank' compares all recordings of a folder: use `birdmix predict`, or "
            "combine='logit' or 'power'"
        )
    engines = [open_engine(Path(path), engine) for path in paths]
    return Predictor(RecordingPredictor(engines, settings))


class Predictor:
    """Loaded bundles that predict recordings; made by ``load``.

    Its threads end with ``close``, with the block of a ``with`` statement, or with the process.

    Args:
        recording_predictor: The models.

    Attributes:
        failed: Path and reason of each recording that the latest ``predict`` could not predict.
    """

    def __init__(self, recording_predictor: RecordingPredictor) -> None:
        self._predictor = recording_predictor
        self.failed: list[tuple[str, str]] = []

    @property
    def labels(self) -> Labels:
        """The species, of all bundles together."""
        return self._predictor.labels

    def predict(
        self,
        recordings: StrPath | Sequence[StrPath],
        *,
        on_progress: OnProgress | None = None,
    ) -> Iterator[RecordingPredictions]:
        """Predict recordings, several at a time.

        Args:
            recordings: A file, a folder that is searched with all folders below, or several.
            on_progress: Called after each recording, and a few times a second.

        Returns:
            An iterator over the predictions of the recordings, in the order in which they are
            ready. Their paths are relative to the folder; of several, to the lowest that contains
            all. Recordings that cannot be predicted are in ``failed`` at its end, with a warning.

        Raises:
            ValueError: If a file or folder does not exist, or there is no recording.
        """
        given = [recordings] if isinstance(recordings, str | Path) else list(recordings)
        if not given or "" in given:
            raise ValueError(
                f"recordings={recordings!r}: name files or folders; '.' is this folder"
            )
        return self._predict(find_input_files([Path(path) for path in given]), on_progress)

    def _predict(
        self, inputs: InputFiles, on_progress: OnProgress | None
    ) -> Iterator[RecordingPredictions]:
        progress = Progress()
        self.failed = progress.failed = [(path, reason) for path, reason in inputs.unsupported]
        yield from predict_files(
            self._predictor,
            inputs.folder,
            inputs.recordings,
            on_progress=on_progress,
            progress=progress,
        )
        if self.failed:
            path, reason = self.failed[0]
            warnings.warn(
                f"{len(self.failed)} recordings could not be predicted, first {path}: {reason}; "
                "the predictor's attribute failed has all",
                stacklevel=2,
            )

    def predict_waveform(self, waveform: ArrayLike, sample_rate: int) -> RecordingPredictions:
        """Predict a waveform in memory.

        Args:
            waveform: Floating samples, full scale at 1, [T] or [channels, T]; the channel of the
                settings is used, or the mean of all.
            sample_rate: In Hz.

        Returns:
            Predictions, with an empty path.

        Raises:
            ValueError: If it is not such a waveform, it is empty or shorter than a sample of the
                models, or holds nan or inf.
        """
        samples = _mono_samples(waveform, self._predictor.settings.channel)
        if not sample_rate >= _LOWEST_RATE:
            raise ValueError(f"sample_rate={sample_rate}: it is in Hz, and at least {_LOWEST_RATE}")
        if len(samples) < MIN_SECONDS * sample_rate:
            raise ValueError(f"waveform holds only {len(samples)} samples at {sample_rate} Hz")
        try:
            return self._predictor.predict_blocks(
                lambda rate: WaveformBlocks(samples, sample_rate, rate)
            )
        except NanLogitsError as error:
            raise ValueError(f"waveform: {self._predictor.describe(error)}") from error

    def close(self) -> None:
        """End the threads."""
        self._predictor.close()

    def __repr__(self) -> str:
        layout = self._predictor.layout
        return f"<birdmix.Predictor: {len(layout.labels)} species, windows of {layout.window:g} s>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _mono_samples(waveform: ArrayLike, channel: int | None) -> np.ndarray:
    """Return the samples of a channel, or the mean of all, float32 [T]."""
    samples = np.asarray(waveform)
    if samples.ndim not in (1, 2) or not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(
            f"waveform has shape {list(samples.shape)} and type {samples.dtype}; pass floating "
            "samples, [T] or [channels, T]; divide integers by full scale, as in x / 32768"
        )
    if not samples.size or not np.isfinite(samples).all():
        raise ValueError(f"waveform holds {'nan or inf' if samples.size else 'no samples'}")
    channels = np.atleast_2d(samples)
    if len(channels) > channels.shape[1]:
        raise ValueError(
            f"waveform has shape {list(samples.shape)}: pass [channels, T]; transpose [T, channels]"
        )
    if np.abs(channels).max() > _LARGEST_SAMPLE:
        raise ValueError(
            f"waveform has samples of {np.abs(channels).max():g}; full scale is 1: divide 16-bit "
            "samples by 32768"
        )
    if channel is None:
        return channels.mean(axis=0, dtype=np.float32)
    if channel > len(channels):
        raise ValueError(f"channel={channel}: the waveform has {len(channels)}")
    return channels[channel - 1].astype(np.float32)
