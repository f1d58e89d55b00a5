"""Pools: weights of their rows, streams, shares of batches, substitution, loading of batches."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from birdmix.config.schema import Config
from birdmix.experiments.builders import (
    build_batch_sampler,
    build_training_loader,
    build_training_run,
    check_buildable,
    mixed_pool_sizes,
)
from birdmix.labels import Labels
from birdmix.loading.batch import Batch
from birdmix.loading.row_streams import RowStream, Substitution
from birdmix.loading.row_weights import compute_pool_weights, find_primary_classes
from birdmix.loading.run_data import RunData, open_data
from birdmix.loading.sampler import PoolShare, SegmentAndPoolBatchSampler, SegmentBatchSampler
from birdmix.recordings.recordings_table import Recordings
from birdmix.recordings.settings import DataSettings, PoolSettings, SubstitutionSettings
from birdmix.training.distributed_processes import Processes, connect_processes
from birdmix.training.run_position import RunPosition
from tests.conftest import SMALL, make_config
from tests.recordings import table, write_wave

# ---------------------------------------------------------------- weights


def weights(recordings: Recordings, draw: str) -> list[float]:
    settings = DataSettings(pools={"recordings": PoolSettings(draw=draw)})
    return compute_pool_weights(recordings, settings, "recordings").tolist()


def test_the_weight_of_a_class_draw_is_the_sum_of_one_over_the_rows_of_each_class():
    recordings = table([""] * 5, [("a",), ("a",), ("a", "b"), (), ("c",)])
    assert weights(recordings, "class") == pytest.approx([1 / 3, 1 / 3, 1 / 3 + 1, 0, 1])


def test_a_class_far_below_the_largest_of_its_row_has_no_part_in_a_class_draw():
    recordings = Recordings.build(
        Path(), Labels(("a", "b")), path=list("xyz"), codes=[("a", "b"), ("a", "b"), ("b",)],
        values=[(0.6, 0.2), (0.6, 0.3), (0.1,)],
    )  # fmt: skip
    assert weights(recordings, "class") == pytest.approx([1 / 2, 1 / 2 + 1 / 2, 1 / 2])


def test_the_weight_of_a_probability_draw_is_the_sum_of_the_largest_targets_of_a_recording():
    recordings = Recordings.build(
        Path(), Labels(("a", "b")), path=["x", "x", "y", "z"],
        codes=[("a", "b"), ("a",), ("b",), ()], values=[(0.2, 0.4), (0.5,), (0.3,), ()],
        start=[0, 5, 0, 0], end=[5, 10, 5, 5],
    )  # fmt: skip
    # Recording x: 0.5 of a and 0.4 of b, on two rows.
    assert weights(recordings, "probability") == pytest.approx([0.45, 0.45, 0.3, 0])


def test_the_weight_of_a_group_draw_is_one_over_the_root_of_its_rows():
    recordings = table(["s", "s", "t", "s", "s"], [()] * 5)
    assert weights(recordings, "group") == pytest.approx([1 / 2, 1 / 2, 1, 1 / 2, 1 / 2])
    assert weights(recordings, "uniform") == [1] * 5


@pytest.mark.parametrize("draw", ["class", "probability"])
def test_a_draw_by_labels_of_a_pool_without_labels_is_refused(draw: str):
    with pytest.raises(
        ValueError, match=f"data.pools.recordings.draw={draw}: none of the pool's 2"
    ):
        weights(table(["", ""], [(), ()]), draw)


def test_the_primary_class_is_that_of_the_largest_target_the_first_label_of_equal_ones():
    recordings = Recordings.build(
        Path(), Labels(("a", "b", "c")), path=list("wxyz"),
        codes=[("c", "a"), ("c", "b"), (), ("a",)], values=[(0.2, 0.1), (1, 1), (), (0.1,)],
    )  # fmt: skip
    assert find_primary_classes(recordings).tolist() == [2, 1, -1, 0]


# ---------------------------------------------------------------- streams


def test_a_uniform_stream_draws_every_row_once_before_any_twice():
    stream = RowStream(np.ones(7), seed=0, name="x", first_row=10)
    rows = stream.rows_at(range(21)).tolist()
    cycles = [rows[at : at + 7] for at in (0, 7, 14)]
    assert all(sorted(cycle) == list(range(10, 17)) for cycle in cycles)
    assert cycles[0] != cycles[1] != cycles[2]


def test_the_draws_of_a_weighted_row_differ_from_their_mean_by_less_than_one_in_a_cycle():
    row_weights = np.array([0, 1, 2, 7, 0.5])
    stream = RowStream(row_weights, seed=0, name="x")
    counts = np.array(
        [np.bincount(stream.rows_at(range(4 * c, 4 * c + 4)), minlength=5) for c in range(300)]
    )
    mean = 4 * row_weights / row_weights.sum()
    assert (np.abs(counts - mean) < 1).all() and (counts[:, 0] == 0).all()
    assert counts.mean(axis=0) == pytest.approx(mean, abs=0.1)


def test_rows_of_a_stream_depend_on_seed_name_and_position_alone():
    def rows(seed: int, name: str, positions: range) -> list[int]:
        return RowStream(np.arange(1.0, 30), seed, name).rows_at(positions).tolist()

    assert rows(0, "x", range(100))[37:80] == rows(0, "x", range(37, 80))
    assert rows(0, "x", range(29)) != rows(1, "x", range(29))
    assert rows(0, "x", range(29)) != rows(0, "y", range(29))
    assert rows(0, "x", range(5, 5)) == []


@pytest.mark.slow
@pytest.mark.parametrize("draw", ["uniform", "class", "probability", "group"])
def test_rows_are_drawn_in_proportion_to_their_weights(draw: str):
    codes = [("a",)] * 5 + [("a", "b")] + [("b",)] * 2 + [("c",)]
    recordings = table(list("sssttuuuu"), codes)
    row_weights = np.array(weights(recordings, draw))
    # The draw at one position, over many seeds, is independent; within a cycle it is not.
    drawn = [
        int(RowStream(row_weights, seed, "x").rows_at(range(13, 14))[0]) for seed in range(20_000)
    ]
    expected = row_weights / row_weights.sum() * len(drawn)
    assert chisquare(np.bincount(drawn, minlength=9), expected).pvalue > 1e-4


@pytest.mark.slow
def test_a_class_draw_draws_each_class_equally_often():
    recordings = table([""] * 60, [("a",)] * 50 + [("b",)] * 8 + [("c",)] * 2)
    stream = RowStream(np.array(weights(recordings, "class")), 0, "x")
    drawn = find_primary_classes(recordings)[stream.rows_at(range(6000))]
    assert np.bincount(drawn).tolist() == pytest.approx([2000] * 3, abs=30)


# ---------------------------------------------------------------- shares of batches


def shared_batches(
    start: tuple[int, int] = (0, 0), rank: int = 0, num_processes: int = 1, **options: Any
) -> SegmentBatchSampler:
    """Batches of 8: five of 23 training rows, two of one pool and one of another."""
    shares = [
        PoolShare(RowStream(np.ones(3), 0, "share one", first_row=23), 2),
        PoolShare(RowStream(np.arange(4.0), 0, "share two", first_row=26), 1),
    ]
    return SegmentBatchSampler(
        np.ones(23), 8, seed=0, num_epochs=2, start=start, rank=rank,
        num_processes=num_processes, pool_shares=shares, **{"drop_last": False, **options},
    )  # fmt: skip


def test_an_epoch_with_shares_of_pools_covers_every_training_row_as_often_as_without():
    batches = list(shared_batches())
    assert [len(batch) for batch in batches] == [8, 8, 8, 8, 6] * 2
    for epoch in range(2):
        keys = [key for batch in batches for key in batch if key[0] == epoch]
        assert sorted(row for _, _, row in keys if row < 23) == list(range(23))
        assert len({position for _, position, _ in keys}) == len(keys)
    complete = list(shared_batches(drop_last=True))
    assert [len(batch) for batch in complete] == [8] * 8


def test_the_last_positions_of_a_batch_hold_the_rows_of_the_pools_in_order():
    for batch in shared_batches():
        rows = [row for _, _, row in batch]
        assert max(rows[:-3]) < 23 and {*rows[-3:-1]} <= {23, 24, 25} and rows[-1] in (27, 28, 29)
    used = [row for batch in shared_batches() for _, _, row in batch[-3:-1]]
    assert all(sorted(used[at : at + 3]) == [23, 24, 25] for at in range(0, 18, 3))


@pytest.mark.parametrize("num_processes", [2, 3])
def test_shares_of_pools_are_divided_among_processes_and_resumed_with_the_batches(
    num_processes: int,
):
    batches = list(shared_batches())
    parts = [
        list(shared_batches(rank=r, num_processes=num_processes)) for r in range(num_processes)
    ]
    for batch, *of_ranks in zip(batches, *parts, strict=True):
        assert sorted(key for part in of_ranks for key in part) == batch
    assert list(shared_batches(start=(1, 2))) == batches[7:]
    assert list(shared_batches(start=(0, 3), rank=1, num_processes=num_processes)) == parts[1][3:]


def test_pools_to_mix_in_are_divided_among_processes_and_resumed_with_the_batches():
    def keys(rank: int, count: int, start: tuple[int, int] = (0, 0)) -> list:
        pools = {
            "a": PoolShare(RowStream(np.ones(3), 0, "a", 30), 5),
            "b": PoolShare(RowStream(np.arange(50.0), 0, "b", 40), 2),
        }
        batches = shared_batches(start=start, rank=rank, num_processes=count)
        assert [each.segments for each in SegmentAndPoolBatchSampler(batches, pools)] == list(
            batches
        )
        return list(SegmentAndPoolBatchSampler(batches, pools))

    whole, parts = keys(0, 1), [keys(rank, 2) for rank in range(2)]
    for batch, *of_ranks in zip(whole, *parts, strict=True):
        for name, size in (("a", 5), ("b", 2)):
            assert len(batch.pools[name]) == size
            assert sorted(key for part in of_ranks for key in part.pools[name]) == batch.pools[name]
    assert keys(1, 2, start=(1, 1)) == parts[1][6:]
    rows = [row for batch in whole for _, _, row in batch.pools["a"]]
    assert all(sorted(rows[at : at + 3]) == [30, 31, 32] for at in range(0, 48, 3))


def test_a_batch_with_room_for_fewer_training_rows_than_an_epoch_has_is_refused():
    share = PoolShare(RowStream(np.ones(3), 0, "x", 5), 2)
    expected = "data.batch_size=8, 6 of them training segments: an epoch has only 5 segments"
    with pytest.raises(ValueError, match=expected):
        SegmentBatchSampler(np.ones(5), 8, seed=0, num_epochs=1, pool_shares=[share])


# ---------------------------------------------------------------- substitution


def substitution(prob: float, seed: int = 0) -> Substitution:
    """Training rows of the classes 0, 1, 2 and none; windows of 0 (three), 2 (one) and none."""
    return Substitution(
        np.array([0, 1, 2, -1]), np.array([0, 2, 0, -1, 0]), np.array([1.0, 2, 3, 1, 0]),
        first_row=10, prob=prob, seed=seed,
    )  # fmt: skip


def test_a_replaced_row_has_the_class_of_the_window_and_others_stay():
    rows = np.repeat([0, 1, 2, 3], 50)
    replaced = substitution(1.0).replace_rows(rows, epoch=0).reshape(4, 50)
    assert {*replaced[0]} == {10, 12} and {*replaced[2]} == {11}
    assert (replaced[1] == 1).all() and (replaced[3] == 3).all()
    assert (rows == np.repeat([0, 1, 2, 3], 50)).all()


def test_substitution_depends_on_seed_and_epoch_and_is_off_at_probability_0():
    rows = np.zeros(40, int)
    first = substitution(0.5).replace_rows(rows, epoch=0)
    assert np.array_equal(first, substitution(0.5).replace_rows(rows, epoch=0))
    assert not np.array_equal(first, substitution(0.5).replace_rows(rows, epoch=1))
    assert not np.array_equal(first, substitution(0.5, seed=1).replace_rows(rows, epoch=0))
    assert np.array_equal(substitution(0.0).replace_rows(rows, epoch=0), rows)


@pytest.mark.slow
def test_rows_are_replaced_with_the_probability_and_by_the_weights_of_the_windows():
    replaced = substitution(0.4).replace_rows(np.zeros(100_000, int), epoch=0)
    counts = np.bincount(replaced, minlength=13)[[0, 10, 12]]
    assert counts.sum() == 100_000
    assert chisquare(counts, 1e5 * np.array([0.6, 0.4 / 4, 0.4 * 3 / 4])).pvalue > 1e-4


def test_windows_that_fit_no_training_row_are_noticed():
    other = Substitution(np.array([0]), np.array([1]), np.ones(1), first_row=1, prob=1.0, seed=0)
    assert not other.fits_any_row and substitution(0.1).fits_any_row


def test_batches_have_the_replaced_rows_at_the_same_positions():
    replaced = SegmentBatchSampler(
        np.ones(4), 2, seed=0, num_epochs=3, substitution=substitution(1)
    )
    for batch, plain in zip(
        replaced, SegmentBatchSampler(np.ones(4), 2, seed=0, num_epochs=3), strict=True
    ):
        for (*at, row), (*plain_at, plain_row) in zip(batch, plain, strict=True):
            assert at == plain_at
            assert row == plain_row if plain_row in (1, 3) else row >= 10


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"pools": {"noise": PoolSettings()}}, "pools.noise.source: it is not set, and the name"),
        (
            {"pools": {"background": PoolSettings()}},
            "pools.background.root=None: set it to a folder",
        ),
        (
            {"pools": {"recordings": PoolSettings(root="x")}},
            "pools.recordings.root=x: set it to a f",
        ),
        ({"pools": {"a b": PoolSettings("recordings")}}, "pools: 'a b' is no name of a pool"),
        (
            {"pools": {"n": PoolSettings("background", "x", draw="class")}},
            "pools.n.draw=class: background recordings have no classes; use uniform or group",
        ),
        (
            {"pools": {"pseudo": PoolSettings()}},
            "pools.pseudo.source=pseudo: it needs data.pseudo.",
        ),
        ({"batch_shares": {"recording": 0.1}}, "no pool 'recording'; did you mean 'recordings'?"),
        (
            {"batch_shares": {"recordings": -0.1}},
            "batch_shares.recordings=-0.1: it must be in [0, 1)",
        ),
        ({"batch_shares": {"recordings": 0.99}}, "take 32 of the 32 segments of a batch and leave"),
        ({"batch_shares": {"noise": 0.1}}, "the pool 'noise' is background recordings, which have"),
        ({"substitution": SubstitutionSettings("nose")}, "no pool 'nose'; did you mean 'noise'?"),
        (
            {"substitution": SubstitutionSettings("noise")},
            "substitution.pool: the pool 'noise' is ba",
        ),
    ],
)
def test_pools_that_cannot_be_used_are_refused(settings: dict, expected: str):
    pools = {"recordings": PoolSettings(), "noise": PoolSettings("background", "x")}
    with pytest.raises(ValueError) as error:
        DataSettings(**{"pools": pools, **settings})
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: PoolSettings("backgruond"), "source='backgruond' is unknown; did you mean 'backg"),
        (lambda: PoolSettings(draw="classes"), "draw='classes' is unknown; did you mean 'class'?"),
        (lambda: PoolSettings(size=0), "size=0: it must be at least 1"),
        (lambda: SubstitutionSettings("x", 1.1), r"prob=1.1: it must be in \[0, 1\]"),
        (lambda: SubstitutionSettings(prob=0.1), "prob=0.1: set pool to the pool that has"),
    ],
)
def test_wrong_values_of_a_pool_are_refused(make: Callable, expected: str):
    with pytest.raises(ValueError, match=expected):
        make()


def test_a_share_above_0_is_at_least_one_segment_of_a_batch():
    settings = DataSettings(
        batch_size=10,
        pools={name: PoolSettings("recordings") for name in "abc"},
        batch_shares={"a": 0.01, "b": 0.26, "c": 0.0},
    )
    assert settings.batch_quotas == {"a": 1, "b": 3}


def test_only_pools_that_the_mix_draws_from_are_loaded_to_mix_in():
    config = make_config(
        "data.pools={a: {source: recordings}, b: {source: recordings, size: 3}, recordings: {}}",
        "data.batch_shares={recordings: 0.1}", "data.batch_size=10", "run_dir=x", "mix=mixup",
        "mix.injectors=[{pool: b, prob: 0.1}]", "mix.partner_pool=a",
    )  # fmt: skip
    assert mixed_pool_sizes(config) == {"a": 10, "b": 3}


# ---------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Settings of a run with three pools, shares of batches and substitution."""
    root = tmp_path_factory.mktemp("pools")
    rng = np.random.default_rng(0)
    for name in ("a/1", "a/2", "a/3", "b/1", "b/2", "c/1"):
        write_wave(root / "data" / f"{name}.wav", 2, value=rng.uniform(0.1, 0.9))
        write_wave(root / "own" / f"{name}.wav", 1, value=rng.uniform(0.1, 0.9))
    for name in "xyz":
        write_wave(root / "noise" / f"{name}.wav", 3)
    return make_config(
        *SMALL, "run_dir=x", "seed=3", "mix=none",
        "data=folder", f"data.root={root}/data", "data.fold=null",
        "data.batch_size=5", "data.segment_seconds=0.5", "data.segments_per_recording=3",
        "data.drop_last=false", "trainer.max_epochs=2", "data.segment=energy", "data.short=gaps",
        f"data.pools={{noise: {{source: background, root: {root}/noise, size: 3}}, "
        f"own: {{source: folder, root: {root}/own, draw: class, size: 2}}, "
        "recordings: {draw: class}}",
        "mix.injectors=[{pool: noise, prob: 0.5}, {pool: own, prob: 0.5}]",
        "data.batch_shares={own: 0.2, recordings: 0.1}",
        "data.substitution={pool: own, prob: 0.5}",
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(config: Config) -> RunData:
    return open_data(config.data, config.frontend.log_mel.sample_rate)


def load(
    config: Config,
    data: RunData,
    num_workers: int = 0,
    start: RunPosition | None = None,
    rank: int = 0,
    num_processes: int = 1,
) -> list[Batch]:
    processes = connect_processes(config.trainer)
    processes = Processes(processes.fabric, rank, num_processes)
    batches = build_batch_sampler(config, data, start or RunPosition(), processes)
    return list(build_training_loader(config, data, batches, num_workers))


def assert_equal_batches(ones: list[Batch], others: list[Batch]) -> None:
    for one, other in zip(ones, others, strict=True):
        assert one.pool is not None and other.pool is not None
        for a, b in zip((*one.examples, *one.pool), (*other.examples, *other.pool), strict=True):
            assert (a is None and b is None) or torch.equal(a, b)
        assert one.context.pool_sizes == other.context.pool_sizes
        for name in ("row", "recording", "group", "labels", "primary"):
            assert np.array_equal(getattr(one.context, name), getattr(other.context, name))


@pytest.mark.parametrize("num_workers", [1, 3])
def test_any_number_of_workers_loads_the_same_batches_with_pools(
    config: Config, data: RunData, num_workers: int
):
    assert_equal_batches(load(config, data), load(config, data, num_workers))


def test_a_resumed_run_loads_the_rest_of_the_batches_with_pools(config: Config, data: RunData):
    batches = load(config, data)
    assert len(batches) == 12
    for number in (1, 5, 8):
        epoch, batch = divmod(number, 6)
        start = RunPosition(epoch=epoch, batch=batch)
        assert_equal_batches(batches[number:], load(config, data, start=start))


def test_two_processes_load_every_example_and_pool_segment_once(config: Config, data: RunData):
    def rows_and_waveforms(batch: Batch) -> list[tuple]:
        assert batch.context.row is not None and batch.pool is not None
        waveforms = torch.cat([batch.examples.x, batch.pool.x])
        return sorted(zip(batch.context.row.tolist(), waveforms.sum(dim=1).tolist(), strict=True))

    parts = [load(config, data, rank=rank, num_processes=2) for rank in range(2)]
    for batch, *of_ranks in zip(load(config, data), *parts, strict=True):
        together = sorted(entry for part in of_ranks for entry in rows_and_waveforms(part))
        assert together == rows_and_waveforms(batch)
        assert all(set(part.context.pool_sizes.values()) <= {1, 2} for part in of_ranks)


def test_rows_of_a_batch_are_numbered_through_training_recordings_and_pools(
    config: Config, data: RunData
):
    assert data.first_rows == {"noise": 6, "own": 9, "recordings": 15}
    for batch in load(config, data):
        context = batch.context
        assert context.row is not None and context.labels is not None and batch.pool is not None
        assert context.pool_sizes == {"noise": 3, "own": 2}
        rows = context.row
        noise, own = (rows[list(context.candidates(name))] for name in ("noise", "own"))
        assert ((noise >= 6) & (noise < 9)).all() and ((own >= 9) & (own < 15)).all()
        targets = torch.cat([batch.examples.target, batch.pool.target]).numpy()
        assert np.array_equal(data.batch_rows.take(rows).targets(), targets)
        assert np.array_equal(context.labels, targets > 0)
        # The last two are shares of own and recordings, after training rows and their replacements.
        assert rows[context.batch_size - 2] in range(9, 15)
        assert rows[context.batch_size - 1] in range(15, 21)
        assert set(rows[: context.batch_size - 2]) <= {*range(6), *range(9, 15)}


def test_about_half_of_the_training_examples_are_replaced_by_their_class(
    config: Config, data: RunData
):
    batches = build_batch_sampler(config, data, RunPosition(), connect_processes(config.trainer))
    classes = find_primary_classes(data.batch_rows)
    plain = SegmentBatchSampler(batches.draws_per_epoch, 5, seed=config.seed, num_epochs=40)
    pairs = [(batches.rows_of_epoch(epoch), plain.rows_of_epoch(epoch)) for epoch in range(40)]
    rows, originals = map(np.concatenate, zip(*pairs, strict=True))
    assert np.array_equal(classes[rows], classes[originals])
    assert (rows != originals).mean() == pytest.approx(0.5, abs=0.07)


def test_each_pool_and_each_use_of_one_draws_other_segments(config: Config, data: RunData):
    batches = load(config, data)
    own = [
        batch.context.row[list(batch.context.candidates("own"))].tolist()  # type: ignore[index]
        for batch in batches
    ]
    shares = [int(batch.context.row[batch.context.batch_size - 2]) for batch in batches]  # type: ignore[index]
    assert [rows[0] for rows in own] != shares
    assert len({tuple(rows) for rows in own}) > 4
    noise = [batch.pool.x[:3] for batch in batches if batch.pool is not None]
    assert all(not torch.equal(one, other) for one, other in pairwise(noise))


def test_the_recordings_of_a_batch_are_named_with_those_of_its_shares(
    config: Config, data: RunData, tmp_path: Path
):
    training = build_training_run(config, data, tmp_path, connect_processes(config.trainer))
    batch = load(config, data)[7]
    assert batch.context.row is not None
    rows = batch.context.row[: batch.context.batch_size]
    assert set(training.recording_paths(1, 1)) == set(data.batch_rows.take(rows).paths)


def test_a_pool_smaller_than_the_number_of_processes_is_refused(config: Config, data: RunData):
    with pytest.raises(
        ValueError, match=r"data.pools.own.size=2: the mix in a batch of 3 processes needs 3"
    ):
        load(config, data, rank=0, num_processes=3)


def test_windows_that_replace_no_recording_are_a_warning(
    config: Config, data: RunData, tmp_path: Path, capsys: pytest.CaptureFixture
):
    own = data.pools["own"].take(find_primary_classes(data.pools["own"]) == 0)
    train = data.train.take(find_primary_classes(data.train) != 0)
    pools = {**data.pools, "own": own, "recordings": train}
    other = RunData(train, data.validation, pools, data.store)
    build_training_run(config, other, tmp_path, connect_processes(config.trainer))
    output = " ".join(capsys.readouterr().out.split())
    assert "no window of the pool 'own' has the class of a training recording" in output


NOISE = "data.pools={noise: {source: background, root: /no/such}}"


def test_a_run_with_pools_is_buildable_without_its_recordings():
    injector = "mix.injectors=[{pool: noise, prob: 0.5}]"
    check_buildable(make_config("run_dir=x", "loggers=[]", NOISE, injector))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([NOISE], "data.pools.noise: nothing uses this pool; name it in mix.injectors"),
        (
            [NOISE, "mix.injectors=[{pool: noise, prob: 0}]"],
            "data.pools.noise: nothing uses this pool; name it in mix.injectors, mix.par",
        ),
        (
            [NOISE, "mix.injectors=[{pool: noise, prob: 1}, {pool: niose, prob: 1}]"],
            "mix.injectors[1].pool: there is no pool 'niose'; did you mean 'noise'?",
        ),
        (
            ["data.pools={a: {source: recordings, size: 1}}", "mix.partner_pool=a", "mix=mixup"],
            "data.pools.a.size=1: the mix in a batch needs 2 segments of this pool; raise it",
        ),
        (
            ["data.pools={a: {source: recordings}}", "mix.partner_pool=a", "mix=none"],
            "data.pools.a: nothing uses this pool",
        ),
        (
            [NOISE, "mix.partner_pool=noise", "mix.partners=common_class"],
            "mix.partners=common_class: recordings of the pool 'noise' (source=background) have",
        ),
        (["mix.injectors=[{prob: 1}]"], "mix.injectors[0]: there is no pool to inject from; name"),
        ([NOISE, "mix.partner_pool=birds"], "mix.partner_pool: there is no pool 'birds'"),
        (
            [NOISE, "mix.injectors=[{pool: noise, prob: 1, label_sum: 0.5}]"],
            "mix.injectors[0].label_sum=0.5: recordings of the pool 'noise' (source=background)",
        ),
        (
            [NOISE, "mix.injectors=[{pool: noise, prob: 1, partners: common_class}]"],
            "mix.injectors[0].partners=common_class: recordings of the pool 'noise'",
        ),
    ],
)
def test_a_mix_that_does_not_fit_its_pools_is_refused_before_recordings_are_opened(
    overrides: list[str], expected: str
):
    with pytest.raises(ValueError) as error:
        check_buildable(make_config("run_dir=x", "loggers=[]", *overrides))
    assert expected in str(error.value)
