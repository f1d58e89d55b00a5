"""Random draws of rows as functions of the seed and a position.

Shapes: N rows, K positions, D draws.
"""

from collections.abc import Callable

import numpy as np

from birdmix.random_keys import generator


def draw_systematically(
    mean_draws: np.ndarray, make_rng: Callable[[str], np.random.Generator]
) -> np.ndarray:
    """Draw rows in random order, each with less than one draw of difference to its mean.

    Args:
        mean_draws: Mean number of draws of each row, [N]; they are scaled so that the sum is an
            integer D.
        make_rng: Makes the generator for one of the purposes sampler, sampler offset and order.

    Returns:
        Rows, int64 [D].
    """
    num_draws = round(mean_draws.sum())
    rows = np.arange(len(mean_draws))
    if np.ptp(mean_draws) > 0:
        rows = make_rng("sampler").permutation(len(rows))
    cumulative = np.cumsum(mean_draws[rows])
    offset = make_rng("sampler offset").random()
    points = (np.arange(num_draws) + offset) * (cumulative[-1] / num_draws)
    drawn = rows[np.searchsorted(cumulative, points, side="right").clip(max=len(rows) - 1)]
    return drawn[make_rng("order").permutation(num_draws)]


class RowStream:
    """An endless sequence of rows, drawn in proportion to their weights.

    It consists of cycles of as many draws as there are rows with a weight. Within a cycle the draws
    of a row differ from their mean by less than one; rows of equal weights are drawn once each.

    Args:
        weights: Weight of each row, 0 or more, with a positive sum, [N].
        seed: Seed of the run.
        name: Name of the stream, part of its random keys.
        first_row: Number of the first row, added to all rows.
    """

    def __init__(self, weights: np.ndarray, seed: int, name: str, first_row: int = 0) -> None:
        (rows,) = np.nonzero(weights)
        self._rows = first_row + rows
        self._mean_draws = weights[rows] / weights[rows].mean()
        self._seed = seed
        self._name = name
        self._cycle, self._drawn = -1, np.zeros(0, np.int64)

    def rows_at(self, positions: range) -> np.ndarray:
        """Return the rows at positions of the stream, counted from the start of the run.

        Args:
            positions: K positions of step 1.

        Returns:
            Rows, int64 [K].
        """
        length = len(self._rows)
        pieces = [np.zeros(0, np.int64)]
        at = positions.start
        while at < positions.stop:
            cycle, begin = divmod(at, length)
            end = min(length, begin + positions.stop - at)
            pieces.append(self._draw_cycle(cycle)[begin:end])
            at += end - begin
        return np.concatenate(pieces)

    def _draw_cycle(self, cycle: int) -> np.ndarray:
        """Return the rows of a cycle; those of the last one are kept for the next call."""
        if cycle != self._cycle:
            drawn = draw_systematically(
                self._mean_draws,
                lambda purpose: generator(self._seed, f"{purpose} {self._name}", cycle),
            )
            self._cycle, self._drawn = cycle, self._rows[drawn]
        return self._drawn
