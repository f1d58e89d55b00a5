"""Simulated score tables of several arms, for proofs of the statistics of a comparison.

Nothing is trained: an arm's logits are truth, plus effects that all arms share, plus effects of its
own. Arms with the same gain do not differ in expectation.

Shapes: A arms, N rows, C classes, G groups.
"""

from dataclasses import dataclass

import numpy as np

from birdmix.metrics.weighted_metrics import ScoredRows


@dataclass(frozen=True)
class ScoreTable:
    """The rows of a test set, scored by each arm, and the groups of each row."""

    arms: list[ScoredRows]
    groups_of_rows: list[tuple[int, ...]]


def draw_table(
    rng: np.random.Generator,
    *,
    num_arms: int = 2,
    gains: tuple[float, ...] = (),
    num_groups: int = 24,
    num_rows: int = 96,
    groups_per_row: tuple[int, int] = (1, 1),
    num_classes: int = 3,
) -> ScoreTable:
    """Draw a table.

    Args:
        rng: Source of randomness.
        num_arms: Number of arms.
        gains: Mean logit of a positive above that of a negative for each arm; () is 1.5 for all.
        num_groups: Number of groups; each has effects of its own on truth and logits.
        num_rows: Number of rows.
        groups_per_row: Fewest and most distinct groups of a row.
        num_classes: Number of classes.
    """
    gain = np.array(gains or (1.5,) * num_arms)[:, None, None]
    fewest, most = groups_per_row
    groups_of_rows = [
        tuple(rng.permutation(num_groups)[: rng.integers(fewest, most + 1)].tolist())
        for _ in range(num_rows)
    ]
    members = np.zeros((num_rows, num_groups))
    for row, groups in enumerate(groups_of_rows):
        members[row, list(groups)] = len(groups) ** -0.5
    group_of_class = members @ rng.normal(size=(num_groups, num_classes))
    truth = group_of_class + rng.normal(size=(num_rows, num_classes)) > 0.7
    shared = 0.5 * members @ rng.normal(size=(num_groups, num_classes)) - 1
    shared = shared + rng.normal(size=truth.shape)
    own = 0.7 * members @ rng.normal(size=(num_arms, num_groups, num_classes))
    own = own + 0.7 * rng.normal(size=(num_arms, *truth.shape))
    logits = gain * truth + shared + own
    known = np.ones_like(truth)
    return ScoreTable([ScoredRows(truth, known, each) for each in logits], groups_of_rows)
