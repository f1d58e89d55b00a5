"""Base modules: random keys, labels, windows, files and suggested names."""

import os
from pathlib import Path

import numpy as np
import pytest

from birdmix.files import atomic_directory, atomic_path, relative_path_inside, write_text
from birdmix.labels import Labels
from birdmix.messages import check_choice, did_you_mean, first_few
from birdmix.ownership import LIST, OutputFiles
from birdmix.random_keys import StepKeys, generator, integer_seed
from birdmix.windows import (
    LAST_WINDOWS,
    MIN_PROBABILITY,
    extract_padded,
    num_windows,
    probability,
    repeat_to_length,
    window_starts,
)


def test_a_key_gives_the_same_numbers_each_time_and_another_key_gives_others():
    draws = {
        generator(seed, purpose, *position).integers(2**60)
        for seed in (0, 1)
        for purpose in ("segment", "waveform_mix")
        for position in ((0, 0), (0, 1), (1, 0))
    }
    assert len(draws) == 12
    assert generator(3, "x", 1).random() == generator(3, "x", 1).random()


def test_seeds_for_torch_are_63_bit_and_differ():
    seeds = [integer_seed(0, "torch", batch) for batch in range(100)]
    assert len(set(seeds)) == 100 and all(0 <= seed < 2**63 for seed in seeds)


def test_ranks_draw_different_numbers():
    one, two = StepKeys(0, 0, 0, rank=0), StepKeys(0, 0, 0, rank=1)
    assert one.rng("mix").random() != two.rng("mix").random()


def test_labels_keep_numeric_codes_as_strings():
    labels = Labels(("22961", "1e5", "rufhor2"))
    assert labels.encode_target(["1e5", "22961", "1e5"], [1, 0.9, 0.5]).tolist() == [
        pytest.approx(0.9),
        1,
        0,
    ]


def test_the_error_for_an_unknown_label_has_the_nearest_label():
    with pytest.raises(ValueError, match="did you mean 'rufhor2'"):
        Labels(("22961", "rufhor2")).column("rufhor1")


def test_repeated_labels_are_refused():
    with pytest.raises(ValueError, match="are repeated: a"):
        Labels(("a", "b", "a"))


def test_a_long_list_of_names_is_shortened_with_a_reference_to_the_full_list():
    names = [f"n{n}" for n in range(202)]
    assert first_few(names, 2, "list.csv") == "n0, n1, ... (all: list.csv)"
    assert first_few(names[:2], 2, "list.csv") == "n0, n1"


@pytest.mark.parametrize(
    ("num_samples", "full", "pad", "drop"),
    [
        (1, [0], [0], [0]),
        (10, [0], [0], [0]),
        (11, [0, 1], [0, 10], [0]),
        (20, [0, 10], [0, 10], [0, 10]),
        (24, [0, 10, 14], [0, 10, 20], [0, 10]),
    ],
)
def test_a_last_window_is_moved_back_padded_or_dropped(
    num_samples: int, full: list[int], pad: list[int], drop: list[int]
):
    assert window_starts(num_samples, window=10, hop=10).tolist() == full
    for last_window, expected in (("full", full), ("pad", pad), ("drop", drop)):
        starts = window_starts(num_samples, 10, 10, last_window=last_window)
        assert starts.tolist() == expected
        assert num_windows(num_samples, 10, 10, last_window=last_window) == len(expected)


def test_overlapping_windows_end_with_the_recording():
    assert window_starts(20, window=10, hop=5).tolist() == [0, 5, 10]
    assert window_starts(22, window=10, hop=5).tolist() == [0, 5, 10, 12]


def test_a_short_tail_has_no_window_of_its_own():
    for last_window in LAST_WINDOWS:
        assert window_starts(21, 10, 10, 1, last_window).tolist() == [0, 10]


def test_of_windows_with_gaps_the_last_is_moved_back():
    assert window_starts(25, window=10, hop=20).tolist() == [0, 15]
    assert window_starts(25, window=10, hop=20, last_window="drop").tolist() == [0]


def test_an_excerpt_is_zero_outside_of_the_recording():
    wave = np.arange(1, 6)
    assert extract_padded(wave, -2, 4).tolist() == [0, 0, 1, 2]
    assert extract_padded(wave, 3, 4).tolist() == [4, 5, 0, 0]
    assert extract_padded(wave, 9, 2).tolist() == [0, 0]
    assert extract_padded(wave, -9, 2).tolist() == [0, 0]


def test_a_short_recording_is_repeated():
    assert repeat_to_length(np.arange(3), 7).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert repeat_to_length(np.arange(9), 2).tolist() == [0, 1]


def test_probabilities_stay_below_one_and_above_zero():
    extreme = probability(np.array([-1e9, -50, 0, 50, 1e9]))
    assert extreme.tolist() == [
        MIN_PROBABILITY,
        MIN_PROBABILITY,
        0.5,
        1 - MIN_PROBABILITY,
        1 - MIN_PROBABILITY,
    ]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    OutputFiles(tmp_path, ("x.txt",)).register()
    write_text(tmp_path / "x.txt", "old")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "x.txt") as partial:
        partial.write_text("half")
        raise RuntimeError
    assert {file.name: file.read_text() for file in tmp_path.glob("[!.]*")} == {"x.txt": "old"}
    assert {file.name for file in tmp_path.iterdir()} == {"x.txt", LIST}


def test_a_directory_is_replaced_as_a_whole(tmp_path: Path):
    for content in ("old", "new"):
        with atomic_directory(tmp_path / "d") as partial:
            (partial / content).touch()
    assert {path.name for path in tmp_path.rglob("*")} == {"d", "new", LIST}


def test_a_directory_that_cannot_be_replaced_is_kept(tmp_path: Path, monkeypatch):
    with atomic_directory(tmp_path / "d") as partial:
        (partial / "old").touch()
    rename, calls = os.replace, []

    def fail_second(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise OSError("in use")
        rename(source, target)

    monkeypatch.setattr("birdmix.files.os.replace", fail_second)
    with pytest.raises(OSError, match="in use"), atomic_directory(tmp_path / "d") as partial:
        (partial / "new").touch()
    assert {path.name for path in tmp_path.rglob("*")} == {"d", "old", LIST}


@pytest.mark.parametrize("path", ["../x.wav", "/etc/passwd", "a/../../x.wav", "."])
def test_a_path_that_leaves_the_root_is_refused(tmp_path: Path, path: str):
    with pytest.raises(ValueError, match=r"table.csv, row 3: .* leaves the data root"):
        relative_path_inside(tmp_path, path, "table.csv, row 3")


def test_a_path_inside_the_root_is_normalised(tmp_path: Path):
    assert relative_path_inside(tmp_path, "a/../b/x.wav", "") == "b/x.wav"
    assert relative_path_inside(tmp_path, str(tmp_path / "x.wav"), "") == "x.wav"


def test_suggestions_have_the_nearest_name_or_all_names():
    assert did_you_mean("mixip", ["none", "mixup"]) == "; did you mean 'mixup'?"
    assert did_you_mean("zzz", ["none", "mixup"]) == "; valid names: none, mixup"
    with pytest.raises(ValueError, match="pool='gm' is unknown"):
        check_choice("pool", "gm", ["gem"])
