"""Detection thresholds of a bundle, fitted on held-out data."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from birdmix.bundle.manifest import Manifest, read_manifest, write_manifest
from birdmix.frontend.settings import LogMelSettings
from birdmix.labels import Labels
from birdmix.metrics.eval_result import EvalResult
from birdmix.metrics.threshold_metrics import macro_f1
from birdmix.model.settings import ModelSettings
from birdmix.recordings.recordings_table import Recordings
from birdmix.training.settings import ValidationSettings
from birdmix.training.thresholds import Thresholds, fit_thresholds
from birdmix.training.validation import ValidationSet, choose_monitor

LABELS = Labels(("early", "late", "mixed", "absent"))
RECORDINGS = Recordings.build(Path(), LABELS, path=["a", "b", "c"], codes=[()] * 3)


def result(known: np.ndarray | None = None) -> EvalResult:
    """Four examples of four classes.

    Class early is ranked correctly, late in reverse, mixed half correctly; absent has no positives.
    """
    truth = np.array([[1, 0, 1, 0], [1, 0, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0.0]])
    probability = np.array([0.8, 0.6, 0.4, 0.2])[:, None] * np.ones(4)
    known = np.ones((4, 4), bool) if known is None else known
    return EvalResult("validation", truth, known, np.log(probability / (1 - probability)))


def test_thresholds_of_the_best_f1_lie_between_the_probabilities():
    thresholds = fit_thresholds(result(), ValidationSettings())
    # mixed: hit, miss, hit, miss has F1 2/3, 1/2, 4/5, 2/3; late is best detected always
    assert thresholds.per_class[:3] == pytest.approx([0.5, 0.2, 0.3])


def test_a_class_without_positives_gets_the_median():
    thresholds = fit_thresholds(result(), ValidationSettings())
    assert thresholds.per_class[3] == pytest.approx(0.3)
    line = "thresholds x: fitted for 3 of 4 classes; median 0.300 for 1 without held-out positives"
    assert thresholds.describe(LABELS, "x") == line
    no_positives = EvalResult("v", np.zeros((2, 4)), np.ones((2, 4), bool), np.zeros((2, 4)))
    assert (fit_thresholds(no_positives, ValidationSettings()).per_class == 0.5).all()


def test_a_class_below_the_target_precision_has_no_threshold():
    settings = ValidationSettings(threshold="precision", target_precision=0.6)
    thresholds = fit_thresholds(result(), settings)
    # early: 1, 1, 2/3, 1/2; late: 0, 0, 1/3, 1/2; mixed: 1, 1/2, 2/3, 1/2
    assert thresholds.per_class[[0, 2]] == pytest.approx([0.3, 0.3])
    assert np.isnan(thresholds.per_class[1]) and thresholds.per_class[3] == pytest.approx(0.3)
    assert "never detected: late" in thresholds.describe(LABELS, "of 0.6 precision")


def test_only_a_few_of_many_classes_without_a_threshold_are_named():
    codes = Labels(tuple(f"code{n:03d}" for n in range(202)))
    never = Thresholds(np.full(202, np.nan), np.ones(202, bool))
    assert never.describe(codes, "x").endswith(
        "202 never reach it and are never detected: "
        "code000, code001, code002, code003, code004, ... "
        "(all: null among the thresholds in bundle.json)"
    )


def test_unknown_labels_are_not_used_for_thresholds():
    known = np.ones((4, 4), bool)
    known[2:, 1] = False
    assert not fit_thresholds(result(known), ValidationSettings()).has_positives[1]


def test_a_manifest_stores_thresholds_and_their_absence(tmp_path: Path):
    about = (LABELS, LogMelSettings(), ModelSettings(), 5.0)
    for thresholds in ((0.25, None, 0.1 + 0.2, 1.0), None):
        write_manifest(tmp_path, Manifest(*about, thresholds=thresholds))
        assert read_manifest(tmp_path).thresholds == thresholds
    with pytest.raises(ValueError, match="1 thresholds for 4 labels"):
        Manifest(*about, thresholds=(0.5,))


def test_a_bundle_gets_the_thresholds_of_the_last_validation_set(finished_run: Path, demo: Path):
    manifest = read_manifest(finished_run / "bundle")
    assert manifest.thresholds is not None
    thresholds = np.array(manifest.thresholds, float)
    assert ((thresholds > 0) & (thresholds < 1)).all()
    table = pd.read_csv(finished_run / "submission.csv").set_index("row_id")
    metrics = json.loads((finished_run / "metrics.json").read_text())
    truth = pd.read_csv(demo / "solution.csv").set_index("row_id")
    codes = list(manifest.labels.codes)
    probability = table.loc[truth.index, codes].to_numpy()
    expected = macro_f1(truth[codes].to_numpy(), probability, thresholds)
    assert metrics["soundscape_tuned_macro_f1"] == pytest.approx(expected)
    assert "validation_soundscape_macro_f1" in metrics


def test_an_undefined_monitored_metric_is_refused_with_its_requirement():
    known = np.ones((3, 2), bool)
    no_positives = ValidationSet("validation", np.zeros((3, 2)), known, [], 0, RECORDINGS)
    with pytest.raises(ValueError, match="the validation set needs a class with both positive"):
        choose_monitor([no_positives], "validation_macro_roc_auc")
    assert choose_monitor([no_positives], None) == "validation_loss"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"threshold": "f2"}, "threshold='f2' is unknown; valid names: f1, precision"),
        ({"target_precision": 90.0}, r"target_precision=90.0: it must be in \(0, 1\]"),
    ],
)
def test_invalid_settings_are_refused(wrong: dict, message: str):
    with pytest.raises(ValueError, match=message):
        ValidationSettings(**wrong)
