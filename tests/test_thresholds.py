"""The thresholds of a bundle: fitted on what was held out, of the weights that are kept."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from birdmix.bundle.manifest import Manifest, read_manifest, write_manifest
from birdmix.frontend.settings import LogMelSettings
from birdmix.labels import Labels
from birdmix.metrics.decisions import macro_f1
from birdmix.model.settings import ModelSettings
from birdmix.recordings.table import Recordings
from birdmix.training.judged import Judged
from birdmix.training.settings import ValidationSettings
from birdmix.training.thresholds import Thresholds, fit_thresholds
from birdmix.training.validate import ValidationSet, monitored_figure

LABELS = Labels(("early", "late", "mixed", "absent"))
RECORDINGS = Recordings.build(Path(), LABELS, path=["a", "b", "c"], codes=[()] * 3)


def judged(known: np.ndarray | None = None) -> Judged:
    """Four rows: one class is told by its score, one by its contrary, one half, one never sings."""
    truth = np.array([[1, 0, 1, 0], [1, 0, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0.0]])
    probability = np.array([0.8, 0.6, 0.4, 0.2])[:, None] * np.ones(4)
    known = np.ones((4, 4), bool) if known is None else known
    return Judged("validation", truth, known, np.log(probability / (1 - probability)))


def test_thresholds_of_the_best_f1_stand_between_the_scores():
    thresholds = fit_thresholds(judged(), ValidationSettings())
    # mixed: hit, miss, hit, miss has F1 2/3, 1/2, 4/5, 2/3; late has to be called always
    assert thresholds.values[:3] == pytest.approx([0.5, 0.2, 0.3])


def test_a_class_without_positives_takes_the_median():
    thresholds = fit_thresholds(judged(), ValidationSettings())
    assert thresholds.values[3] == pytest.approx(0.3)
    told = "thresholds x: fitted for 3 of 4, 1 without positives held out take the median, 0.300"
    assert thresholds.tell(LABELS, "x") == told
    nobody = Judged("v", np.zeros((2, 4)), np.ones((2, 4), bool), np.zeros((2, 4)))
    assert (fit_thresholds(nobody, ValidationSettings()).values == 0.5).all()


def test_a_class_that_is_never_precise_enough_is_never_called():
    settings = ValidationSettings(threshold="precision", target_precision=0.6)
    thresholds = fit_thresholds(judged(), settings)
    # early: 1, 1, 2/3, 1/2; late: 0, 0, 1/3, 1/2; mixed: 1, 1/2, 2/3, 1/2
    assert thresholds.values[[0, 2]] == pytest.approx([0.3, 0.3])
    assert np.isnan(thresholds.values[1]) and thresholds.values[3] == pytest.approx(0.3)
    assert "never called: late" in thresholds.tell(LABELS, "of 0.6 precision")


def test_of_many_classes_that_are_never_called_a_few_are_named():
    codes = Labels(tuple(f"code{n:03d}" for n in range(202)))
    never = Thresholds(np.full(202, np.nan), np.ones(202, bool))
    assert never.tell(codes, "x").endswith(
        "202 not precise at any, so never called: code000, code001, code002, code003, code004, ... "
        "(all: null among the thresholds in bundle.json)"
    )


def test_what_is_not_known_fits_no_threshold():
    known = np.ones((4, 4), bool)
    known[2:, 1] = False
    assert not fit_thresholds(judged(known), ValidationSettings()).heard[1]


def test_a_manifest_keeps_thresholds_and_those_that_are_none(tmp_path: Path):
    about = (LABELS, LogMelSettings(), ModelSettings(), 5.0)
    for thresholds in ((0.25, None, 0.1 + 0.2, 1.0), None):
        write_manifest(tmp_path, Manifest(*about, thresholds=thresholds))
        assert read_manifest(tmp_path).thresholds == thresholds
    with pytest.raises(ValueError, match="1 thresholds for 4 labels"):
        Manifest(*about, thresholds=(0.5,))


def test_a_run_gives_its_bundle_the_thresholds_of_the_last_validation_set(
    finished_run: Path, demo: Path
):
    manifest = read_manifest(finished_run / "bundle")
    assert manifest.thresholds is not None
    thresholds = np.array(manifest.thresholds, float)
    assert ((thresholds > 0) & (thresholds < 1)).all()
    table = pd.read_csv(finished_run / "submission.csv").set_index("row_id")
    metrics = json.loads((finished_run / "metrics.json").read_text())
    truth = pd.read_csv(demo / "solution.csv").set_index("row_id")
    codes = list(manifest.labels.codes)
    score = table.loc[truth.index, codes].to_numpy()
    by_hand = macro_f1(truth[codes].to_numpy(), score, thresholds)
    assert metrics["soundscape_tuned_macro_f1"] == pytest.approx(by_hand)
    assert "validation_soundscape_macro_f1" in metrics


def test_a_monitored_figure_without_a_scored_class_is_refused_with_what_is_lacking():
    known = np.ones((3, 2), bool)
    silent = ValidationSet("validation", np.zeros((3, 2)), known, [], 0, RECORDINGS)
    with pytest.raises(ValueError, match="what is held out has not a class with both positive"):
        monitored_figure([silent], "validation_macro_roc_auc")
    assert monitored_figure([silent], None) == "validation_loss"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"threshold": "f2"}, "threshold='f2' is unknown; there is: f1, precision"),
        ({"target_precision": 90.0}, r"target_precision=90.0: it must be in \(0, 1\]"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict, message: str):
    with pytest.raises(ValueError, match=message):
        ValidationSettings(**wrong)
