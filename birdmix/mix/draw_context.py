"""What is known on the host about the examples of a batch and its mix pools, for drawing plans.

It comes from the table of recordings, so that a draw never waits for a device.

Shapes: B batch, P mix pools together, N = B + P examples, C classes.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from birdmix.mix.mix_plan import Plan

#: Fields of a context with an entry for each example.
_ARRAYS = ("row", "recording", "group", "labels", "primary")


class InjectedGroup(NamedTuple):
    """Which examples a group of injectors has changed already.

    Attributes:
        mixed: Examples that one of them was applied to, bool [B].
        probability: Sum of the probabilities of those injectors.
    """

    mixed: np.ndarray
    probability: float


class DrawContext(NamedTuple):
    """Sizes of a batch and its mix pools, and what is known about their examples.

    All arrays are on the host and hold the batch followed by the pools, in order; None is unknown.

    Attributes:
        batch_size: Number of examples of the batch B.
        pool_sizes: Number of examples of each mix pool by name, in the order in which the pools
            follow the batch.
        row: Row of each example in ``RunData.batch_rows``, or in any other table, int64 [N].
        recording: Recording of each example, by any number, int64 [N].
        group: Group of its recording (``data.group_by``), such as its site, by any number of 0 or
            more, int64 [N]; -1 is unknown.
        labels: Which classes each example has, bool [N, C].
        primary: The class of its largest target, int64 [N]; -1 if it has none.
        injected: What groups of injectors did to this batch so far, by name of the group.
    """

    batch_size: int
    pool_sizes: Mapping[str, int] = {}
    row: np.ndarray | None = None
    recording: np.ndarray | None = None
    group: np.ndarray | None = None
    labels: np.ndarray | None = None
    primary: np.ndarray | None = None
    injected: Mapping[str, InjectedGroup] = {}

    @staticmethod
    def from_targets(
        target: np.ndarray, pools: Mapping[str, np.ndarray] | None = None
    ) -> "DrawContext":
        """Build the context of a batch from its targets.

        A class counts as present where its target is above 0; where a label is unknown, its target
        decides as anywhere else.

        Args:
            target: Targets of the batch, on the host, [B, C].
            pools: Targets of each mix pool, [P, C], by name.
        """
        pools = pools or {}
        targets = np.concatenate([np.asarray(target), *map(np.asarray, pools.values())])
        labels = targets > 0
        return DrawContext(
            len(target),
            {name: len(pool) for name, pool in pools.items()},
            labels=labels,
            primary=np.where(labels.any(axis=1), targets.argmax(axis=1), -1),
        )

    @property
    def num_pool_examples(self) -> int:
        """Number of examples of all mix pools together, P."""
        return sum(self.pool_sizes.values())

    def candidates(self, pool: str | None) -> range:
        """Return the indices of a pool's examples in the batch followed by the pools.

        Args:
            pool: Name of the pool; None is all pools.

        Raises:
            ValueError: If there is no such pool, or it is empty.
        """
        first, size = self.batch_size, self.num_pool_examples
        if pool is not None:
            if pool not in self.pool_sizes:
                raise ValueError(
                    f"there is no pool '{pool}' in this batch, which has "
                    f"{sorted(self.pool_sizes) or 'none'}; pass pool= and a context with its size"
                )
            names = list(self.pool_sizes)
            first += sum(self.pool_sizes[name] for name in names[: names.index(pool)])
            size = self.pool_sizes[pool]
        if not size:
            raise ValueError(
                "there is no pool to draw from; pass pool=Examples(x, target) and, with a context, "
                "DrawContext.from_targets(target, {name: pool_target})"
            )
        return range(first, first + size)

    def append_pools(self, pools: "Mapping[str, DrawContext]") -> "DrawContext":
        """Return the context of a batch with mix pools.

        Args:
            pools: Context of the examples of each pool, by name.
        """
        parts = [self, *pools.values()]
        joined: dict[str, Any] = {}
        for name in _ARRAYS:
            arrays = [getattr(part, name) for part in parts]
            known = all(array is not None for array in arrays)
            joined[name] = np.concatenate(arrays) if known else None
        sizes = {name: pool.batch_size for name, pool in pools.items()}
        return self._replace(pool_sizes={**self.pool_sizes, **sizes}, **joined)

    def keep_first(self, size: int) -> "DrawContext":
        """Return the context of the first ``size`` examples of the batch, with all pools."""
        kept = np.r_[:size, self.batch_size : self.batch_size + self.num_pool_examples]
        arrays: dict[str, Any] = {
            name: None if value is None else value[kept]
            for name, value in ((name, getattr(self, name)) for name in _ARRAYS)
        }
        return self._replace(batch_size=size, **arrays)

    def after(self, plan: Plan) -> "DrawContext":
        """Return the context after a mix: each example also has the labels of its sources."""
        if self.labels is None or plan.is_identity:
            return self
        labels = self.labels.copy()
        for slot in range(1, plan.source.shape[1]):
            used = plan.used_mask[:, slot]
            labels[: self.batch_size][used] |= self.labels[plan.source[used, slot]]
        return self._replace(labels=labels)
