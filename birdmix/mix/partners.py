"""Choice of mixing partners: which examples fit together, and random draws among those that do.

Shapes: B batch, M candidates, K partners, N examples of batch and pools, C classes.
"""

from collections.abc import Callable

import numpy as np

from birdmix.mix.draw_context import DrawContext

#: Whether candidates fit examples, bool [B, M], from the context, the labels of each example and
#: its partners so far [B, C], and the indices of the candidates [M].
Condition = Callable[[DrawContext, np.ndarray, np.ndarray], np.ndarray]


def _have_no_common_class(
    context: DrawContext, labels: np.ndarray, candidates: np.ndarray
) -> np.ndarray:
    assert context.labels is not None
    return ~_share_a_class(labels, context.labels[candidates])


def _have_a_common_class(
    context: DrawContext, labels: np.ndarray, candidates: np.ndarray
) -> np.ndarray:
    assert context.labels is not None
    return _share_a_class(context.labels[: context.batch_size], context.labels[candidates])


def _are_of_one_group(
    context: DrawContext, labels: np.ndarray, candidates: np.ndarray
) -> np.ndarray:
    assert context.group is not None
    own = context.group[: context.batch_size, None]
    return (own == context.group[candidates]) & (own >= 0)


def _share_a_class(labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return which pairs have a class in common, bool [B, M], from labels [B, C] and [M, C]."""
    return labels.astype(np.float32) @ others.astype(np.float32).T > 0  # fast, unlike integers


#: Conditions by name, and the field of the context that each one reads; None is any example.
PARTNERS: dict[str, tuple[Condition, str] | None] = {
    "any": None,
    "no_common_class": (_have_no_common_class, "labels"),
    "common_class": (_have_a_common_class, "labels"),
    "same_group": (_are_of_one_group, "group"),
}


def draw_fitting_partners(
    context: DrawContext,
    num_partners: int,
    partners: str,
    candidates: range,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw distinct partners for every example among the candidates that fit it.

    All candidates that fit an example are equally likely. An example is never its own partner, and
    none is its partner twice. Segments of its own recording do not fit, nor two partners of one
    recording, except as ``same_group``.
    With ``no_common_class`` the partners have no class in common with each other either. Where too
    few candidates fit, others are drawn. Unlike with ``draw_partners``, some
    examples are partners more often than others: choosing partners changes how often each class is
    seen (Teney et al. 2024, arXiv:2305.16817).

    Args:
        context: Labels, groups and recordings of batch and pools.
        num_partners: Partners per example K.
        partners: Which candidates fit, a name in ``PARTNERS``.
        candidates: Indices in the batch followed by the pools: the batch, or a pool.
        rng: Source of randomness.

    Returns:
        Indices of the partners, int64 [B, K]; and which of them do not fit, bool [B, K].

    Raises:
        ValueError: If there are fewer candidates than partners, or the context lacks what the
            condition reads.
    """
    batch_size, indices = context.batch_size, np.arange(candidates.start, candidates.stop)
    key = rng.random((batch_size, len(indices)))
    key[np.arange(batch_size)[:, None] == indices] = np.inf
    if num_partners > np.isfinite(key).sum(axis=1).min(initial=num_partners):
        raise ValueError(
            f"{num_partners} partners are drawn for each example, and there are only "
            f"{len(indices)} candidates; use a larger batch or pool"
        )
    recording = None if partners == "same_group" else context.recording
    possible = np.ones(key.shape, bool)
    if recording is not None:
        possible = recording[:batch_size, None] != recording[indices]
    labels = None if context.labels is None else context.labels[:batch_size]
    drawn = np.empty((batch_size, num_partners), np.int64)
    unfit = np.empty(drawn.shape, bool)
    examples = np.arange(batch_size)
    for number in range(num_partners):
        fits = possible & _check_fit(context, partners, labels, indices)
        # Keys lie in [0, 1): those that do not fit come after all that do.
        chosen = np.where(fits, key, key + 1).argmin(axis=1)
        drawn[:, number], unfit[:, number] = indices[chosen], ~fits[examples, chosen]
        key[examples, chosen] = np.inf
        if recording is not None:  # nor two partners of one recording
            possible &= recording[drawn[:, number], None] != recording[indices]
        if context.labels is not None and labels is not None:
            labels = labels | context.labels[drawn[:, number]]
    return drawn, unfit


def _check_fit(
    context: DrawContext, partners: str, labels: np.ndarray | None, candidates: np.ndarray
) -> np.ndarray:
    """Return which candidates fit, bool, broadcastable to [B, M]."""
    entry = PARTNERS[partners]
    if entry is None:
        return np.ones(1, bool)
    condition, field = entry
    if getattr(context, field) is None:
        raise ValueError(
            f"partners={partners} needs the {field} of the examples; pass "
            "context=DrawContext.from_targets(target)"
            + ("._replace(group=numbers)" if field == "group" else "")
        )
    return condition(context, labels if labels is not None else np.zeros(0), candidates)
