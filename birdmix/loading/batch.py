"""The batch of training: its examples, their rows in the table, and a mix pool.

Shapes: B batch.
"""

from typing import NamedTuple

from torch import Tensor

from birdmix.mix import Examples


class Batch(NamedTuple):
    """A batch of one training step; a tuple, since device transfer does not rebuild dataclasses.

    Attributes:
        examples: Waveforms, later log-mels, with targets, sample weights and known masks.
        row: Row of each example in the recordings table, int64 [B].
        pool: Mix pool: further examples to mix in, such as background noise or soundscapes.
    """

    examples: Examples
    row: Tensor
    pool: "Batch | None" = None

    def replace_x(self, x: Tensor) -> "Batch":
        """Return the batch with other inputs [B, ...]."""
        return self._replace(examples=self.examples._replace(x=x))
