"""Figures of a run: mixed batches, learning curves, per-class ROC-AUC; fitting of text."""

from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from birdmix.frontend.log_mel import LogMel
from birdmix.frontend.settings import LogMelSettings
from birdmix.labels import Labels
from birdmix.report import style
from birdmix.report.clip_figure import spectrogram
from birdmix.report.learning_curves_figure import column_label, draw_learning_curves
from birdmix.report.mixed_batch_figure import (
    MixedExample,
    draw_mixed_batch,
    mel_centres,
    nearest_mel_bin,
)
from birdmix.report.roc_auc_figure import draw_roc_auc_per_class

_PNG = b"\x89PNG"
_PNG_END = b"IEND\xaeB`\x82"


@pytest.mark.parametrize("mel_scale", ["slaney", "htk"])
@pytest.mark.parametrize("hertz", [500, 1000, 4000, 8000])
def test_a_tick_lies_at_the_mel_bin_where_a_tone_of_its_frequency_peaks(mel_scale, hertz):
    settings = LogMelSettings(mel_scale=mel_scale)
    seconds = torch.arange(settings.sample_rate) / settings.sample_rate
    mel = LogMel(settings)(torch.sin(2 * torch.pi * hertz * seconds)[None])[0, 0]
    brightest = int(mel.mean(dim=1).argmax())
    assert abs(nearest_mel_bin(hertz, settings) - brightest) <= 1


def test_a_1_khz_tick_lies_at_the_bin_whose_centre_is_nearest_to_1_khz():
    settings = LogMelSettings()
    centres = mel_centres(settings)
    tick = nearest_mel_bin(1000, settings)
    assert centres.shape == (settings.n_mels,)
    assert abs(centres[tick] - 1000) == np.abs(centres - 1000).min()


def test_the_spectrogram_of_a_clip_agrees_with_librosa():
    waveform = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    decibel, highest = spectrogram(waveform, 32_000)
    reference = librosa.stft(waveform, n_fft=512, hop_length=256, window=np.hanning(512))
    assert highest == 16_000
    expected = librosa.amplitude_to_db(abs(reference), top_db=None)
    np.testing.assert_allclose(
        decibel, expected, atol=1e-3
    )  # float32, down to 50 dB below the loudest


def test_a_figure_of_a_mixed_batch_is_a_complete_file(tmp_path):
    path = tmp_path / "figures" / "batch.png"
    draw_mixed_batch(path, [_example(), _example()], LogMelSettings())
    _assert_complete(path)


def test_no_file_is_left_when_drawing_fails(tmp_path, monkeypatch):
    def fail_half_way(figure: Figure, path: Path, **kwargs: object) -> None:
        Path(path).write_bytes(_PNG)
        raise OSError("the disk is full")

    monkeypatch.setattr(Figure, "savefig", fail_half_way)
    with pytest.raises(OSError, match="the disk is full"):
        draw_mixed_batch(tmp_path / "batch.png", [_example()], LogMelSettings())
    assert list(tmp_path.iterdir()) == []


def test_a_spectrogram_of_other_settings_is_refused(tmp_path):
    with pytest.raises(ValueError, match="frontend"):
        draw_mixed_batch(tmp_path / "batch.png", [_example()], LogMelSettings(n_mels=64))


def test_one_epoch_draws_with_a_score_that_was_not_computed(tmp_path):
    path = tmp_path / "curves.png"
    metrics = pd.DataFrame(
        {
            "epoch": [1],
            "train_loss": [0.3],
            "lr": [1e-3],
            "validation_macro_roc_auc": [0.8],
            "validation_soundscape_macro_roc_auc": [np.nan],
        }
    )
    draw_learning_curves(path, metrics)
    _assert_complete(path)


def test_a_run_without_an_epoch_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"metrics\.csv"):
        draw_learning_curves(tmp_path / "curves.png", pd.DataFrame({"epoch": []}))


def test_the_name_of_a_curve_has_the_metric_and_the_data_set():
    assert column_label("validation_macro_roc_auc") == "macro ROC-AUC, held-out recordings"
    soundscape = column_label("validation_soundscape_macro_roc_auc")
    assert soundscape == "macro ROC-AUC, soundscape windows"


@pytest.mark.parametrize("num_scored", [0, 1, 60])
def test_a_figure_can_be_drawn_with_classes_that_cannot_be_scored(tmp_path, num_scored):
    path = tmp_path / "per_class.png"
    labels = Labels(tuple(f"species {c}" for c in range(num_scored + 2)))
    roc_auc = np.r_[np.linspace(0.3, 1.0, num_scored), np.nan, np.nan]
    num_positives = np.r_[np.full(num_scored, 5), 0, 9]
    draw_roc_auc_per_class(path, labels, roc_auc, num_positives, "Held-out recordings")
    _assert_complete(path)


def test_scores_of_another_label_set_are_refused(tmp_path):
    with pytest.raises(ValueError, match="2 classes"):
        draw_roc_auc_per_class(
            tmp_path / "per_class.png", Labels(("a", "b")), np.ones(3), np.ones(3), "Title"
        )


@pytest.mark.parametrize("max_lines", [1, 2])
def test_a_long_name_fits_its_width_and_keeps_its_gain(max_lines):
    name = "Black-crowned White-tailed Wandering Tattler-Thrush of the far north x 0.31"
    lines, size = style.fit_text(name, 2.0, 9.5, max_lines=max_lines)
    assert len(lines) <= max_lines
    assert max(style.text_width_inches(line, size) for line in lines) <= 2.0
    assert lines[-1].endswith("x 0.31")


LABELS = " + ".join(f"Black-crowned Tattler number {number}" for number in range(60))


@pytest.mark.parametrize("max_lines", [1, 2])
@pytest.mark.parametrize("text", [LABELS, 2000 * LABELS, 200_000 * "x"])
def test_text_of_any_length_is_fitted_with_little_layout(monkeypatch, max_lines, text):
    laid_out = []
    width_of = style._width_at_one_point.__wrapped__

    def count_letters(text: str, weight: str) -> float:
        laid_out.append(len(text))
        return width_of(text, weight)

    monkeypatch.setattr(style, "_width_at_one_point", count_letters)
    lines, size = style.fit_text(f"{text} x 0.31", 3.95, 9.5, max_lines=max_lines)
    assert len(lines) <= max_lines and lines[-1].endswith("x 0.31")
    assert "…" in "".join(lines)
    monkeypatch.undo()
    assert max(style.text_width_inches(line, size) for line in lines) <= 3.95
    assert sum(laid_out) < 30_000  # letters: about .1 s


def test_shortened_text_keeps_as_much_as_fits():
    lines, size = style.fit_text(LABELS, 3.95, 9.5)
    head, tail = lines[0].split("…")
    longer = f"{LABELS[: len(head) + 2]}…{LABELS[len(LABELS) - len(tail) :]}"
    assert style.text_width_inches(lines[0], size) <= 3.95 < style.text_width_inches(longer, size)
    assert LABELS.startswith(head) and LABELS.endswith(tail)


def test_a_figure_of_a_batch_with_many_labels_is_a_complete_file(tmp_path):
    mel = np.random.default_rng(0).standard_normal((128, 40))
    example = MixedExample(mel, (f"{LABELS} x 1.00",) * 9, dict.fromkeys(LABELS.split(" + "), 1.0))
    draw_mixed_batch(tmp_path / "batch.png", [example], LogMelSettings())
    _assert_complete(tmp_path / "batch.png")


def _example() -> MixedExample:
    mel = np.random.default_rng(0).standard_normal((128, 40))
    return MixedExample(mel, ("Rock Warbler x 1.00", "Rook x 0.40"), {"Rock Warbler": 1.0})


def _assert_complete(path: Path) -> None:
    content = path.read_bytes()
    assert content.startswith(_PNG) and content.endswith(_PNG_END)
    assert [other.name for other in path.parent.iterdir()] == [path.name]
