"""Random draws of rows as functions of the seed and a position: streams and substitution.

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


class Substitution:
    """Replacement of training rows by rows of a pool with the same primary class.

    Source: the 2nd places of BirdCLEF 2025 (probability .4) and 2026 (.5 to .6).

    Args:
        primary: Primary class of each training row, -1 for none, [N].
        pool_primary: Primary class of each row of the pool, -1 for none.
        pool_weights: Weight of each row of the pool among those of its class.
        first_row: Number of the pool's first row, added to its rows.
        prob: Probability that a row is replaced, in [0, 1].
        seed: Seed of the run.
    """

    def __init__(
        self,
        primary: np.ndarray,
        pool_primary: np.ndarray,
        pool_weights: np.ndarray,
        *,
        first_row: int,
        prob: float,
        seed: int,
    ) -> None:
        self.prob = prob
        self.seed = seed
        (candidates,) = np.nonzero((pool_primary >= 0) & (pool_weights > 0))
        candidates = candidates[np.argsort(pool_primary[candidates], kind="stable")]
        classes = pool_primary[candidates]
        self._pool_rows = first_row + candidates
        self._cumulative = np.concatenate([[0], np.cumsum(pool_weights[candidates])])
        # Candidates of the class of each training row: from begin to end; none if they are equal.
        self._begin = np.searchsorted(classes, primary, side="left")
        self._end = np.searchsorted(classes, primary, side="right")

    @property
    def fits_any_row(self) -> bool:
        """Whether the pool has a row of the class of any training row."""
        return bool((self._begin < self._end).any())

    def replace_rows(self, rows: np.ndarray, epoch: int) -> np.ndarray:
        """Return the rows of an epoch, some of them replaced.

        Args:
            rows: Training row at each position of the epoch, int64 [D].
            epoch: The epoch.

        Returns:
            Rows, int64 [D].
        """
        chosen = generator(self.seed, "substitution", epoch).random(len(rows)) < self.prob
        at = generator(self.seed, "substitution row", epoch).random(len(rows))
        begin, end = self._begin[rows], self._end[rows]
        chosen &= begin < end
        begin, end, at = begin[chosen], end[chosen], at[chosen]
        low, high = self._cumulative[begin], self._cumulative[end]
        points = low + at * (high - low)
        found = np.searchsorted(self._cumulative, points, side="right") - 1
        replaced = rows.copy()
        replaced[chosen] = self._pool_rows[found.clip(begin, end - 1)]
        return replaced
