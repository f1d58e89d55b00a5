"""The front end: physics, parity with librosa and torchaudio, and masks."""

import librosa
import numpy as np
import pytest
import torch
import torchaudio
from torchaudio.functional import melscale_fbanks

from birdmix.frontend.log_mel import LogMel
from birdmix.frontend.masking import masking
from birdmix.frontend.settings import LogMelSettings, MaskingSettings


def noise(batch_size: int = 2, num_samples: int = 32_000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(batch_size, num_samples, generator=generator)


def fixed_to_decibel(x: torch.Tensor) -> np.ndarray:
    return (x * 80 - 80).numpy()


def test_a_tone_peaks_in_the_mel_bin_that_holds_it():
    settings = LogMelSettings()
    tone = torch.sin(2 * torch.pi * 4000 * torch.arange(32_000) / 32_000)
    peak = LogMel(settings)(tone[None])[0, 0].mean(dim=1).argmax()
    centres = librosa.mel_frequencies(settings.n_mels + 2, fmin=50, fmax=16_000)[1:-1]
    assert peak == np.abs(centres - 4000).argmin()


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_log_mel_agrees_with_librosa_and_torchaudio(scale: str):
    settings = LogMelSettings(mel_scale=scale, normalise="fixed", f_min=20)
    wave = noise()
    ours = fixed_to_decibel(LogMel(settings)(wave)[:, 0])
    common = {"n_fft": 2048, "hop_length": 512, "n_mels": 128, "norm": "slaney"}
    theirs = librosa.feature.melspectrogram(
        y=wave.numpy(), sr=32_000, fmin=20, htk=scale == "htk", pad_mode="constant", **common
    )
    theirs = np.stack([librosa.power_to_db(each, top_db=80) for each in theirs])
    assert np.abs(ours - theirs).max() < 1e-3
    mel = torchaudio.transforms.MelSpectrogram(
        32_000, f_min=20, pad_mode="constant", mel_scale=scale, **common
    )
    decibel = torchaudio.transforms.AmplitudeToDB(top_db=80)
    also = torch.cat([decibel(mel(each[None])) for each in wave]).numpy()
    assert np.abs(ours - also).max() < 1e-3


def test_a_loud_neighbour_does_not_change_a_quiet_sample():
    quiet, loud = noise(1) * 1e-4, noise(1) * 10
    log_mel = LogMel(LogMelSettings())
    together = log_mel(torch.cat([quiet, loud]))[:1]
    assert torch.equal(together, log_mel(quiet))


def test_a_mel_does_not_depend_on_the_rest_of_the_batch():
    log_mel = LogMel(LogMelSettings())
    wave = noise(5) * torch.tensor([1.0, 1e-3, 10.0, 1e-2, 0.1])[:, None]
    one_by_one = torch.cat([log_mel(clip[None]) for clip in wave])
    assert torch.allclose(log_mel(wave), one_by_one, atol=1e-5)


@pytest.mark.parametrize("n_mels", [1, 3, 300])  # fewer than blocks; filters without a bin
def test_any_number_of_mels_gives_the_dense_product(n_mels: int):
    settings = LogMelSettings(n_mels=n_mels, normalise="fixed", n_fft=512, top_db=200)
    wave = noise(2)
    filters = melscale_fbanks(
        257, 50.0, 16_000.0, n_mels, 32_000, norm="slaney", mel_scale="slaney"
    )
    power = torch.stft(
        wave, 512, 512, window=torch.hann_window(512), pad_mode="constant", return_complex=True
    ).abs().square()  # fmt: skip
    dense = (power.mT @ filters).mT.clamp(min=1e-10).log10() * 10
    torch.testing.assert_close(LogMel(settings)(wave)[:, 0] * 80 - 80, dense, atol=1e-3, rtol=0)


def test_silence_is_finite():
    assert LogMel(LogMelSettings())(torch.zeros(1, 16_000)).isfinite().all()


def test_the_number_of_frames_is_as_told():
    settings = LogMelSettings(hop_length=500)
    assert LogMel(settings)(noise())[0, 0].shape == (128, settings.num_frames(32_000))


def test_masks_land_on_the_samples_own_silence():
    x = LogMel(LogMelSettings())(noise(8))
    settings = MaskingSettings(prob=1.0, num_time_masks=2, max_time_share=0.3)
    masked = masking(x, settings, np.random.default_rng(0))
    changed = masked != x
    assert changed.any()
    silence = x.amin(dim=(-2, -1), keepdim=True).expand_as(x)
    assert torch.equal(masked[changed], silence[changed])


def test_masks_differ_from_sample_to_sample():
    x = torch.randn(4, 1, 20, 50)
    masked = masking(x, MaskingSettings(prob=1.0, max_time_share=0.5), np.random.default_rng(1))
    assert len({tuple(each.flatten().tolist()) for each in (masked != x)}) == 4


def test_without_masks_the_input_is_passed_on():
    x = torch.randn(2, 1, 8, 8)
    assert masking(x, MaskingSettings(prob=0.0), np.random.default_rng(0)) is x
