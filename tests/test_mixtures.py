"""``birdmix mixtures``: sets of held-out windows and mixtures, their levels, truth and groups."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from birdmix.audio.loudness import a_weighting
from birdmix.cli.main import app
from birdmix.loading.audio_store import open_store
from birdmix.loading.mixture_folder import write_mixtures
from birdmix.loading.mixture_plan import MixtureSettings
from birdmix.loading.mixture_windows import MixtureWindows
from birdmix.loading.run_data import open_hidden_bar
from birdmix.ownership import LIST
from birdmix.recordings.folds import split_by_fold
from birdmix.recordings.mixture_table import COLUMNS, MixtureSets, read_mixtures
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.source_readers import read_source
from tests.conftest import ROOT
from tests.recordings import RATE, write_text, write_wave

CLASSES = ("c500", "c1000", "c1500", "c2000", "c2500")
NOISE = 0.002


def write_song(file: Path, frequency: float, amplitude: float, seconds: float = 3.0) -> None:
    """Write noise with a tone in the first second."""
    file.parent.mkdir(parents=True, exist_ok=True)
    num_samples = int(seconds * RATE)
    seed = sum(map(ord, str(file.name))) + int(frequency)
    waveform = NOISE * np.random.default_rng(seed).standard_normal(num_samples)
    waveform[:RATE] += amplitude * np.sin(2 * np.pi * frequency * np.arange(RATE) / RATE)
    soundfile.write(file, waveform, RATE, subtype="FLOAT")


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> DataSettings:
    """Five classes, each a tone, by eight recordists each; the later classes are louder."""
    root = tmp_path_factory.mktemp("songs")
    for at, code in enumerate(CLASSES):
        for group in range(8):
            file = root / code / f"g{group}_{code}.wav"
            write_song(file, float(code[1:]), 0.05 * (at + 1) * (1 + group / 8))
    return DataSettings(
        source="folder",
        root=str(root),
        group_pattern=r"^(g\d)",
        num_folds=2,
        segment_seconds=1.0,
    )


def make(out: Path, data: DataSettings, **settings) -> Path:
    settings = {"per_class": 4, **settings}
    write_mixtures(out, data, RATE, MixtureSettings(**settings), open_hidden_bar)
    return out


@pytest.fixture(scope="module")
def made(songs: DataSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made") / "mixtures", songs)


@pytest.fixture(scope="module")
def read(songs: DataSettings, made: Path) -> MixtureSets:
    return read_mixtures(made, read_source(songs).recordings.labels)


def rows(folder: Path, set_name: str) -> list[dict[str, str]]:
    with (folder / "mixtures.csv").open(newline="") as stream:
        return [row for row in csv.DictReader(stream) if row["set"] == set_name]


def numbers(cell: str) -> list[float]:
    return [float(number) for number in cell.split(";")]


def tone_powers(file: Path, codes: list[str]) -> tuple[np.ndarray, float]:
    """Return the A-weighted power of the tones of classes, and that of everything else."""
    waveform, _ = soundfile.read(file)
    assert len(waveform) == RATE  # so that each tone is exactly in one bin
    power = 2 * np.square(np.abs(np.fft.rfft(waveform)) / RATE * a_weighting(np.arange(4001)))
    tones = np.array([power[int(code[1:])] for code in codes])
    return tones, power.sum() - tones.sum()


def test_levels_of_two_or_three_sources_are_those_of_the_table_and_within_6_db(made: Path):
    for row in rows(made, "two_or_three"):
        codes = row["labels"].split(";")
        powers, _ = tone_powers(made / row["path"], codes)
        levels = numbers(row["levels_db"])
        assert len(codes) in (2, 3)
        assert max(levels) - min(levels) <= 6.001
        np.testing.assert_allclose(10 * np.log10(powers), levels, atol=0.05)  # the noise has more
        snr = [10 * np.log10(p / (powers.sum() - p)) for p in powers]
        np.testing.assert_allclose(numbers(row["snr_db"]), snr, atol=0.1)


def test_levels_of_three_or_four_sources_and_of_their_bed_are_those_of_the_table(made: Path):
    for row in rows(made, "three_or_four"):
        codes = row["labels"].split(";")
        powers, rest = tone_powers(made / row["path"], codes)
        levels, bed = numbers(row["levels_db"]), float(row["bed_level_db"])
        assert len(codes) in (3, 4)
        assert max(levels) - min(levels) <= 12.001
        assert 0 <= min(levels) - bed <= 10.02
        np.testing.assert_allclose(10 * np.log10(powers), levels, atol=0.5)  # the bed is 10 % of it
        # The rest has the sources' own noise, too, which is 10 dB and more below a bed.
        np.testing.assert_allclose(10 * np.log10(rest), bed, atol=1.0)
        snr = [10 * np.log10(p / (powers.sum() - p + rest)) for p in powers]
        np.testing.assert_allclose(numbers(row["snr_db"]), snr, atol=0.5)


def test_sources_are_only_attenuated_and_one_of_them_not_at_all(made: Path):
    for set_name in ("single", "two_or_three", "three_or_four"):
        for row in rows(made, set_name):
            assert max(numbers(row["gains_db"])) == 0


def test_nothing_clips_and_the_scale_is_recorded(songs: DataSettings, tmp_path: Path):
    for at, code in enumerate(CLASSES):
        for group in range(8):
            write_song(tmp_path / "loud" / code / f"g{group}.wav", 500.0 + at, 0.97)
    out = make(
        tmp_path / "out", replace(songs, root=str(tmp_path / "loud")), sets=("two_or_three",)
    )
    for row in rows(out, "two_or_three"):
        waveform, _ = soundfile.read(out / row["path"])
        assert 0.9 < np.abs(waveform).max() < 0.991
        level = 20 * np.log10(0.97 / np.sqrt(2)) + float(row["scale_db"])
        loudest = max(
            range(len(numbers(row["gains_db"]))), key=numbers(row["gains_db"]).__getitem__
        )
        weight = 20 * np.log10(a_weighting(np.array([500.0])))[0]
        np.testing.assert_allclose(numbers(row["levels_db"])[loudest], level + weight, atol=0.1)


def test_single_windows_are_the_loud_parts_of_recordings_as_they_are(made: Path):
    for row in rows(made, "single"):
        assert float(row["starts_seconds"]) == 0
        amplitude = 0.05 * (CLASSES.index(row["labels"]) + 1) * (1 + int(row["groups"][1]) / 8)
        powers, _ = tone_powers(made / row["path"], [row["labels"]])
        weight = a_weighting(np.array([float(row["labels"][1:])]))
        np.testing.assert_allclose(powers, np.square(amplitude * weight) / 2, rtol=0.02)
        assert row["snr_db"] == ""


def test_classes_occur_equally_often_and_so_do_numbers_of_sources(read: MixtureSets):
    for mixtures in read.sets.values():
        for fold in (0, 1):
            counts = mixtures.truth[mixtures.fold == fold].sum(axis=0)
            assert counts.min() >= 4
            assert counts.max() <= 5
    assert np.bincount(read.sets["two_or_three"].num_sources).tolist()[2:] == [8, 8]


def test_sources_of_a_mixture_are_of_distinct_groups_and_beds_of_other_files(read: MixtureSets):
    for mixtures in read.sets.values():
        assert all(len(set(groups)) == len(groups) for groups in mixtures.groups)
    hard = read.sets["three_or_four"]
    assert all(bed and bed not in row for bed, row in zip(hard.beds, hard.sources, strict=True))


def test_a_bed_is_of_a_source_class_where_there_is_one_so_that_the_truth_holds(read: MixtureSets):
    hard = read.sets["three_or_four"]
    for row, bed in enumerate(hard.beds):
        assert hard.truth[row, read.labels.column(bed.split("/")[0])] == 1
    assert hard.known.all()


def test_a_bed_of_another_class_leaves_that_class_unknown(songs: DataSettings, tmp_path: Path):
    for at, code in enumerate("abcde"):  # one recording of each class in each fold
        for group in (at, at + 5):
            write_song(tmp_path / "few" / code / f"g{group}.wav", 500.0 * (at + 1), 0.1)
    data = replace(songs, root=str(tmp_path / "few"))
    out = make(tmp_path / "out", data, sets=("three_or_four",))
    hard = read_mixtures(out, read_source(data).recordings.labels).sets["three_or_four"]
    for row, bed in enumerate(hard.beds):
        unknown = np.flatnonzero(~hard.known[row])
        assert unknown.tolist() == ["abcde".index(bed[0])]
        assert hard.truth[row, unknown] == 0


def test_recordings_without_a_label_are_the_beds_if_there_are_some(
    songs: DataSettings, tmp_path: Path
):
    root = tmp_path / "with_noise"
    for at, code in enumerate(CLASSES):
        for group in range(8):
            write_song(root / code / f"g{group}_{code}.wav", 500.0 * (at + 1), 0.1)
    for group in range(8):
        write_song(root / "noise" / f"g{group}_noise.wav", 3000.0, 0.05)
    out = make(tmp_path / "out", replace(songs, root=str(root), negative=["noise"]))
    hard = rows(out, "three_or_four")
    assert {row["bed"].split("/")[0] for row in hard} == {"noise"}
    assert {row["unknown_labels"] for row in hard} == {""}


def test_beds_of_a_folder_are_used_in_every_fold(songs: DataSettings, tmp_path: Path):
    write_song(tmp_path / "beds" / "wind.wav", 3000.0, 0.05)
    out = make(tmp_path / "out", songs, beds=tmp_path / "beds", sets=("three_or_four",))
    for row in rows(out, "three_or_four"):
        assert row["bed"].endswith("beds/wind.wav")
        powers, _ = tone_powers(out / row["path"], ["c3000"])
        np.testing.assert_allclose(10 * np.log10(powers), float(row["bed_level_db"]), atol=0.3)


def test_a_quiet_bed_leaves_out_the_song_of_its_recording(songs: DataSettings):
    recordings = read_source(songs).recordings
    store, _ = open_store(recordings.root, recordings.paths, songs, RATE)
    windows = MixtureWindows(
        store, recordings, sample_rate=RATE, num_samples=RATE, fill_method="loop"
    )
    bed, start = windows.draw_quiet_bed(0, np.random.default_rng(0))
    frequency = int(recordings.label_codes_of_row(0)[0][1:])
    spectrum = np.square(np.abs(np.fft.rfft(bed)))
    assert start >= 1  # the tone is in the first second
    assert spectrum[frequency] < 20 * np.median(spectrum)
    np.testing.assert_allclose(np.sqrt(np.mean(np.square(bed))), NOISE, rtol=0.05)


def test_no_mixture_shares_a_group_with_the_training_recordings_of_its_fold(
    songs: DataSettings, read: MixtureSets
):
    recordings = read_source(songs).recordings
    for fold in (0, 1):
        train, held_out = split_by_fold(recordings, 2, fold)
        mixtures = read.take_folds([fold])
        mixtures.check_not_trained_on(train)
        used = {group for each in mixtures.sets.values() for row in each.groups for group in row}
        assert used <= set(held_out.groups)
        with pytest.raises(ValueError, match=f"held out in fold {1 - fold} of 2"):
            read.take_folds([1 - fold]).check_not_trained_on(train)


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != LIST)
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def test_the_same_seed_gives_the_same_bytes_for_any_cache_and_another_seed_others(
    songs: DataSettings, made: Path, tmp_path: Path
):
    again = replace(songs, cache="none" if songs.cache == "memory" else "memory")
    assert contents(make(tmp_path / "again", again)) == contents(made)
    other = contents(make(tmp_path / "other", songs, seed=1, sets=("two_or_three",)))
    sounds = [name for name in other if name.endswith(".flac")]
    assert sounds
    assert not any(other[name] == contents(made)[name] for name in sounds)


def test_a_fold_and_set_made_alone_are_the_same(songs: DataSettings, made: Path, tmp_path: Path):
    alone = contents(make(tmp_path / "one", songs, folds=(1,), sets=("three_or_four",)))
    sounds = [name for name in alone if name.endswith(".flac")]
    assert sounds
    assert all(alone[name] == contents(made)[name] for name in sounds)


def test_secondary_labels_are_unknown_and_do_not_move_folds(tmp_path: Path):
    lines = ["path,labels,secondary_labels,group"]
    for at, code in enumerate("abcd"):
        for group in range(8):
            write_song(tmp_path / "data" / f"{code}{group}.wav", 500.0 * (at + 1), 0.1)
            second = "x" if group % 2 else ""
            lines.append(f"{code}{group}.wav,{code},{second},g{group}")
    table = write_text(tmp_path / "data" / "table.csv", "\n".join(lines))
    data = DataSettings(source="csv", table=str(table), num_folds=2, segment_seconds=1.0)
    out = make(tmp_path / "out", data, sets=("two_or_three",))
    source = read_source(data).recordings
    mixtures = read_mixtures(out, source.labels)
    two = mixtures.sets["two_or_three"]
    x = source.labels.column("x")
    assert not two.truth[:, x].any()
    has_odd_group = [any(int(group[1]) % 2 for group in row) for row in two.groups]
    assert (~two.known[:, x]).tolist() == has_odd_group
    mixtures.take_folds([0]).check_not_trained_on(split_by_fold(source, 2, 0)[0])


def test_shorter_recordings_are_filled_up(songs: DataSettings, tmp_path: Path):
    for code in CLASSES:
        for group in range(4):
            write_song(tmp_path / "short" / code / f"g{group}.wav", float(code[1:]), 0.1, 1.0)
    data = replace(songs, root=str(tmp_path / "short"), segment_seconds=2.0)
    out = make(tmp_path / "out", data, sets=("single",), per_class=2)
    for row in rows(out, "single"):
        waveform, _ = soundfile.read(out / row["path"])
        np.testing.assert_array_equal(waveform[:RATE], waveform[RATE:])


def test_no_single_window_is_repeated_and_a_warning_says_where_they_are_few(
    songs: DataSettings, tmp_path: Path
):
    with pytest.warns(UserWarning, match="single: fewer than 9 loud windows in 5 of 5.* are 4, of"):
        out = make(tmp_path / "out", songs, sets=("single",), folds=(0,), per_class=9)
    windows = [(row["sources"], row["starts_seconds"]) for row in rows(out, "single")]
    assert len(set(windows)) == len(windows) == 20


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_folds": 4}, "no 3 recordings of distinct classes and groups.*--set single"),
        ({"group_pattern": "^(g)"}, "form only 1 groups"),
        ({"num_folds": 1, "fold": None}, "data.num_folds=1: it must be at least 2"),
    ],
)
def test_data_that_allow_no_mixtures_are_refused(
    songs: DataSettings, tmp_path: Path, settings: dict, message: str
):
    with pytest.raises(ValueError, match=message):
        make(tmp_path / "out", replace(songs, **settings))
    assert not (tmp_path / "out").exists()


def test_recordings_with_several_labels_are_refused(songs: DataSettings, tmp_path: Path):
    write_wave(tmp_path / "both" / "robin+wren" / "g0.wav")
    data = replace(songs, root=str(tmp_path / "both"), label_separator="+")
    with pytest.raises(ValueError, match=r"g0\.wav has 2 labels \(robin, wren\)"):
        make(tmp_path / "out", data)


def test_a_fold_that_does_not_exist_is_refused(songs: DataSettings, tmp_path: Path):
    with pytest.raises(ValueError, match=r"--fold 2: it must be in 0 \.\. 1"):
        make(tmp_path / "out", songs, folds=(2,))


def test_unknown_sets_are_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'three_or_four'"):
        MixtureSettings(sets=("three_four",))


def test_nothing_of_the_user_is_replaced(songs: DataSettings, made: Path, tmp_path: Path):
    notes = write_text(tmp_path / "mine" / "notes.txt", "mine")
    with pytest.raises(ValueError, match=r"notes\.txt, which birdmix did not write"):
        make(tmp_path / "mine", songs)
    assert notes.read_text() == "mine"
    with pytest.raises(ValueError, match="lies in data.root"):
        make(Path(str(songs.root)) / "mixtures", songs)


def test_mixtures_are_replaced_by_newer_ones(songs: DataSettings, tmp_path: Path):
    out = make(tmp_path / "out", songs, sets=("single",))
    make(out, songs, sets=("two_or_three",), folds=(0,))
    assert rows(out, "single") == []
    assert not (out / "single").exists()


def test_the_command_writes_mixtures_of_the_front_end_s_sample_rate(
    songs: DataSettings, tmp_path: Path
):
    out = tmp_path / "out"
    overrides = ["data=folder", f"data.root={songs.root}", r"data.group_pattern='^(g\d)'"]
    overrides += [
        "data.num_folds=2",
        "data.segment_seconds=1",
        "frontend.log_mel.sample_rate=16000",
    ]
    options = ["--out", str(out), "--set", "single", "--fold", "1", "--per-class", "1"]
    done = CliRunner().invoke(app, ["mixtures", *overrides, *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "(5 single)" in done.output
    assert {soundfile.info(file).samplerate for file in out.rglob("*.flac")} == {16_000}
    manifest = json.loads((out / "mixtures.json").read_text())
    assert (manifest["sample_rate"], manifest["seconds"]) == (16_000, 1.0)


def test_the_page_lists_every_column_in_order():
    page = (ROOT / "docs" / "test-mixtures.md").read_text(encoding="utf-8")
    text = page.partition("| column |")[2]
    listed = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| `")]
    assert [name.strip("` ") for cell in listed for name in cell.split(",")] == list(COLUMNS)


# Reading


def damage(folder: Path, out: Path, old: str, new: str) -> Path:
    """Copy the table of mixtures without their sounds, with a change."""
    for file in folder.rglob("*"):
        target = out / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".flac":
            target.touch()
        elif file.is_file():
            target.write_text(file.read_text().replace(old, new, 1))
    return out


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("fold0-0000.flac", "gone.flac", "row 2: no such file: .*gone.flac; make the mixtures"),
        (",0,c1000,", ",zero,c1000,", "row 2: fold 'zero': it must be a whole number in 0 .. 1"),
        (",0,c1000,", ",0,c100,", "row 2: labels 'c100': label 'c100' is not in the label set"),
        (",0,c1000,,1,", ",0,c1000,,2,", "row 2: labels has not as many values as num_sources"),
        ("single,0", "singles,0", "row 2: set 'singles' is unknown"),
        ('"format": 1', '"format": 2', "format 2, where 1 is read; make the mixtures again"),
        ("fold0-0001", "fold0-0000", "row 3: the same path occurs in row 2"),
    ],
)
def test_damaged_rows_are_reported_with_file_row_and_column(
    read: MixtureSets, tmp_path: Path, old: str, new: str, message: str
):
    with pytest.raises(ValueError, match=message):
        read_mixtures(damage(read.folder, tmp_path / "x", old, new), read.labels)


def test_other_classes_are_refused_by_name(read: MixtureSets, tmp_path: Path):
    labels = replace(read.labels, codes=(*read.labels.codes[1:], "heron"), names=())
    with pytest.raises(ValueError, match="1 only there: c1000; 1 only here: heron"):
        read_mixtures(read.folder, labels)
    with pytest.raises(ValueError, match=r"no mixtures\.json"):
        read_mixtures(tmp_path, labels)


def test_labels_in_another_order_give_other_columns(read: MixtureSets):
    reversed_labels = replace(read.labels, codes=read.labels.codes[::-1], names=())
    again = read_mixtures(read.folder, reversed_labels)
    for name, mixtures in again.sets.items():
        np.testing.assert_array_equal(mixtures.truth[:, ::-1], read.sets[name].truth)
        np.testing.assert_array_equal(mixtures.snr_db[:, ::-1], read.sets[name].snr_db)


def test_names_with_separators_are_read_as_they_were(songs: DataSettings, tmp_path: Path):
    root = tmp_path / "odd"
    for at, code in enumerate(("a;b", "=c", "50%3B", "d")):
        for group in range(8):
            write_song(root / code / f"g{group};x.wav", 500.0 * (at + 1), 0.1)
    data = replace(songs, root=str(root), group_pattern=r"^(g\d;x)")
    out = make(tmp_path / "out", data, sets=("single", "two_or_three"), per_class=1)
    recordings = read_source(data).recordings
    mixtures = read_mixtures(out, recordings.labels)
    single = mixtures.sets["single"]
    np.testing.assert_array_equal(single.truth.sum(axis=0), 2)
    assert {path for row in single.sources for path in row} <= set(recordings.paths)
    assert {group for row in single.groups for group in row} <= set(recordings.groups)


@pytest.mark.slow
def test_real_recordings_give_mixtures_of_all_classes(real_audio: Path, tmp_path: Path):
    data = DataSettings(source="csv", table=str(real_audio / "acrocephalus.csv"), num_folds=2)
    out = tmp_path / "out"
    write_mixtures(out, data, 32_000, MixtureSettings(per_class=2), open_hidden_bar)
    labels = read_source(data).recordings.labels
    for mixtures in read_mixtures(out, labels).sets.values():
        assert np.count_nonzero(mixtures.truth.sum(axis=0)) == 4
