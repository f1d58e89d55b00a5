"""Augmentations on the training device: physics of each, and the laws of all."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from birdmix.augment import (
    Augmentation,
    AugmentSettings,
    CircularShift,
    CircularShiftSettings,
    ColouredNoise,
    ColouredNoiseSettings,
    FilterAugment,
    FilterAugmentSettings,
    FreqMixStyle,
    FreqMixStyleSettings,
    Gain,
    GainSettings,
    PitchShift,
    PitchShiftSettings,
    RandomFilter,
    RandomFilterSettings,
    Speed,
    SpeedSettings,
    build_augment_stages,
)
from birdmix.augment.pitch_shift import cumulative_product_
from birdmix.config.composition import compose_config
from birdmix.mix import Examples
from tests.conftest import make_config

RATE = 32_000


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def restore_num_threads() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)


def tone(*frequencies: float, seconds: float = 2.0) -> Tensor:
    """Return a tone of amplitude 1 per frequency, [B, T]."""
    times = np.arange(int(seconds * RATE)) / RATE
    return torch.from_numpy(np.sin(2 * np.pi * np.outer(frequencies, times)).astype(np.float32))


def click(at_seconds: float, seconds: float = 4.0) -> Tensor:
    x = torch.zeros(1, int(seconds * RATE))
    x[0, int(at_seconds * RATE)] = 1
    return x


def noise(batch_size: int = 8, length: int = RATE) -> Tensor:
    return 0.1 * torch.randn(batch_size, length, generator=torch.Generator().manual_seed(0))


def middle(x: Tensor) -> Tensor:
    """Return waveforms without .2 s at either end, where tones begin and end."""
    return x[:, RATE // 5 : -RATE // 5]


def peak_hz(x: Tensor) -> list[float]:
    """Return the frequency of the largest value of each spectrum."""
    inner = middle(x)
    spectrum = torch.fft.rfft(inner * torch.hann_window(inner.shape[1])).abs()
    return (spectrum.argmax(dim=1) * RATE / inner.shape[1]).tolist()


def level_db(x: Tensor) -> float:
    """Return the level of the middle of a waveform, relative to a tone of amplitude 1."""
    return 10 * np.log10(float(middle(x).square().mean()) / 0.5 + 1e-30)


def pitch_shift(x: Tensor, semitones: float) -> Tensor:
    shift = PitchShift(1.0, [semitones, semitones], sample_rate=RATE)
    return shift(x, rng=rng())


# Pitch shift


@pytest.mark.parametrize("semitones", [4, -4, 12, -12])
def test_a_tone_is_shifted_by_semitones(semitones: float):
    expected = 1000 * 2 ** (semitones / 12)
    (peak,) = peak_hz(pitch_shift(tone(1000), semitones))
    assert abs(1200 * np.log2(peak / expected)) < 6.8 + 1  # cents: rounding, resolution
    assert peak == pytest.approx(expected, abs=2.5)  # 1,260 Hz for 4 semitones


def test_a_shifted_tone_is_one_tone_of_the_same_level():
    shifted = middle(pitch_shift(tone(1000), 4))
    assert level_db(pitch_shift(tone(1000), 4)) == pytest.approx(0, abs=0.1)
    spectrum = torch.fft.rfft(shifted * torch.hann_window(shifted.shape[1])).abs()[0]
    (peak,) = peak_hz(pitch_shift(tone(1000), 4))
    bins = torch.arange(len(spectrum)) * RATE / shifted.shape[1]
    away = spectrum[(bins - peak).abs() > 20]
    assert 20 * np.log10(float(away.max() / spectrum.max())) < -70


def test_a_tone_that_would_pass_half_the_sample_rate_vanishes():
    assert level_db(pitch_shift(tone(14_000), 4)) < -60  # 17,639 Hz would fold to 14,361 Hz
    assert level_db(pitch_shift(tone(14_000), -4)) > -3


@pytest.mark.parametrize("semitones", [4, -4])
def test_onsets_stay_where_they_are(semitones: float):
    energy = pitch_shift(click(2.0), semitones)[0].square()
    near = energy[int(1.98 * RATE) : int(2.02 * RATE)].sum()
    assert near > 0.99 * energy.sum()


def test_a_shift_by_no_semitones_changes_nothing():
    x = tone(1000, 12_000)
    torch.testing.assert_close(middle(pitch_shift(x, 0)), middle(x), atol=1e-3, rtol=0)


def test_each_example_has_a_shift_of_its_own():
    shift = PitchShift(1.0, [-4, 4], sample_rate=RATE)
    draw = shift.draw((4, 2 * RATE), rng())
    factors = draw.parameters["step"] / 256
    peaks = peak_hz(shift.apply(tone(1000, 1000, 1000, 1000), draw))
    assert len(set(factors)) == 4
    np.testing.assert_allclose(peaks, 1000 * factors, atol=1)  # Hz: the resolution is .6


def test_the_cumulative_product_is_that_of_torch():
    for block_length, num_blocks in ((1, 1), (1, 3), (3, 1), (2, 2), (4, 3), (3, 5)):
        generator = torch.Generator().manual_seed(0)
        shape = (2, block_length * num_blocks, 3)
        x = torch.randn(shape, dtype=torch.complex64, generator=generator)
        torch.testing.assert_close(cumulative_product_(x.clone(), block_length), x.cumprod(1))


# Speed


def test_speed_changes_pitch_and_times():
    faster = Speed(1.0, [1.25, 1.25])
    (peak,) = peak_hz(faster(tone(1000), rng=rng()))
    assert peak == pytest.approx(1250, abs=1)
    assert int(faster(click(2.0), rng=rng()).abs().argmax()) == pytest.approx(1.6 * RATE, abs=1)


def test_a_faster_sound_begins_again_and_a_slower_one_is_cut():
    x = click(0.5, seconds=2)
    faster = Speed(1.0, [2, 2])(x, rng=rng())[0]
    loud = (faster > 0.3).nonzero()[:, 0] / RATE
    np.testing.assert_allclose(loud, [0.25, 1.25], atol=1e-3)
    slower = Speed(1.0, [0.5, 0.5])(click(1.5, seconds=2), rng=rng())
    assert slower.abs().max() < 1e-3  # the click would be at 3 s


def test_a_tone_that_speed_would_lift_beyond_half_the_sample_rate_vanishes():
    assert level_db(Speed(1.0, [1.25, 1.25])(tone(14_500), rng=rng())) < -60


def test_resampling_is_exact_below_the_cutoff():
    times = np.arange(2 * RATE) / RATE
    for frequency in (100, 1000, 8000, 13_000):
        slower = Speed(1.0, [0.9375, 0.9375])(tone(frequency), rng=rng())[0]  # 240 / 256
        expected = np.sin(2 * np.pi * frequency * 0.9375 * times)
        error = slower[1000:-1000].numpy() - expected[1000:-1000]
        assert np.abs(error).max() < 1e-3


def test_speed_moves_frames_with_the_sound():
    frames = torch.zeros(1, 2, 8)
    frames[0, 1, 4:6] = 1  # the second half second of four
    known = torch.ones(1, 2, 8, dtype=torch.bool)
    known[0, 0, 2] = False
    x = click(2.25)
    examples = Examples(x, torch.ones(1, 2), frames=frames, frames_known=known)
    moved = Speed(1.0, [2, 2]).augment_examples(examples, rng())
    assert moved.frames[0, 1].tolist() == [0, 0, 1, 0, 0, 0, 1, 0]
    # Frames 1 and 5 hold the unknown frame 2.
    assert moved.frames_known[0, 0].tolist() == [frame not in (1, 5) for frame in range(8)]
    at = int(moved.x[0].abs().argmax()) / x.shape[1]
    assert moved.frames[0, 1, int(8 * at)] == 1


@pytest.mark.parametrize("factor", [0.8, 1.1, 1.6, 2.0])
def test_speed_loses_no_short_event_that_is_heard(factor: float):
    num_frames = 20
    for frame in range(int(num_frames * min(factor, 1)) - 1):
        frames = torch.eye(num_frames)[None, frame : frame + 1]
        examples = Examples(torch.ones(1, RATE), torch.ones(1, 1), frames=frames)
        moved = Speed(1.0, [factor, factor]).augment_examples(examples, rng())
        assert moved.frames[0, 0, int((frame + 0.5) / factor)] == 1


# Circular shift


def test_a_circular_shift_moves_sound_and_frames_together():
    frames = torch.eye(8)[None, 6:7]  # a call in frame 6 of 8
    examples = Examples(click(3.25), torch.ones(1, 1), frames=frames)
    shifted = CircularShift(1.0, [0.25, 0.25]).augment_examples(examples, rng())
    assert int(shifted.x[0].argmax()) == 0.25 * RATE
    assert shifted.frames[0, 0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert examples.frames[0, 0, 6] == 1 and examples.x[0].argmax() == 3.25 * RATE  # not modified


def test_a_circular_shift_keeps_all_samples():
    x = noise(4)
    shifted = CircularShift(1.0)(x, rng=rng())
    assert torch.equal(shifted.sort(dim=1).values, x.sort(dim=1).values)
    assert (shifted != x).any(dim=1).all()


# Random filter, noise, gain


def test_a_random_filter_has_its_gains_at_their_frequencies_and_keeps_the_level():
    filtering = RandomFilter(1.0, min_db=-20.0)
    x = noise(1, 4 * RATE)
    draw = filtering.draw((1, 4 * RATE), rng())
    y = filtering.apply(x, draw)
    gain_db = 20 * torch.log10(torch.fft.rfft(y).abs() / torch.fft.rfft(x).abs())[0]
    drawn = draw.parameters["gain_db"][0]
    at = (np.array([1 / 3, 2 / 3]) * (len(gain_db) - 1)).astype(int)
    measured = [float(gain_db[index - 200 : index + 200].median()) for index in at]
    assert measured[1] - measured[0] == pytest.approx(drawn[2] - drawn[1], abs=0.3)
    torch.testing.assert_close(y.square().mean(), x.square().mean())


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_coloured_noise_has_its_slope_and_its_level(exponent: float):
    x = tone(1000, seconds=4)
    added = ColouredNoise(1.0, [10, 10], [exponent, exponent])(x, rng=rng()) - x
    assert 10 * np.log10(float(x.square().mean() / added.square().mean())) == pytest.approx(10)
    power = torch.fft.rfft(added)[0].abs().square()
    octaves = [float(power[low : 2 * low].mean()) for low in (400, 12_800)]  # of bins of .25 Hz
    slope = np.log2(octaves[1] / octaves[0]) / 5  # five octaves apart
    assert slope == pytest.approx(-exponent, abs=0.1)


def test_noise_leaves_silence_silent_and_differs_between_examples():
    x = tone(1000, 1000, 1000)
    x[1] = 0
    added = ColouredNoise(1.0, exponent=[0, 0])(x, rng=rng()) - x
    assert not added[1].any()
    assert abs(np.corrcoef(added[0], added[2])[0, 1]) < 0.1


def test_a_gain_is_in_decibels():
    louder = Gain(1.0, [20, 20])(noise(), rng=rng())
    torch.testing.assert_close(louder, 10 * noise())


# Freq-MixStyle


def test_mel_bins_get_blended_means_and_deviations():
    scale = torch.linspace(0.5, 2, 24).view(4, 1, 6, 1)
    x = scale * (noise(4, 6 * 500).view(4, 1, 6, 500) + scale)
    style = FreqMixStyle(1.0, beta=0.3)
    draw = style.draw(tuple(x.shape), rng())
    partner, part = draw.parameters["partner"], draw.parameters["own_part"]
    assert (partner != np.arange(4)).all()
    part = torch.from_numpy(part.astype(np.float32))[:, None]
    deviation, mean = torch.std_mean(x[:, 0], dim=2)
    styled = style.apply(x, draw)
    new_deviation, new_mean = torch.std_mean(styled[:, 0], dim=2)
    torch.testing.assert_close(new_mean, part * mean + (1 - part) * mean[partner])
    blended = part * deviation + (1 - part) * deviation[partner]
    torch.testing.assert_close(new_deviation, blended, rtol=1e-3, atol=1e-3)
    assert np.corrcoef(styled[0, 0, 0], x[0, 0, 0])[0, 1] > 0.999  # its course in time stays


def test_a_batch_of_one_keeps_its_statistics():
    x = torch.randn(1, 1, 6, 50)
    torch.testing.assert_close(FreqMixStyle(1.0)(x, rng=rng()), x)


# FilterAugment


def test_a_step_filter_has_bands_of_constant_gain():
    x = torch.zeros(50, 1, 64, 3)
    y = FilterAugment(1.0, [-6, 6], [3, 5], 6, shape="step")(x, rng=rng())
    assert (y == y[..., :1]).all() and -6 <= y.min() < -5 and 5 < y.max() <= 6
    counts = set()
    for curve in y[:, 0, :, 0]:
        values, lengths = torch.unique_consecutive(curve, return_counts=True)
        assert lengths.min() >= 6
        counts.add(len(values))
    assert counts == {3, 4, 5}


def test_a_linear_filter_has_no_steps():
    y = FilterAugment(1.0, [-6, 6], [3, 5], 6)(torch.zeros(50, 1, 64, 1), rng=rng())[:, 0, :, 0]
    assert y.diff(dim=1).abs().max() <= 12 / 6 + 1e-6  # dB per bin, over at least 6 bins
    kinks = (y.diff(n=2, dim=1).abs() > 1e-4).sum(dim=1)
    assert (kinks >= 2).all() and (kinks <= 8).all()  # one or two bins at each of 2 to 4 bounds


def test_gains_are_in_the_units_of_the_log_mel():
    x = torch.zeros(2, 1, 64, 3)
    in_db = FilterAugment(1.0)(x, rng=rng())
    torch.testing.assert_close(FilterAugment(1.0, units_per_db=1 / 80)(x, rng=rng()), in_db / 80)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["frontend.log_mel.normalise=minmax"], "augment.filter_augment: its gains are in dB"),
        (
            ["frontend.log_mel.normalise=fixed", "frontend.log_mel.n_mels=20"],
            r"augment.filter_augment.num_bands=\[3, 5\]: 5 bands of 30 mel bins together",
        ),
    ],
)
def test_log_mels_that_a_filter_does_not_fit_are_refused(overrides: list[str], message: str):
    with pytest.raises(ValueError, match=message):
        make_config("run_dir=x", "augment.filter_augment.prob=0.5", *overrides)


# Laws of all augmentations


WAVEFORM = {
    "speed": lambda prob: Speed(prob),
    "pitch_shift": lambda prob: PitchShift(prob, sample_rate=RATE),
    "circular_shift": lambda prob: CircularShift(prob),
    "random_filter": lambda prob: RandomFilter(prob),
    "coloured_noise": lambda prob: ColouredNoise(prob),
    "gain": lambda prob: Gain(prob),
}
LOG_MEL = {
    "freq_mix_style": lambda prob: FreqMixStyle(prob),
    "filter_augment": lambda prob: FilterAugment(prob, num_bands=[2, 3]),
}
ALL = WAVEFORM | LOG_MEL


def examples_for(name: str, batch_size: int = 6) -> Tensor:
    x = noise(batch_size, RATE // 4)
    return x if name in WAVEFORM else x.view(batch_size, 1, 20, -1)


def test_the_laws_are_tested_for_every_augmentation():
    assert set(ALL) == set(vars(AugmentSettings()))


@pytest.mark.parametrize("name", ALL)
def test_an_augmentation_is_a_function_of_the_generator(name: str):
    x = examples_for(name)
    before = x.clone()
    first, again, other = (ALL[name](0.7)(x, rng=rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(x, before) and first.shape == x.shape and first.dtype == x.dtype


@pytest.mark.parametrize("name", ALL)
def test_examples_that_are_not_drawn_are_equal_bit_by_bit(name: str):
    augmentation: Augmentation = ALL[name](0.5)
    x = examples_for(name, 20)
    draw = augmentation.draw(tuple(x.shape), rng())
    y = augmentation.apply(x, draw)
    changed = (y != x).flatten(1).any(dim=1)
    assert 0 < len(draw.rows) < 20 and changed.nonzero()[:, 0].tolist() == draw.rows.tolist()
    assert ALL[name](0.0)(x, rng=rng()) is x


@pytest.mark.parametrize("name", ALL)
def test_nan_in_an_example_stays_in_it(name: str):
    x = examples_for(name)
    corrupt = x.clone()
    corrupt[2, ..., 3] = torch.nan
    expected, y = (ALL[name](1.0)(each, rng=rng()) for each in (x, corrupt))
    finite = y.flatten(1).isfinite().all(dim=1)
    assert finite.tolist() == [True, True, False, True, True, True]
    if name != "freq_mix_style":  # partners of the corrupt example keep their own statistics
        torch.testing.assert_close(y[finite], expected[finite])


@pytest.mark.parametrize("name", ALL)
def test_augmentations_compute_in_float32_under_autocast(name: str):
    x = examples_for(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = ALL[name](1.0)(x, rng=rng())
    assert torch.equal(y, ALL[name](1.0)(x, rng=rng()))


@pytest.mark.parametrize("name", ALL)
def test_results_do_not_depend_on_the_number_of_threads(name: str, restore_num_threads: None):
    x = examples_for(name)
    results = []
    for num_threads in (1, 3):
        torch.set_num_threads(num_threads)
        results.append(ALL[name](0.7)(x, rng=rng()))
        assert torch.get_num_threads() == num_threads
    assert torch.equal(*results)


@pytest.mark.parametrize("name", sorted(ALL.keys() - {"coloured_noise"}))  # draws on the device
def test_examples_that_are_computed_together_are_as_those_computed_one_by_one(name: str):
    augmentation: Augmentation = ALL[name](0.7)
    x = examples_for(name)
    draw = augmentation.draw(tuple(x.shape), rng())
    with torch.no_grad():
        together = augmentation._apply(x, draw)  # of devices that are no CPU
    torch.testing.assert_close(together, augmentation.apply(x, draw), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["gain", "pitch_shift"])
def test_augmentations_work_in_inference_mode_in_threads(name: str, restore_num_threads: None):
    torch.set_num_threads(2)
    x = examples_for(name)
    with torch.inference_mode():
        y = ALL[name](1.0)(x.clone(), rng=rng())
    assert torch.equal(y, ALL[name](1.0)(x, rng=rng()))


@pytest.mark.parametrize("name", ALL)
def test_examples_of_lower_precision_keep_it(name: str):
    x = examples_for(name).bfloat16()
    assert ALL[name](1.0)(x, rng=rng()).dtype == torch.bfloat16


@pytest.mark.parametrize("name", WAVEFORM)
@pytest.mark.parametrize("length", [1, 100, 4001])
def test_waveforms_of_any_length_are_augmented(name: str, length: int):
    x = noise(3, length)
    y = ALL[name](1.0)(x, rng=rng())
    assert y.shape == x.shape and y.isfinite().all()


@pytest.mark.parametrize("name", WAVEFORM)
def test_silence_stays_silent(name: str):
    assert not ALL[name](1.0)(torch.zeros(2, 8000), rng=rng()).any()


def test_examples_are_drawn_with_their_probability():
    counts = [len(Gain(0.3).draw((100, 1), rng(seed)).rows) for seed in range(100)]
    assert np.mean(counts) / 100 == pytest.approx(0.3, abs=0.015)  # 3 standard deviations


def test_a_higher_probability_leaves_earlier_choices_as_they_are():
    low, high = (Gain(prob).draw((100, 1), rng()) for prob in (0.3, 0.6))
    assert set(low.rows) < set(high.rows)
    kept = np.isin(high.rows, low.rows)
    assert np.array_equal(high.parameters["gain_db"][kept], low.parameters["gain_db"])


@pytest.mark.parametrize("on_device", [False, True])
def test_noise_of_an_example_does_not_depend_on_the_others(on_device: bool):
    x = tone(1000).repeat(8, 1)
    few, all_rows = (ColouredNoise(prob).draw(tuple(x.shape), rng()) for prob in (0.5, 1.0))
    assert 0 < len(few.rows) < 8
    noise = ColouredNoise(1.0)
    apply = noise._apply if on_device else noise.apply  # as on other devices than a CPU
    kept = torch.from_numpy(few.rows)
    assert torch.allclose(apply(x, few)[kept], apply(x, all_rows)[kept], atol=1e-6)


@pytest.mark.parametrize(
    ("augmentation", "shape"),
    [(Gain(1.0), (2, 1, 100)), (Speed(1.0), (2, 1, 100)), (FreqMixStyle(1.0), (2, 8, 10))],
)
def test_inputs_of_another_layout_are_refused(augmentation, shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"augments floating (waveforms|log-mels) \[B, .*got"):
        augmentation(torch.zeros(shape), rng=rng())


def test_statistics_of_a_single_frame_are_finite():
    mel = torch.rand(4, 1, 8, 1)
    assert FreqMixStyle(1.0)(mel, rng=rng()).isfinite().all()


# Settings


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        (PitchShiftSettings, {"prob": 1.5}, "prob=1.5: a probability lies in"),
        (PitchShiftSettings, {"semitones": [4, -4]}, r"semitones=\[4, -4\]: a range \[low, high\]"),
        (SpeedSettings, {"factor": [0, 1]}, "factor=.* between 0.5 and 2"),
        (SpeedSettings, {"factor": [1]}, r"factor=\[1\]: a range \[low, high\]"),
        (CircularShiftSettings, {"fraction": [-2, 0]}, "fraction=.* between -1 and 1"),
        (RandomFilterSettings, {"min_db": 3}, "min_db=3: it lies between -120 and 0"),
        (RandomFilterSettings, {"num_gains": 1}, "num_gains=1: it lies between 2 and 100"),
        (ColouredNoiseSettings, {"snr_db": [0, 200]}, "snr_db=.* between -120 and 120"),
        (ColouredNoiseSettings, {"exponent": [0, np.nan]}, "exponent=.* between -4 and 4"),
        (GainSettings, {"gain_db": [0, 200]}, "gain_db=.* between -120 and 120"),
        (FreqMixStyleSettings, {"beta": 0}, "beta=0: a concentration is above 0"),
        (FilterAugmentSettings, {"num_bands": [1, 3]}, "num_bands=.* between 2 and 100"),
        (FilterAugmentSettings, {"min_mel_bins": 0}, "min_mel_bins=0: it must be 1 or more"),
        (FilterAugmentSettings, {"shape": "cubic"}, "shape='?cubic"),
    ],
)
def test_wrong_settings_are_refused(settings: type, options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        settings(**{"prob": 0.5} | options)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("augment.speed.factor=[0,1]", r"augment.speed.factor=\[0.0, 1.0\]: a range"),
        ("data.augment_mixed=[]", "use the group augment, as augment.pitch_shift.prob=0.4"),
    ],
)
def test_errors_name_the_whole_key(override: str, message: str):
    with pytest.raises(ValueError, match=message):
        compose_config([override])


def test_the_recipe_of_the_2nd_place_shifts_on_the_device():
    config = make_config("run_dir=x", "experiment=birdclef2023_2nd/sed_v2s")
    stages = build_augment_stages(config.augment, config.frontend.log_mel)
    assert list(stages.waveform) == ["pitch_shift", "circular_shift"] and not stages.log_mel
