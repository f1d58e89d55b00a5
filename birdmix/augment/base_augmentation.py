"""The base of all augmentations: draw on the host, change the drawn examples on their device.

Shapes: B batch, K examples that are changed, T last axis, C classes, F' label frames.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from birdmix.augment.example_threads import call_in_threads
from birdmix.mix import Examples
from birdmix.mix.tensor_access import array_to_device

# Examples that are changed at once on a GPU, to bound its memory.
_CHUNK_SIZE = 32


class Draw(NamedTuple):
    """The random choices of an augmentation of a batch, on the host.

    Attributes:
        rows: The examples that are changed, in ascending order, int64 [K].
        parameters: How each of them is changed, by name, [K, ...] each.
    """

    rows: np.ndarray
    parameters: dict[str, np.ndarray]

    def split(self, size: int) -> Iterator["Draw"]:
        """Yield the draws of up to ``size`` examples each."""
        for first in range(0, len(self.rows), size):
            part = slice(first, first + size)
            yield Draw(
                self.rows[part], {name: each[part] for name, each in self.parameters.items()}
            )


class Augmentation:
    """A random change of the examples of a batch, each with its own parameters.

    A subclass draws parameters and changes examples. Called with a tensor, an augmentation returns
    the changed tensor:

        PitchShift(prob=0.5, semitones=[-2, 2], sample_rate=32_000)(x, rng=rng)

    Random numbers are drawn for all examples, whatever the probability, so that a higher one
    changes further examples and leaves the others as they are. The device is never waited for.

    Attributes:
        layout: Axes of the examples; as many are required.
        prob: Probability that an example is changed, in [0, 1].
    """

    layout: ClassVar[str] = "waveforms [B, T]"
    prob: float

    def __call__(self, x: Tensor, *, rng: np.random.Generator) -> Tensor:
        """Augment examples; they are not modified.

        Args:
            x: Examples [B, ...], floating: waveforms [B, T] or log-mels [B, 1, M, F].
            rng: Source of randomness.

        Returns:
            Examples of the same shape and type; ``x`` itself if none is changed.

        Raises:
            ValueError: If x has another number of axes, or is not floating.
        """
        self._check(x)
        return self.apply(x, self.draw(tuple(x.shape), rng))

    def augment_examples(self, examples: Examples, rng: np.random.Generator) -> Examples:
        """Augment examples, and move their strong targets where sound moves.

        Args:
            examples: Examples with waveforms or log-mels.
            rng: Source of randomness.

        Raises:
            ValueError: If x has another number of axes, or is not floating.
        """
        self._check(examples.x)
        x, frames, frames_known = examples.x, examples.frames, examples.frames_known
        draw = self.draw(tuple(x.shape), rng)
        if frames is not None:
            frames = self.move_frames(frames, draw)
        if frames_known is not None:
            frames_known = self.move_frames(frames_known, draw)
        return examples._replace(x=self.apply(x, draw), frames=frames, frames_known=frames_known)

    def _check(self, x: Tensor) -> None:
        """Raise ValueError if x is not what this class augments."""
        if x.dim() != self.layout.count(",") + 1 or not x.is_floating_point():
            raise ValueError(
                f"{type(self).__name__} augments floating {self.layout}, got {x.dtype} of shape "
                f"{list(x.shape)}"
            )

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Draw:
        """Draw which examples are changed, and how.

        Args:
            shape: Shape of the examples [B, ...].
            rng: Source of randomness.
        """
        rows = np.flatnonzero(rng.random(shape[0]) < self.prob)
        parameters = self._draw_parameters(shape, rng)
        return Draw(rows, {name: values[rows] for name, values in parameters.items()})

    @torch.no_grad()
    def apply(self, x: Tensor, draw: Draw) -> Tensor:
        """Change the examples of a draw, in float32 even under autocast.

        On a CPU examples are computed side by side, each in one of torch's threads: results do not
        depend on the number of threads. On other devices they are computed together.

        Args:
            x: Examples [B, ...]; not modified.
            draw: What was drawn for them.
        """
        if not len(draw.rows):
            return x
        return self._apply_to_each(x, draw) if x.device.type == "cpu" else self._apply(x, draw)

    def _apply(self, x: Tensor, draw: Draw) -> Tensor:
        """Change the examples of a draw together."""
        out = x.clone()
        with torch.autocast(x.device.type, enabled=False):
            for part in draw.split(_CHUNK_SIZE):
                rows = array_to_device(part.rows, x.device)
                changed = self._change(x[rows].float(), part.parameters, x)
                out.index_copy_(0, rows, changed.to(x.dtype))
        return out

    def _apply_to_each(self, x: Tensor, draw: Draw) -> Tensor:
        """Change the examples of a draw one by one, in threads."""
        out = torch.empty_like(x)
        parts = dict(zip(draw.rows.tolist(), draw.split(1), strict=True))
        inference_mode = torch.is_inference_mode_enabled()

        def write(row: int) -> None:
            example = x[row : row + 1]
            # A thread begins with gradients and without the modes of the one that started it.
            with (
                torch.inference_mode(inference_mode),
                torch.no_grad(),
                torch.autocast(x.device.type, enabled=False),
            ):
                if row in parts:
                    example = self._change(example.float(), parts[row].parameters, x)
                out[row : row + 1] = example

        call_in_threads(write, range(len(x)))
        return out

    def move_frames(self, values: Tensor, draw: Draw) -> Tensor:
        """Move values per label frame as the sound of the examples is moved; here it is not.

        Args:
            values: Strong targets, or which of them are known, [B, C, F'].
            draw: What was drawn.
        """
        return values

    def _draw_parameters(
        self, shape: tuple[int, ...], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Draw the parameters of all examples by name, [B, ...] each."""
        raise NotImplementedError

    def _change(self, selected: Tensor, parameters: dict[str, np.ndarray], x: Tensor) -> Tensor:
        """Return changed examples.

        Args:
            selected: The examples to change, float32 [K, ...]; not modified.
            parameters: Their parameters, on the host, [K, ...] each.
            x: The whole batch [B, ...]; not modified.

        Returns:
            The changed examples, float32 [K, ...].
        """
        raise NotImplementedError


def draw_uniform(
    bounds: Sequence[float], size: int | tuple[int, ...], rng: np.random.Generator
) -> np.ndarray:
    """Draw uniform numbers between two bounds."""
    low, high = bounds
    return rng.uniform(low, high, size)


def column(parameter: np.ndarray, x: Tensor) -> Tensor:
    """Return a parameter [K] on the device of x, float32 and shaped [K, 1, ...] like x."""
    values = array_to_device(parameter.astype(np.float32), x.device)
    return values.view(-1, *[1] * (x.dim() - 1))


def take_excerpts(x: Tensor, start: np.ndarray, length: int) -> Tensor:
    """Cut excerpts out of waveforms, whole ones at a time.

    Args:
        x: Waveforms [K, T].
        start: First samples of the excerpts, int64 [K, ...], each in [0, T - length].
        length: Samples of an excerpt L.

    Returns:
        Excerpts [K, ..., L].
    """
    first = x.shape[1] * np.arange(len(x)).reshape(-1, *[1] * (start.ndim - 1))
    index = array_to_device((first + start).ravel(), x.device)
    excerpts = x.flatten().unfold(0, length, 1).index_select(0, index)  # faster than an index
    return excerpts.view(*start.shape, length)
