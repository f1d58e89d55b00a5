"""Front end: log-mels compared with librosa and torchaudio, PCEN, masks, attenuation, deltas."""

import dataclasses
import json
import sys
import threading
from collections.abc import Callable
from functools import cache

import librosa
import numpy as np
import pytest
import torch
import torchaudio
from torchaudio.functional import melscale_fbanks

from birdmix.frontend import log_mel
from birdmix.frontend.attenuation import attenuate_high_frequencies
from birdmix.frontend.deltas import append_deltas
from birdmix.frontend.log_mel import LogMel
from birdmix.frontend.log_mel_torch import TorchLogMel
from birdmix.frontend.masking import mask_spectrograms
from birdmix.frontend.settings import (
    AttenuationSettings,
    LogMelSettings,
    MaskingSettings,
    PcenSettings,
)
from birdmix.json_data import parse_dataclass

MakeLogMel = Callable[[LogMelSettings], torch.nn.Module]


def noise(batch_size: int = 2, num_samples: int = 32_000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(batch_size, num_samples, generator=generator)


def torch_log_mel(settings: LogMelSettings) -> TorchLogMel:
    """Return what ``LogMel`` runs on a GPU; here it runs on the CPU."""
    return LogMel(settings).on_device


@pytest.fixture(params=[LogMel, torch_log_mel], ids=["on CPUs", "on GPUs"])
def make_log_mel(request: pytest.FixtureRequest) -> MakeLogMel:
    return request.param


def fixed_to_decibel(x: torch.Tensor) -> np.ndarray:
    return (x * 80 - 80).numpy()


def test_a_tone_peaks_in_the_mel_bin_that_holds_it():
    settings = LogMelSettings()
    tone = torch.sin(2 * torch.pi * 4000 * torch.arange(32_000) / 32_000)
    peak = LogMel(settings)(tone[None])[0, 0].mean(dim=1).argmax()
    centres = librosa.mel_frequencies(settings.n_mels + 2, fmin=50, fmax=16_000)[1:-1]
    assert peak == np.abs(centres - 4000).argmin()


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
def test_log_mel_agrees_with_librosa_and_torchaudio(power: int, scale: str, pad_mode: str):
    settings = LogMelSettings(
        mel_scale=scale, normalise="fixed", f_min=20, power=power, pad_mode=pad_mode
    )
    wave = noise() * torch.tensor([[1.0], [1e-3]]) * torch.logspace(0, -5, 32_000)
    actual = fixed_to_decibel(LogMel(settings)(wave)[:, 0])
    common = {"n_fft": 2048, "hop_length": 512, "n_mels": 128, "norm": "slaney", "power": power}
    reference = librosa.feature.melspectrogram(
        y=wave.numpy(), sr=32_000, fmin=20, htk=scale == "htk", pad_mode=pad_mode, **common
    )
    to_db = librosa.power_to_db if power == 2 else librosa.amplitude_to_db
    reference = np.stack([to_db(each, top_db=80) for each in reference])
    assert np.abs(actual - reference).max() < 1e-3
    mel = torchaudio.transforms.MelSpectrogram(
        32_000, f_min=20, pad_mode=pad_mode, mel_scale=scale, **common
    )
    kind = "power" if power == 2 else "magnitude"
    decibel = torchaudio.transforms.AmplitudeToDB(kind, top_db=80)
    torchaudio_mel = decibel(mel(wave)[:, None])[:, 0].clamp(min=-100).numpy()
    assert np.abs(actual - torchaudio_mel).max() < 1e-3


def test_without_torchaudio_log_mels_are_equal_except_for_rounding(monkeypatch: pytest.MonkeyPatch):
    settings = LogMelSettings(normalise="fixed", offset=0, scale=1)  # decibels
    expected = LogMel(settings)(noise())
    monkeypatch.setitem(sys.modules, "torchaudio.functional", None)  # importing it fails
    # A cache of its own, so that other tests have torchaudio's filters again.
    monkeypatch.setattr(
        log_mel, "_import_melscale_fbanks", cache(log_mel._import_melscale_fbanks.__wrapped__)
    )
    with pytest.warns(UserWarning, match="birdmix computes the mel filters itself") as warned:
        actual, again = LogMel(settings)(noise()), LogMel(settings)(noise())
    assert len(warned) == 1 and torch.equal(actual, again)
    assert (actual - expected).abs().max() < 1e-3  # dB, as between torch and numpy


@pytest.mark.parametrize("start", ["first", "one"])
def test_pcen_agrees_with_librosa(start: str):
    pcen = PcenSettings(time_constant=0.3, gain=0.9, bias=3.0, power=0.4, eps=1e-5, start=start)
    settings = LogMelSettings(
        power=1, compression="pcen", pcen=pcen, normalise="fixed", offset=0, scale=1, hop_length=160
    )  # 401 frames: more than are smoothed at a time
    wave = noise(2, 64_000) * torch.tensor([[1.0], [1e-4]])
    actual = LogMel(settings)(wave)[:, 0].numpy()
    mel = librosa.feature.melspectrogram(
        y=wave.numpy(), sr=32_000, n_fft=2048, hop_length=160, n_mels=128, fmin=50, power=1
    )
    parameters = {"time_constant": 0.3, "gain": 0.9, "bias": 3.0, "power": 0.4, "eps": 1e-5}
    mel = mel * pcen.scale
    first = mel[..., :1] if start == "first" else np.ones_like(mel[..., :1])
    zi = (1 - pcen.smoothing_coefficient(200)) * first
    reference = [
        librosa.pcen(
            each, sr=32_000, hop_length=160, zi=one if start == "first" else None, **parameters
        )
        for each, one in zip(mel, zi, strict=True)
    ]
    np.testing.assert_allclose(actual, np.stack(reference), atol=1e-4)


def test_pcen_attenuates_a_steady_hum_more_than_a_short_call():
    hum = 0.1 * torch.sin(2 * torch.pi * 1000 * torch.arange(64_000) / 32_000)
    call = 0.01 * torch.sin(2 * torch.pi * 6000 * torch.arange(64_000) / 32_000)
    call[:40_000] = 0
    settings = LogMelSettings(power=1, compression="pcen", normalise="minmax")
    low, high = LogMel(settings)((hum + call)[None])[0, 0].tensor_split(2)
    at_call = 40_000 // 512 + 3
    assert high[:, at_call].max() > 2 * low[:, at_call].max()


def test_a_log_mel_is_float32_and_the_same_under_autocast(make_log_mel: MakeLogMel):
    log_mel, wave = make_log_mel(LogMelSettings()), noise()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mel = log_mel(wave)
    assert mel.dtype == torch.float32
    assert torch.equal(mel, log_mel(wave))


def test_fixed_normalisation_is_offset_and_scale_of_the_decibels():
    decibel = LogMel(LogMelSettings(normalise="fixed", offset=0, scale=1))(noise())
    by_255 = LogMel(LogMelSettings(normalise="fixed", offset=0, scale=255))(noise())
    assert torch.allclose(by_255, decibel / 255)
    assert torch.allclose(LogMel(LogMelSettings(normalise="fixed"))(noise()), (decibel + 80) / 80)


def test_minmax_scales_each_example_to_0_to_1():
    mel = LogMel(LogMelSettings(normalise="minmax"))(noise() * torch.tensor([[1.0], [1e-3]]))
    assert mel.amin(dim=(1, 2, 3)).tolist() == [0, 0]
    assert mel.amax(dim=(1, 2, 3)).tolist() == pytest.approx([1, 1], abs=1e-5)


@pytest.mark.parametrize("power", [1, 2])
def test_silence_is_at_minus_100_db_for_power_and_magnitude(power: int, make_log_mel: MakeLogMel):
    settings = LogMelSettings(power=power, normalise="fixed", offset=0, scale=1)
    torch.testing.assert_close(
        make_log_mel(settings)(torch.zeros(1, 4096)), torch.full((1, 1, 128, 9), -100.0)
    )


@pytest.mark.parametrize("compression", ["decibel", "pcen"])
def test_a_nan_example_does_not_affect_the_others(compression: str, make_log_mel: MakeLogMel):
    wave = noise(3)
    wave[1, 100] = torch.nan
    mel = make_log_mel(LogMelSettings(compression=compression))(wave)
    assert mel.isfinite().all(dim=-1).all(dim=-1)[:, 0].tolist() == [True, False, True]


def test_settings_are_restored_from_json():
    settings = LogMelSettings(compression="pcen", pcen=PcenSettings(gain=0.8), power=1)
    stored = json.loads(json.dumps(dataclasses.asdict(settings)))
    assert parse_dataclass(LogMelSettings, stored) == settings


@pytest.mark.parametrize(
    ("settings_class", "values", "message"),
    [
        (LogMelSettings, {"power": 3}, "power=3: it is 1"),
        (LogMelSettings, {"compression": "pcem"}, "compression='pcem' is unknown; did you mean"),
        (LogMelSettings, {"n_fft": 1023}, "n_fft=1023: it must be even"),
        (LogMelSettings, {"scale": 0}, "scale=0: it must be above 0"),
        (PcenSettings, {"eps": 0}, "eps=0: it must be above 0"),
        (PcenSettings, {"gain": 1.1}, r"gain=1.1: it lies in \[0, 1\]"),
        (AttenuationSettings, {"max_attenuation": 2}, "max_attenuation=2: it lies in"),
        (MaskingSettings, {"mel_prob": -1}, "mel_prob=-1: it lies in"),
        (MaskingSettings, {"num_time_masks": -1}, "num_time_masks=-1: it must be 0 or more"),
        (MaskingSettings, {"num_mel_masks": -1}, "num_mel_masks=-1: it must be 0 or more"),
        (
            LogMelSettings,
            {"compression": "pcen", "normalise": "fixed"},
            "offset=80 scale=80 are made for decibels .* use offset=0 scale=1 or normalise=st",
        ),
    ],
)
def test_an_invalid_setting_is_named_in_the_error(settings_class: type, values: dict, message: str):
    with pytest.raises(ValueError, match=message):
        settings_class(**values)


def test_too_few_samples_for_reflect_padding_raise_an_error():
    with pytest.raises(ValueError, match=r"pad_mode=reflect needs more than n_fft / 2 = 1024"):
        LogMel(LogMelSettings(pad_mode="reflect"))(noise(1, 1024))


def test_a_loud_example_does_not_change_a_quiet_one_of_its_batch(make_log_mel: MakeLogMel):
    quiet, loud = noise(1) * 1e-4, noise(1) * 10
    log_mel = make_log_mel(LogMelSettings())
    in_batch = log_mel(torch.cat([quiet, loud]))[:1]
    assert torch.equal(in_batch, log_mel(quiet))


def test_a_log_mel_on_a_cpu_depends_on_neither_its_batch_nor_the_number_of_threads():
    log_mel = LogMel(LogMelSettings())
    wave = noise(5) * torch.tensor([1.0, 1e-3, 10.0, 1e-2, 0.1])[:, None]
    one_by_one = torch.cat([log_mel(waveform[None]) for waveform in wave])
    assert torch.equal(torch.from_numpy(log_mel.on_cpu(wave.numpy(), num_threads=1)), one_by_one)
    assert torch.equal(torch.from_numpy(log_mel.on_cpu(wave.numpy(), num_threads=3)), one_by_one)


def test_log_mels_on_a_cpu_use_the_threads_of_torch(monkeypatch: pytest.MonkeyPatch):
    log_mel, threads = LogMel(LogMelSettings()), set()

    def write_thread(waveform: np.ndarray) -> np.ndarray:
        both.wait(10)  # returns once two waveforms are in work
        threads.add(threading.get_ident())
        return np.zeros((128, 63), np.float32)

    both = threading.Barrier(2)
    monkeypatch.setattr(log_mel.on_cpu, "_mel", write_thread)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    log_mel(noise(4))
    assert len(threads) == 2


def test_log_mels_of_no_waveforms_are_an_empty_tensor():
    assert LogMel(LogMelSettings())(torch.zeros(0, 32_000)).shape == (0, 1, 128, 63)


@pytest.mark.parametrize("n_mels", [1, 3, 300])  # fewer than blocks; filters without a bin
def test_any_number_of_mels_gives_the_dense_product(n_mels: int, make_log_mel: MakeLogMel):
    settings = LogMelSettings(n_mels=n_mels, normalise="fixed", n_fft=512, top_db=200)
    wave = noise(2)
    filters = melscale_fbanks(
        257, 50.0, 16_000.0, n_mels, 32_000, norm="slaney", mel_scale="slaney"
    )
    power = torch.stft(
        wave, 512, 512, window=torch.hann_window(512), pad_mode="constant", return_complex=True
    ).abs().square()  # fmt: skip
    dense = (power.mT @ filters).mT.clamp(min=1e-10).log10() * 10
    torch.testing.assert_close(
        make_log_mel(settings)(wave)[:, 0] * 80 - 80, dense, atol=1e-3, rtol=0
    )


def test_silence_is_finite():
    assert LogMel(LogMelSettings())(torch.zeros(1, 16_000)).isfinite().all()


def test_log_mels_have_num_frames_frames():
    settings = LogMelSettings(hop_length=500)
    assert LogMel(settings)(noise())[0, 0].shape == (128, settings.samples_to_num_frames(32_000))


def test_masked_cells_have_the_minimum_of_their_example():
    x = LogMel(LogMelSettings())(noise(8))
    settings = MaskingSettings(prob=1.0, num_time_masks=2, max_time_fraction=0.3)
    masked = mask_spectrograms(x, settings, np.random.default_rng(0))
    changed = masked != x
    assert changed.any()
    silence = x.amin(dim=(-2, -1), keepdim=True).expand_as(x)
    assert torch.equal(masked[changed], silence[changed])


def test_masks_differ_between_examples():
    x = torch.randn(4, 1, 20, 50)
    masked = mask_spectrograms(
        x, MaskingSettings(prob=1.0, max_time_fraction=0.5), np.random.default_rng(1)
    )
    assert len({tuple(each.flatten().tolist()) for each in (masked != x)}) == 4


def test_without_masks_the_input_itself_is_returned():
    x = torch.randn(2, 1, 8, 8)
    assert mask_spectrograms(x, MaskingSettings(prob=0.0), np.random.default_rng(0)) is x


def test_frequency_masks_cover_all_frames():
    x = torch.rand(64, 1, 20, 50)
    settings = MaskingSettings(prob=1.0, max_mel_fraction=0.5, mel_prob=0.5, time_prob=0.0)
    masked = mask_spectrograms(x, settings, np.random.default_rng(0)) != x
    rows = masked.any(dim=3)  # an example's minimum may lie in a masked row
    assert torch.all(masked.sum(dim=3)[rows] >= 49)
    assert 16 < rows.any(dim=2).sum() < 48


def test_a_mel_constant_in_time_has_deltas_of_0():
    mel = torch.rand(2, 1, 16, 1).expand(2, 1, 16, 30)
    channels = append_deltas(mel)
    assert torch.equal(channels[:, :1], mel)
    assert torch.equal(channels[:, 1:], torch.zeros(2, 2, 16, 30))


def test_deltas_agree_with_torchaudio_and_librosa_along_time():
    mel = torch.randn(2, 1, 16, 30)
    _, slope, second = append_deltas(mel).unbind(1)
    reference = torchaudio.functional.compute_deltas(mel[:, 0])
    torch.testing.assert_close(slope, reference)
    torch.testing.assert_close(second, torchaudio.functional.compute_deltas(reference))
    librosa_slope = librosa.feature.delta(mel[:, 0].numpy(), width=5, axis=-1, mode="nearest")
    np.testing.assert_allclose(slope.numpy(), librosa_slope, atol=1e-5)


@pytest.mark.parametrize("silence", [0.0, -4.0])
def test_attenuation_grows_linearly_up_to_a_bin_of_the_upper_half(silence: float):
    x = torch.full((200, 1, 40, 3), silence)
    x[..., 1:] += 1
    settings = AttenuationSettings(prob=1.0, max_attenuation=0.5)
    gain = attenuate_high_frequencies(x, settings, np.random.default_rng(0))[:, 0, :, 1] - silence
    loss = (1 - gain).double()
    assert torch.all(loss[:, 0] == 0)
    assert 0.49 < loss.max() <= 0.5 and loss[:, -1].mean() == pytest.approx(0.25, abs=0.03)
    attenuated = loss[loss[:, -1] > 0.02]
    # The first bin of the flat part.
    last_bin = (attenuated < attenuated[:, -1:] - 1e-5).sum(dim=1)
    assert set(last_bin.tolist()) == set(range(20, 40))
    line = (torch.arange(40) / last_bin[:, None]).clamp(max=1) * attenuated[:, -1:]
    torch.testing.assert_close(attenuated, line, atol=1e-5, rtol=0)


def test_attenuation_changes_neither_silence_nor_unselected_examples():
    x = LogMel(LogMelSettings())(noise(32))
    attenuated = attenuate_high_frequencies(
        x, AttenuationSettings(prob=0.5), np.random.default_rng(0)
    )
    assert torch.all(attenuated <= x)
    assert torch.equal(attenuated.amin(dim=(1, 2, 3)), x.amin(dim=(1, 2, 3)))
    untouched = (attenuated == x).flatten(1).all(dim=1).sum()
    assert 8 < untouched < 24


def test_without_attenuation_the_input_itself_is_returned():
    x = torch.randn(2, 1, 8, 8)
    assert attenuate_high_frequencies(x, AttenuationSettings(), np.random.default_rng(0)) is x
