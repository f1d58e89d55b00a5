"""A whole run: what it leaves behind, and what it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from birdmix.app.configure import configure
from birdmix.app.run import run
from birdmix.bundle.manifest import read_manifest
from birdmix.kaggle.submission import aligned
from tests.conftest import SMALL, configured


def test_a_run_leaves_everything_it_promises(finished_run: Path):
    names = {path.relative_to(finished_run).as_posix() for path in finished_run.rglob("*")}
    assert {
        "config.yaml",
        "metrics.csv",
        "metrics.json",
        "last.ckpt",
        "tensorboard",
        "submission.csv",
        "bundle/bundle.json",
        "bundle/model.safetensors",
        "figures/mixed_batch.png",
        "figures/learning_curves.png",
        "figures/roc_auc_per_class.png",
    } <= names
    assert not [name for name in names if "partial" in name]


def test_the_final_figures_hold_the_test_score(finished_run: Path, demo: Path):
    metrics = json.loads((finished_run / "metrics.json").read_text())
    truth, score = aligned(finished_run / "submission.csv", demo / "solution.csv")
    by_hand = [roc_auc_score(truth[c], score[c]) for c in truth if truth[c].nunique() > 1]
    assert metrics["soundscape_macro_roc_auc"] == pytest.approx(np.mean(by_hand))
    assert metrics["epoch"] == 2 and metrics["seconds"] > 0


def test_metrics_have_a_row_per_epoch(finished_run: Path):
    metrics = pd.read_csv(finished_run / "metrics.csv")
    assert metrics["epoch"].tolist() == [1, 2]
    assert {"train_loss", "lr", "validation_soundscape_macro_roc_auc"} <= set(metrics.columns)


def test_the_submission_has_the_samples_columns_and_a_row_per_window(
    finished_run: Path, demo: Path
):
    submission = pd.read_csv(finished_run / "submission.csv")
    solution = pd.read_csv(demo / "solution.csv")
    sample = pd.read_csv(demo / "sample_submission.csv")
    assert list(submission.columns) == list(sample.columns)
    assert sorted(submission["row_id"]) == sorted(solution["row_id"])
    scores = submission.drop(columns="row_id")
    assert scores.gt(0).all(axis=None) and scores.lt(1).all(axis=None)


def test_a_second_run_does_not_overwrite_the_first(finished_run: Path, demo: Path):
    config = configured(*SMALL, f"data.root={demo}", "run_dir=.")
    with pytest.raises(ValueError, match="holds a run already; go on with it by resume="):
        run(config, finished_run)


def test_a_finished_run_resumed_only_writes_its_results_again(finished_run: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(finished_run, copy)
    composed = configured(f"resume={copy}", "run_dir=.")
    from omegaconf import OmegaConf

    config = configure(OmegaConf.structured(composed), [f"resume={copy}"])
    assert config.trainer.max_epochs == 2
    run(config, copy)
    for name in ("metrics.csv", "submission.csv", "bundle/model.safetensors"):
        assert (copy / name).read_bytes() == (finished_run / name).read_bytes()


def test_resume_refuses_other_settings(finished_run: Path):
    from omegaconf import OmegaConf

    composed = OmegaConf.structured(configured(f"resume={finished_run}", "run_dir=."))
    with pytest.raises(ValueError, match=r"leave out seed=3"):
        configure(composed, [f"resume={finished_run}", "seed=3"])


def test_folders_and_tables_train_too(demo: Path, tmp_path: Path):
    audio = demo / "train_audio"
    small = (*SMALL, "trainer.max_epochs=1", "run_dir=.", "loggers=[]")
    folder = configured(
        *small, "data=folder", f"data.root={audio}", "data.num_folds=2", "data.memory_gib=0"
    )
    metrics = run(folder, tmp_path / "folder")
    assert np.isfinite(metrics["validation_macro_roc_auc"])
    everything = configured(*small, "data=folder", f"data.root={audio}", "data.fold=null")
    assert "validation_loss" not in run(everything, tmp_path / "everything")
    paths = sorted(path.relative_to(audio).as_posix() for path in audio.rglob("*.ogg"))
    rows = "".join(f"{path},{path.split('/')[0]},{i % 6}\n" for i, path in enumerate(paths))
    (audio / "table.csv").write_text("path,labels,group\n" + rows)
    csv = configured(*small, "data=csv", f"data.table={audio / 'table.csv'}", "data.num_folds=2")
    try:
        run(csv, tmp_path / "csv")
    finally:
        (audio / "table.csv").unlink()
    assert len(read_manifest(tmp_path / "csv" / "bundle").labels) == 12
