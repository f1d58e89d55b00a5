"""The batch of training: its examples, what the host knows about them, and mix pools.

Shapes: B batch, P mix pools together.
"""

from typing import NamedTuple

from torch import Tensor

from birdmix.mix import DrawContext, Examples


class Batch(NamedTuple):
    """A batch of one training step; a tuple, since device transfer does not rebuild dataclasses.

    Attributes:
        examples: Waveforms, later log-mels, with targets, sample weights and known masks, B of
            them.
        context: Rows (of ``RunData.batch_rows``), recordings, groups and labels of the batch and
            its mix pools, on the host.
        pool: Further examples to mix in, such as background noise or soundscapes: the examples of
            all mix pools, in the order of ``context.pool_sizes``, P of them.
    """

    examples: Examples
    context: DrawContext
    pool: Examples | None = None

    def replace_x(self, x: Tensor) -> "Batch":
        """Return the batch with other inputs [B, ...]."""
        return self._replace(examples=self.examples._replace(x=x))
