"""Quantisation of an exported network to 8-bit integers, after training.

Shapes: W windows, M mel bins, F frames.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

# Pictures that go through the network at a time while ranges are found.
_AT_A_TIME = 4


def quantise(file: Path, pictures: np.ndarray) -> None:
    """Replace an ONNX network by one of 8-bit weights and activations.

    Args:
        file: The network.
        pictures: Log-mels [W, 1, M, F] that show what ranges its activations have.
    """
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / file.name
        quant_pre_process(file, prepared)
        quantize_static(
            prepared,
            file,
            _Pictures(pictures),
            # Of efficientnet_b0, what lies between loses ranks: .90 agree with it, .98 without.
            op_types_to_quantize=["Conv"],
            per_channel=True,
            # Weights of 7 bits: two products of 8 overflow where a processor adds them in 16.
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


class _Pictures(CalibrationDataReader):
    """Hands out pictures, a few at a time."""

    def __init__(self, pictures: np.ndarray) -> None:
        self.batches: Iterator[np.ndarray] = iter(
            np.array_split(pictures.astype(np.float32), -(-len(pictures) // _AT_A_TIME))
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next few, None after the last."""
        batch = next(self.batches, None)
        return None if batch is None else {"mel": batch}
