"""Waveform augmentation: reproducible from the random generator, built from one namespace."""

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

from birdmix.audio.augment import AugmentationChain

RATE = 32_000

GAIN = {"_target_": "audiomentations.Gain", "min_gain_db": -12, "max_gain_db": 0, "p": 1.0}
NOISE = {"_target_": "audiomentations.AddGaussianNoise", "p": 1.0}
ONE_OF = {"_target_": "audiomentations.OneOf", "transforms": [GAIN, NOISE]}

#: Transforms that draw from Python's generator, from numpy's, and from both.
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


def results(augmentation: AugmentationChain, seeds: list[int]) -> dict[int, bytes]:
    return {seed: augmentation(tone(), np.random.default_rng(seed)).tobytes() for seed in seeds}


@pytest.fixture(scope="module")
def noises(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise files in subfolders, each with a different constant value."""
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


def test_results_depend_on_the_generator_and_not_on_earlier_calls():
    augmentation = AugmentationChain(CHAIN, RATE)
    forth = results(augmentation, [0, 1, 2, 3])
    random.seed(1)
    np.random.seed(2)
    back = results(augmentation, [3, 2, 1, 0])
    assert forth == back == results(AugmentationChain(CHAIN, RATE), [2, 0, 3, 1])
    assert len(set(forth.values())) == 4


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_results_are_equal_in_any_process(method: str):
    augmentation = AugmentationChain(CHAIN, RATE)
    expected = results(augmentation, [0, 1])
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(results, (augmentation, [1, 0])) == expected


@pytest.mark.filterwarnings("ignore:PySoundFile failed")  # librosa tries another way
def test_global_generators_are_restored_even_after_a_failure(tmp_path: Path):
    random.seed(1)
    np.random.seed(2)
    expected = random.random(), np.random.random()
    soundfile.write(tmp_path / "x.wav", tone(), RATE)
    failing = AugmentationChain([background(tmp_path)], RATE)
    (tmp_path / "x.wav").unlink()
    random.seed(1)
    np.random.seed(2)
    AugmentationChain(CHAIN, RATE)(tone(), np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"audiomentations.AddBackgroundNoise failed: .*x.wav"):
        failing(tone(), np.random.default_rng(0))
    assert (random.random(), np.random.random()) == expected


def test_the_input_is_not_modified_and_not_shared():
    waveform = tone()
    for name in ("Reverse", "PolarityInversion", "Trim"):
        augmentation = AugmentationChain([{"_target_": f"audiomentations.{name}", "p": 1.0}], RATE)
        augmented = augmentation(waveform, np.random.default_rng(0))
        augmented[:] = 7
        assert np.array_equal(waveform, tone())


def test_no_transforms_and_probability_zero_are_the_identity():
    nothing = AugmentationChain([], RATE)
    never = AugmentationChain([{**each, "p": 0.0} for each in CHAIN], RATE)
    assert never and not nothing
    for augmentation in (nothing, never):
        assert np.array_equal(augmentation(tone(), np.random.default_rng(0)), tone())


@pytest.mark.parametrize("seconds", [0.2, 0.9])
def test_the_length_is_kept(seconds: float):
    longer = {"_target_": "audiomentations.AdjustDuration", "duration_seconds": seconds, "p": 1.0}
    augmented = AugmentationChain([longer], RATE)(tone(), np.random.default_rng(0))
    assert augmented.shape == tone().shape and augmented.dtype == np.float32
    kept = min(int(seconds * RATE), len(augmented))
    assert augmented[:kept].any() and not augmented[kept:].any()


def test_one_of_picks_each_of_its_transforms():
    silence = np.zeros(RATE // 2, np.float32)
    augmentation = AugmentationChain([ONE_OF], RATE)
    noisy = [augmentation(silence, np.random.default_rng(seed)).any() for seed in range(20)]
    assert 0 < sum(noisy) < 20


def test_the_generator_picks_the_noise_file(noises: Path):
    plain = {**background(noises), "min_absolute_rms_db": -20.0, "max_absolute_rms_db": -20.0}
    del plain["noise_transform"]
    silence = np.zeros(RATE // 2, np.float32)
    picked = AugmentationChain([plain], RATE)
    (transform,) = picked._chain
    assert transform.sound_file_paths == sorted(map(str, noises.rglob("*.wav")))
    files = []
    for seed in (0, 1, 2, 3, 0, 1, 2, 3):
        picked(silence, np.random.default_rng(seed))
        files.append(transform.parameters["noise_file_path"])
    assert files[:4] == files[4:] and len(set(files)) > 1


def test_an_augmentation_pickles_as_its_settings(noises: Path):
    bursts = {"_target_": "audiomentations.AddShortNoises", "sounds_path": str(noises), "p": 1.0}
    augmentation = AugmentationChain([bursts, background(noises)], RATE)
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
def test_only_transforms_of_the_library_can_be_built(target: Any, words: str):
    nested = {"_target_": "audiomentations.OneOf", "transforms": [GAIN, {"_target_": target}]}
    for entry, where in (({"_target_": target}, "[0]"), (nested, "[0].transforms[1]")):
        with pytest.raises(ValueError) as refused:
            AugmentationChain([entry], RATE)
        assert str(refused.value).startswith(f"transform {where}: _target_={str(target)!r}")
        assert words in str(refused.value)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({**GAIN, "min_gain": -6}, "audiomentations.Gain has no argument 'min_gain'; did you mean"),
        ({**GAIN, "p": 2}, "audiomentations.Gain failed: assert 0 <= p <= 1"),
        ({**GAIN, "_partial_": True}, "has no argument '_partial_'"),
        ({"_target_": "audiomentations.AddBackgroundNoise"}, "missing 1 required"),
        ({**ONE_OF, "transforms": []}, r"\[0\].transforms is \[\], not a list of transforms"),
        ({**ONE_OF, "transforms": ["Gain"]}, r"transform \[0\].transforms\[0\] is 'Gain', not a"),
        ({"p": 0.5}, "not a mapping with a _target_"),
        ({"_target_": "audiomentations.RoomSimulator"}, "is not reproducible: .* use_ray"),
        ({"_target_": "audiomentations.TimeStretch", "min_rate": 0.4}, "is not reproducible: set"),
    ],
)
def test_invalid_settings_are_reported_in_one_line(entry: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words) as refused:
        AugmentationChain([entry], RATE)
    assert "\n" not in str(refused.value)


def test_a_missing_library_is_reported_with_the_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "audiomentations", None)
    AugmentationChain([], RATE)
    with pytest.raises(
        ValueError, match=r"needs audiomentations .*: pip install 'birdmix\[augment\]'"
    ):
        AugmentationChain([GAIN], RATE)


def test_the_library_is_imported_only_when_transforms_are_set():
    code = (
        "import sys; from birdmix.audio.augment import AugmentationChain; "
        "AugmentationChain([], 1); "
        "print(sorted({'audiomentations', 'librosa', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
