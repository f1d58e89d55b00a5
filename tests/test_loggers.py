"""Loggers: metrics of each epoch once, and figures, sounds and a table at the end."""

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

from birdmix.experiments.run_figures import class_table_markdown
from birdmix.labels import Labels
from birdmix.metrics.eval_result import EvalResult
from birdmix.training.loggers import RunLogger


def read_events(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run / "tensorboard")).Reload()


def test_an_epoch_that_is_trained_again_after_a_kill_is_logged_once(tmp_path: Path):
    first = RunLogger("tensorboard", tmp_path)
    for epoch in (1, 2, 3):
        first.on_epoch({"epoch": epoch, "train_loss": 10.0 * epoch}, {})
    resumed = RunLogger("tensorboard", tmp_path, epochs_done=1)
    for epoch in (2, 3):
        resumed.on_epoch({"epoch": epoch, "train_loss": 100.0 * epoch}, {})
    losses = read_events(tmp_path).Scalars("train_loss")
    assert [(each.step, each.value) for each in losses] == [(1, 10), (2, 200), (3, 300)]


def test_tensorboard_gets_figures_and_sounds_of_the_mixed_batch(finished_run: Path):
    events = read_events(finished_run)
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


def test_the_table_of_classes_has_empty_cells_for_undefined_metrics():
    truth, known = np.array([[1, 0], [0, 1], [1, 0]]), np.array([[1, 1], [1, 0], [1, 1]], bool)
    result = EvalResult("validation", truth, known, np.array([[2.0, 0], [1, 0], [3, 0]]))
    *_, first, second = class_table_markdown(Labels(("a", "b"), ("Ay", "Bee")), result).splitlines()
    assert first == "| a | Ay | 3 | 2 | 1.000 | 1.000 |"
    assert second == "| b | Bee | 2 | 0 |  |  |"


def test_out_of_fold_predictions_reproduce_the_metrics_of_the_run(finished_run: Path):
    table = pd.read_parquet(finished_run / "out_of_fold.parquet")
    metrics = json.loads((finished_run / "metrics.json").read_text())
    assert set(table["set"]) == {"validation_soundscape"} and len(table) == 12
    logits, truth = table.filter(like="logit:"), table.filter(like="truth:")
    assert logits.shape == truth.shape == (12, 12) and not truth.isna().any(axis=None)
    pairs = zip(truth.to_numpy().T, logits.to_numpy().T, strict=True)
    per_class = [roc_auc_score(target, logit) for target, logit in pairs if 0 < target.sum() < 12]
    expected = metrics["validation_soundscape_macro_roc_auc"]
    assert np.mean(per_class) == pytest.approx(expected, abs=1e-6)


def test_a_logger_that_is_not_installed_is_a_one_line_error(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match="loggers=wandb needs a package"):
        RunLogger("wandb", tmp_path)
