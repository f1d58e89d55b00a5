"""The demo: reproducible by its seed, in the layout of BirdCLEF 2026, with correct labels."""

import ast
import functools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from birdmix.audio.decode import decode_recording
from birdmix.audio.synthetic_acoustics import apply_distance_and_reverb, draw_impulse_response
from birdmix.audio.synthetic_scenes import (
    ScenePlan,
    Singer,
    TimedSong,
    plan_soundscapes,
    render_scene,
    species_codes_by_window,
)
from birdmix.audio.synthetic_songs import (
    SAMPLE_RATE,
    SPECIES,
    TWINS,
    Individual,
    compose_song,
    render_song,
)
from birdmix.ownership import LIST
from birdmix.recordings import demo_sounds
from birdmix.recordings.demo import demo_scene_settings, ensure_demo, plan_demo
from birdmix.recordings.demo_tables import CODES, build_tables
from birdmix.recordings.settings import DemoSettings

TINY = DemoSettings(recordings_per_species=2, validation_soundscapes=1, test_soundscapes=1)
COLUMNS = [
    *("primary_label", "secondary_labels", "type", "latitude", "longitude", "scientific_name"),
    *("common_name", "class_name", "inat_taxon_id", "author", "license", "rating", "url"),
    *("filename", "collection"),
]


SILENCE = np.zeros(SAMPLE_RATE // 10, np.float32)


@pytest.fixture
def silent_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Render all scenes of demos as silence, for tests that only concern files."""
    monkeypatch.setattr(demo_sounds, "render_scene", lambda scene, seed: SILENCE)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demos") / "demo"
    ensure_demo(folder, TINY)
    return folder


def sounds(root: Path) -> dict[str, np.ndarray]:
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.ogg"))
    return {path: decode_recording(root / path, SAMPLE_RATE) for path in paths}


@functools.cache
def average_song(code: str) -> tuple[np.ndarray, np.ndarray]:
    """Return 30 songs of a species by one average bird, concatenated, and the first of them."""
    species = next(species for species in SPECIES if species.code == code)
    rng = np.random.default_rng(0)
    bird = Individual(1.0, 1.0, 1.0)
    songs = [render_song(compose_song(species, bird, rng)) for _ in range(30)]
    return np.concatenate(songs), songs[0]


def spectrogram(waveform: np.ndarray) -> np.ndarray:
    """Return magnitudes in frames of 32 ms, normalized to unit energy."""
    frames = waveform[: len(waveform) // 1024 * 1024].reshape(-1, 1024) * np.hanning(1024)
    magnitudes = np.abs(np.fft.rfft(frames))
    return magnitudes / np.sqrt(np.sum(magnitudes**2))


def band_levels(waveform: np.ndarray) -> np.ndarray:
    """Return the fraction of the energy in each 250 Hz band, in dB, float64 [64]."""
    power = np.sum(spectrogram(waveform)[:, 1:] ** 2, axis=0)
    return 10 * np.log10(power.reshape(64, -1).sum(axis=1))


@pytest.mark.slow
def test_a_seed_gives_the_same_audio_in_processes_and_in_threads(root, tmp_path, monkeypatch):
    monkeypatch.setattr(demo_sounds, "_MIN_SECONDS", 1)
    monkeypatch.delattr(demo_sounds, "ThreadPoolExecutor")
    ensure_demo(tmp_path / "demo", replace(TINY, num_processes=2))
    first, again = sounds(root), sounds(tmp_path / "demo")
    assert first.keys() == again.keys()
    assert all(np.array_equal(first[path], again[path]) for path in first)
    digests = {
        json.loads((folder / "demo.json").read_text())["digest"]
        for folder in (root, tmp_path / "demo")
    }
    assert len(digests) == 1


def test_another_seed_gives_other_birds_and_other_background():
    scene = plan_demo(TINY).test
    other = plan_demo(replace(TINY, seed=1)).test
    assert scene != other
    silent = ScenePlan("test", 0, 1.0, ())
    assert not np.allclose(render_scene(silent, 0), render_scene(silent, 1))


def test_the_demo_has_the_layout_of_birdclef_2026(root):
    train = pd.read_csv(root / "train.csv", dtype=str)
    assert list(train.columns) == COLUMNS
    assert len(train) == 24
    assert all((root / "train_audio" / name).is_file() for name in train["filename"])
    assert all(train["filename"].str.split("/").str[0] == train["primary_label"])
    labels = pd.read_csv(root / "train_soundscapes_labels.csv", dtype=str)
    assert list(labels.columns) == ["filename", "start", "end", "primary_label"]
    assert labels["end"].iloc[11] == "00:01:00"
    assert labels.duplicated().any()
    assert len(labels.drop_duplicates()) == 12
    assert all((root / "train_soundscapes" / name).is_file() for name in labels["filename"])
    taxonomy = pd.read_csv(root / "taxonomy.csv", dtype=str)
    assert sorted(taxonomy["primary_label"]) == CODES


def test_submission_and_solution_name_the_same_windows_and_columns(root):
    submission = pd.read_csv(root / "sample_submission.csv")
    solution = pd.read_csv(root / "solution.csv")
    assert list(submission.columns) == list(solution.columns) == ["row_id", *CODES]
    assert np.allclose(submission[CODES], 1 / 12)
    (soundscape,) = (root / "test_soundscapes").iterdir()
    assert list(solution["row_id"]) == [f"{soundscape.stem}_{end}" for end in range(5, 61, 5)]
    assert list(submission["row_id"]) == list(solution["row_id"][:3])


def test_labels_are_strings_even_where_they_look_like_numbers(root):
    train = pd.read_csv(root / "train.csv", dtype={"primary_label": str})
    assert set(train["primary_label"]) == set(CODES)
    assert "22961" in CODES
    secondary = [code for cell in train["secondary_labels"] for code in ast.literal_eval(cell)]
    assert secondary
    assert set(secondary) <= set(CODES)


def test_sounds_are_mono_at_32_khz_and_never_clip(root):
    for path, waveform in sounds(root).items():
        info = soundfile.info(root / path)
        assert (info.samplerate, info.channels, info.subtype) == (SAMPLE_RATE, 1, "VORBIS")
        assert 0.05 < np.abs(waveform).max() < 1
        assert len(waveform) == 60 * SAMPLE_RATE or 5 <= len(waveform) / SAMPLE_RATE <= 15


@pytest.mark.parametrize("pair", TWINS)
def test_twins_share_their_spectrum_and_differ_in_time(pair):
    (one, song), (other, other_song) = map(average_song, pair)
    levels, other_levels = band_levels(one), band_levels(other)
    loud = np.maximum(levels, other_levels) > -20
    assert np.abs(levels - other_levels)[loud].max() < 1.0  # dB
    num_samples = min(len(song), len(other_song))
    likeness = spectrogram(song[:num_samples]) * spectrogram(other_song[:num_samples])
    assert likeness.sum() < 0.6


def test_species_that_are_no_twins_differ_in_spectrum():
    levels = {species.code: band_levels(average_song(species.code)[0]) for species in SPECIES}
    twins = {frozenset(pair) for pair in TWINS}
    for one in levels:
        for other in levels:
            if one != other and {one, other} not in twins:
                shared = np.minimum(10 ** (levels[one] / 10), 10 ** (levels[other] / 10)).sum()
                assert shared < 0.75, (one, other)


def test_no_individual_sings_in_two_splits():
    plan = plan_demo(DemoSettings())
    birds = [
        {
            (singer.species, singer.individual)
            for scene in scenes.values()
            for singer in scene.singers
        }
        for scenes in (plan.recordings, plan.validation, plan.test)
    ]
    assert not birds[0] & birds[1]
    assert not birds[0] & birds[2]
    assert not birds[1] & birds[2]


def test_an_individual_has_one_recordist_and_two_or_three_recordings():
    plan = plan_demo(DemoSettings())
    train = build_tables(plan, seed=0)["train.csv"]
    train["individual"] = [scene.singers[0].individual for scene in plan.recordings.values()]
    by_bird = train.groupby(["primary_label", "individual"])["author"]
    assert (by_bird.nunique() == 1).all()
    assert by_bird.size().isin([2, 3]).all()


def test_a_window_has_a_species_label_if_it_contains_enough_of_its_song():
    (note,) = (phrase.notes[0] for phrase in SPECIES[2].song)
    long_song = TimedSong(4.7, (replace(note, seconds=1.0, gap=0.0),))  # 0.3 s, then 0.7 s
    short_song = TimedSong(9.8, (replace(note, seconds=0.3, gap=0.0),))  # 0.2 s, then 0.1 s
    scene = ScenePlan("test", 0, 60, (Singer(2, 0, 10, (long_song, short_song)),))
    assert [bool(codes) for codes in species_codes_by_window(scene)] == [False, True] + [False] * 10
    late = TimedSong(9.9, short_song.notes)  # 0.1 s, then 0.2 s
    scene = ScenePlan("test", 0, 60, (Singer(2, 0, 10, (late,)),))
    assert [bool(codes) for codes in species_codes_by_window(scene)] == [False, False, True] + [
        False
    ] * 9


def test_soundscape_labels_contain_the_species_placed_in_each_window(root):
    solution = pd.read_csv(root / "solution.csv")
    (scene,) = plan_demo(TINY).test.values()
    for window, row in solution[CODES].iterrows():
        singing = {
            SPECIES[singer.species].code
            for singer in scene.singers
            for song in singer.songs
            if min(song.end, 5 * window + 5) - max(song.start, 5 * window) >= 0.4
        }
        labelled = set(row.index[row == 1])
        assert singing <= labelled


def test_a_bird_is_audible_only_in_the_windows_with_its_label():
    scene = plan_soundscapes(demo_scene_settings(DemoSettings()), "test", 1)[0]
    singer = max(scene.singers, key=lambda singer: singer.snr_db)
    alone = replace(scene, singers=(singer,))
    background = render_scene(replace(scene, singers=()), 0)
    recording = render_scene(alone, 0)
    gain = np.median(recording / background)  # most audio samples contain no bird
    bird = np.abs(recording / gain - background).reshape(12, -1).max(axis=1)
    has_label = np.array([bool(codes) for codes in species_codes_by_window(alone)])
    assert 0 < has_label.sum() < 12
    assert bird[has_label].min() > 1e-2 * bird.max()
    reach = [(song.start, song.end + 0.5) for song in singer.songs]  # with its echo
    silent = [all(end < 5 * w or start > 5 * w + 5 for start, end in reach) for w in range(12)]
    assert bird[silent].max() < 1e-4 * bird.max()


def test_distance_attenuates_high_frequencies():
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32)
    echo = draw_impulse_response(np.random.default_rng(1))
    near, far = (
        band_levels(apply_distance_and_reverb(noise, distance, echo)) for distance in (5, 100)
    )
    assert (far - near)[32] - (far - near)[4] < -6  # dB, 8 kHz against 1 kHz


def test_a_complete_demo_is_kept(root):
    written = (root / "demo.json").stat().st_mtime_ns
    assert not ensure_demo(root, replace(TINY, num_processes=1))
    assert (root / "demo.json").stat().st_mtime_ns == written


def test_a_demo_is_remade_when_settings_differ_or_files_are_missing(tmp_path, silent_scenes):
    root = tmp_path / "demo"
    calls = []
    assert ensure_demo(root, TINY, lambda done, total: calls.append((done, total)))
    assert calls == [(done, 26) for done in range(1, 27)]
    assert ensure_demo(root, replace(TINY, seed=1))
    assert json.loads((root / "demo.json").read_text())["settings"]["seed"] == 1
    next((root / "test_soundscapes").iterdir()).unlink()
    assert ensure_demo(root, replace(TINY, seed=1))
    assert not ensure_demo(root, replace(TINY, seed=1))


def test_a_folder_that_is_not_a_demo_is_not_changed(tmp_path):
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(ValueError, match="holds notes.txt, which birdmix did not write"):
        ensure_demo(tmp_path, TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_demo_of_an_earlier_version_is_replaced_unless_it_contains_other_files(
    tmp_path, silent_scenes
):
    root = tmp_path / "demo"
    ensure_demo(root, TINY)
    (root / LIST).unlink()
    (root / "notes.txt").touch()
    with pytest.raises(ValueError, match="which birdmix did not write"):
        ensure_demo(root, replace(TINY, seed=1))
    (root / "notes.txt").unlink()
    assert ensure_demo(root, replace(TINY, seed=1))


def test_a_failure_leaves_no_files(tmp_path, monkeypatch):
    def fail(scene: ScenePlan, seed: int) -> np.ndarray:
        if scene.number == 5:
            raise OSError("disk full")
        return SILENCE

    monkeypatch.setattr(demo_sounds, "render_scene", fail)
    with pytest.raises(OSError, match="disk full"):
        ensure_demo(tmp_path / "demo", TINY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"recordings_per_species": 0},
        {"test_soundscapes": -1},
        {"seed": -1},
        {"num_processes": 0},
        {"individual_spread": 9.0},
        {"snr_min_db": 10.0, "snr_max_db": 0.0},
    ],
)
def test_the_error_for_a_setting_out_of_range_names_it(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DemoSettings(**wrong)
