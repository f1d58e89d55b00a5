"""Augmentation: a function of the waveform and the generator, built from one namespace."""

import multiprocessing
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from birdmix.audio.augment import Augmentation

RATE = 32_000

GAIN = {"_target_": "audiomentations.Gain", "min_gain_db": -12, "max_gain_db": 0, "p": 1.0}
NOISE = {"_target_": "audiomentations.AddGaussianNoise", "p": 1.0}
ONE_OF = {"_target_": "audiomentations.OneOf", "transforms": [GAIN, NOISE]}

#: What draws from Python's generator, from numpy's, from both, and in several ways.
CHAIN: list[dict[str, Any]] = [
    {"_target_": "audiomentations.AddColorNoise", "p": 0.7},
    {"_target_": "audiomentations.SomeOf", "num_transforms": [1, 2], "transforms": [GAIN, ONE_OF]},
    {"_target_": "audiomentations.Compose", "shuffle": True, "transforms": [GAIN, NOISE]},
    {"_target_": "audiomentations.SevenBandParametricEQ", "p": 0.5},
    {"_target_": "audiomentations.TimeStretch", "p": 0.5},
    {"_target_": "audiomentations.Shift", "p": 0.5},
]


def tone(seconds: float = 0.5) -> np.ndarray:
    return (0.3 * np.sin(np.arange(int(seconds * RATE)) * 0.1)).astype(np.float32)


def results(augmentation: Augmentation, seeds: list[int]) -> dict[int, bytes]:
    return {seed: augmentation(tone(), np.random.default_rng(seed)).tobytes() for seed in seeds}


@pytest.fixture(scope="module")
def noises(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise files in subfolders, each a constant of its own."""
    folder = tmp_path_factory.mktemp("noises")
    for number in range(6):
        (folder / f"{number % 3}").mkdir(exist_ok=True)
        level = np.full(RATE, 0.01 * (number + 1))
        soundfile.write(folder / f"{number % 3}" / f"{number}.wav", level, RATE, subtype="FLOAT")
    return folder


def background(noises: Path) -> dict[str, Any]:
    return {
        "_target_": "audiomentations.AddBackgroundNoise",
        "sounds_path": str(noises),
        "noise_rms": "absolute",
        "noise_transform": GAIN,
        "p": 1.0,
    }


def test_the_same_generator_gives_the_same_whatever_came_before():
    augmentation = Augmentation(CHAIN, RATE)
    forth = results(augmentation, [0, 1, 2, 3])
    random.seed(1)
    np.random.seed(2)
    back = results(augmentation, [3, 2, 1, 0])
    assert forth == back == results(Augmentation(CHAIN, RATE), [2, 0, 3, 1])
    assert len(set(forth.values())) == 4


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_any_process_gives_the_same(method: str):
    augmentation = Augmentation(CHAIN, RATE)
    expected = results(augmentation, [0, 1])
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(results, (augmentation, [1, 0])) == expected


@pytest.mark.filterwarnings("ignore:PySoundFile failed")  # librosa tries another way
def test_global_generators_are_left_as_they_were_even_by_a_failure(tmp_path: Path):
    random.seed(1)
    np.random.seed(2)
    expected = random.random(), np.random.random()
    soundfile.write(tmp_path / "x.wav", tone(), RATE)
    failing = Augmentation([background(tmp_path)], RATE)
    (tmp_path / "x.wav").unlink()
    random.seed(1)
    np.random.seed(2)
    Augmentation(CHAIN, RATE)(tone(), np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"audiomentations.AddBackgroundNoise failed: .*x.wav"):
        failing(tone(), np.random.default_rng(0))
    assert (random.random(), np.random.random()) == expected


def test_the_input_is_not_changed_and_not_shared():
    waveform = tone()
    for name in ("Reverse", "PolarityInversion", "Trim"):
        augmentation = Augmentation([{"_target_": f"audiomentations.{name}", "p": 1.0}], RATE)
        augmented = augmentation(waveform, np.random.default_rng(0))
        augmented[:] = 7
        assert np.array_equal(waveform, tone())


def test_no_transforms_and_probability_zero_are_the_identity():
    nothing = Augmentation([], RATE)
    never = Augmentation([{**each, "p": 0.0} for each in CHAIN], RATE)
    assert never and not nothing
    for augmentation in (nothing, never):
        assert np.array_equal(augmentation(tone(), np.random.default_rng(0)), tone())


@pytest.mark.parametrize("seconds", [0.2, 0.9])
def test_the_length_stays(seconds: float):
    longer = {"_target_": "audiomentations.AdjustDuration", "duration_seconds": seconds, "p": 1.0}
    augmented = Augmentation([longer], RATE)(tone(), np.random.default_rng(0))
    assert augmented.shape == tone().shape and augmented.dtype == np.float32
    kept = min(int(seconds * RATE), len(augmented))
    assert augmented[:kept].any() and not augmented[kept:].any()


def test_one_of_picks_all_there_is():
    silence = np.zeros(RATE // 2, np.float32)
    augmentation = Augmentation([ONE_OF], RATE)
    noisy = [augmentation(silence, np.random.default_rng(seed)).any() for seed in range(20)]
    assert 0 < sum(noisy) < 20


def test_the_generator_picks_the_noise_file(noises: Path):
    plain = {**background(noises), "min_absolute_rms_db": -20.0, "max_absolute_rms_db": -20.0}
    del plain["noise_transform"]
    silence = np.zeros(RATE // 2, np.float32)
    picked = Augmentation([plain], RATE)
    (transform,) = picked._chain
    assert transform.sound_file_paths == sorted(map(str, noises.rglob("*.wav")))
    files = []
    for seed in (0, 1, 2, 3, 0, 1, 2, 3):
        picked(silence, np.random.default_rng(seed))
        files.append(transform.parameters["noise_file_path"])
    assert files[:4] == files[4:] and len(set(files)) > 1


def test_what_is_pickled_are_the_settings(noises: Path):
    bursts = {"_target_": "audiomentations.AddShortNoises", "sounds_path": str(noises), "p": 1.0}
    augmentation = Augmentation([bursts, background(noises)], RATE)
    assert results(pickle.loads(pickle.dumps(augmentation)), [0]) == results(augmentation, [0])


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("Gain", "did you mean 'audiomentations.Gain'"),
        ("audiomentations.Gian", "did you mean 'audiomentations.Gain'"),
        ("torch_audiomentations.Gain", "did you mean 'audiomentations.Gain'"),
        ("audiomentations.augmentations.gain.Gain", "did you mean 'audiomentations.Gain'"),
        ("audiomentations.core.composition.BaseCompose", "is unknown"),
        ("audiomentations.core.composition.random.seed", "is unknown"),
        ("audiomentations.NOISE_COLOR_DECAYS", "is unknown"),
        ("audiomentations.__loader__", "is unknown"),
        ("audiomentations.Gain.__init__", "is unknown"),
        ("audiomentations.", "is unknown"),
        ("os.system", "is unknown"),
        (["audiomentations.Gain"], "is unknown"),
    ],
)
def test_only_what_the_library_offers_can_be_built(target: Any, words: str):
    nested = {"_target_": "audiomentations.OneOf", "transforms": [GAIN, {"_target_": target}]}
    for entry, where in (({"_target_": target}, "[0]"), (nested, "[0].transforms[1]")):
        with pytest.raises(ValueError) as refused:
            Augmentation([entry], RATE)
        assert str(refused.value).startswith(f"transform {where}: _target_={str(target)!r}")
        assert words in str(refused.value)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({**GAIN, "min_gain": -6}, "audiomentations.Gain has no argument 'min_gain'; did you mean"),
        ({**GAIN, "p": 2}, "audiomentations.Gain refuses: assert 0 <= p <= 1"),
        ({**GAIN, "_partial_": True}, "has no argument '_partial_'"),
        ({"_target_": "audiomentations.AddBackgroundNoise"}, "missing 1 required"),
        ({**ONE_OF, "transforms": []}, r"\[0\].transforms is \[\], not a list of transforms"),
        ({**ONE_OF, "transforms": ["Gain"]}, r"transform \[0\].transforms\[0\] is 'Gain', not a"),
        ({"p": 0.5}, "not a mapping with a _target_"),
        ({"_target_": "audiomentations.RoomSimulator"}, "would not repeat: .* use_ray_tracing"),
        ({"_target_": "audiomentations.TimeStretch", "min_rate": 0.4}, "would not repeat: set min"),
    ],
)
def test_wrong_settings_are_told_in_one_line(entry: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words) as refused:
        Augmentation([entry], RATE)
    assert "\n" not in str(refused.value)


def test_a_missing_library_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "audiomentations", None)
    Augmentation([], RATE)
    with pytest.raises(ValueError, match=r'needs audiomentations .*: pip install -e ".\[augment\]'):
        Augmentation([GAIN], RATE)


def test_the_library_is_imported_only_where_it_is_used():
    code = (
        "import sys; from birdmix.audio.augment import Augmentation; Augmentation([], 1); "
        "print(sorted({'audiomentations', 'librosa', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
