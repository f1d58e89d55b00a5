"""What loggers are told: each epoch once, and in the end pictures, sounds and a table."""

import json
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from sklearn.metrics import roc_auc_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from birdmix.app.figures import classes_as_markdown
from birdmix.labels import Labels
from birdmix.training.judged import Judged
from birdmix.training.loggers import RunLogger


def told(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run / "tensorboard")).Reload()


def test_an_epoch_that_is_trained_again_after_a_kill_is_told_once(tmp_path: Path):
    first = RunLogger("tensorboard", tmp_path)
    for epoch in (1, 2, 3):
        first.on_epoch({"epoch": epoch, "train_loss": 10.0 * epoch}, {})
    resumed = RunLogger("tensorboard", tmp_path, epochs_done=1)
    for epoch in (2, 3):
        resumed.on_epoch({"epoch": epoch, "train_loss": 100.0 * epoch}, {})
    losses = told(tmp_path).Scalars("train_loss")
    assert [(each.step, each.value) for each in losses] == [(1, 10), (2, 200), (3, 300)]


def test_tensorboard_shows_and_plays_the_mixed_batch(finished_run: Path):
    events = told(finished_run)
    tags = events.Tags()
    assert {"mixed batch", "learning curves", "ROC-AUC per class"} <= set(tags["images"])
    assert len(tags["audio"]) == 4
    sound = events.Audio("mixed sounds/0")[0]
    waveform, rate = soundfile.read(BytesIO(sound.encoded_audio_string))
    assert rate == sound.sample_rate == 32_000 and len(waveform) == 5 * rate
    assert 0 < np.abs(waveform).max() <= 1
    text = events.Tensors("classes/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text.startswith("test soundscape windows\n\n| class | name | rows |")
    assert len(text.splitlines()) == 4 + 12


def test_a_class_is_told_with_its_rows_and_what_is_not_defined_left_out():
    truth, known = np.array([[1, 0], [0, 1], [1, 0]]), np.array([[1, 1], [1, 0], [1, 1]], bool)
    judged = Judged("validation", truth, known, np.array([[2.0, 0], [1, 0], [3, 0]]))
    *_, one, two = classes_as_markdown(Labels(("a", "b"), ("Ay", "Bee")), judged).splitlines()
    assert one == "| a | Ay | 3 | 2 | 1.000 | 1.000 |"
    assert two == "| b | Bee | 2 | 0 |  |  |"


def test_held_out_predictions_give_the_figures_of_the_run(finished_run: Path):
    table = pd.read_parquet(finished_run / "out_of_fold.parquet")
    metrics = json.loads((finished_run / "metrics.json").read_text())
    assert set(table["set"]) == {"validation_soundscape"} and len(table) == 12
    logits, truth = table.filter(like="logit:"), table.filter(like="truth:")
    assert logits.shape == truth.shape == (12, 12) and not truth.isna().any(axis=None)
    pairs = zip(truth.to_numpy().T, logits.to_numpy().T, strict=True)
    scored = [roc_auc_score(there, score) for there, score in pairs if 0 < there.sum() < 12]
    figure = metrics["validation_soundscape_macro_roc_auc"]
    assert np.mean(scored) == pytest.approx(figure, abs=1e-6)


def test_a_logger_that_is_not_installed_is_told_in_a_line(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match="loggers=wandb needs a package"):
        RunLogger("wandb", tmp_path)
