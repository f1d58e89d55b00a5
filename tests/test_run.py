"""A whole run: what it leaves behind, and what it refuses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from sklearn.metrics import roc_auc_score

from birdmix.app.configure import configure
from birdmix.app.console import time_line
from birdmix.app.run import run
from birdmix.app.schema import Config
from birdmix.bundle.manifest import read_manifest
from birdmix.kaggle.rows import aligned
from birdmix.recordings.settings import DataSettings
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
    assert metrics["epoch"] == 2


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


def resume(run_dir: Path, *overrides: str) -> Config:
    """What train.py makes of a command line that goes on with a run."""
    given = [f"resume={run_dir}", *overrides]
    return configure(OmegaConf.structured(configured(*given, "run_dir=.")), given)


@pytest.fixture
def copy(finished_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished_run, tmp_path / "copy")


def test_a_finished_run_resumed_only_writes_its_results_again(finished_run: Path, copy: Path):
    config = resume(copy)
    assert config.trainer.max_epochs == 2
    (copy / "metrics.json").unlink()
    run(config, copy)
    names = ("config.yaml", "metrics.csv", "metrics.json", "submission.csv")
    for name in (*names, "bundle/model.safetensors"):
        assert (copy / name).read_bytes() == (finished_run / name).read_bytes()
    assert json.loads((copy / "timings.json").read_text())["seconds"] > 0


def test_a_picture_that_fails_is_left_out_when_all_else_is_written(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    shutil.rmtree(copy / "figures")
    (copy / "metrics.json").unlink()

    def fail(*given: object) -> None:
        assert json.loads((copy / "metrics.json").read_text())["epoch"] == 2
        raise MemoryError("no font\nfits")

    monkeypatch.setattr("birdmix.app.figures.draw_mixed_batch", fail)
    monkeypatch.setattr("birdmix.training.loggers.RunLogger.show", fail)
    run(resume(copy), copy)
    left = {path.name for path in (copy / "figures").glob("*.png")}
    assert left == {"learning_curves.png", "roc_auc_per_class.png"}
    printed = "".join(capsys.readouterr())
    picture = copy / "figures" / "mixed_batch.png"
    assert f"{picture} was left out, the rest of the run is complete: no font fits" in printed
    assert "what loggers=tensorboard shows of the figures was left out" in printed


def test_resume_passes_what_cannot_change_the_result(finished_run: Path):
    config = resume(
        finished_run, "data.num_workers=3", "loggers=[]", "trainer.max_time=9h",
        "checkpoint.every_minutes=1", "trainer.accelerator=cpu", "validation.threshold=precision",
    )  # fmt: skip
    assert config.data.num_workers == 3 and config.trainer.max_time == "9h"
    assert config.trainer.max_epochs == 2 and config.frontend.log_mel.n_mels == 32  # the run's own


def test_resume_passes_the_same_command_line_again(finished_run: Path, demo: Path):
    config = resume(finished_run, *SMALL, f"data.root={demo}", "trainer.max_epochs=2", "mix=both")
    assert config.resume == str(finished_run)


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("seed=3", "seed 0 -> 3"),
        ("trainer.max_epochs=9", "trainer.max_epochs 2 -> 9"),
        ("mix=none", "mix.mixup_prob 0.7 -> 0.0"),
        ("data.memory_gib=0", "data.memory_gib 4.0 -> 0.0"),
        ("model.backbone_args.stem_width=4", "'stem_width': 8} -> "),
        ("experiment=esc10", "data.source demo -> folder"),
    ],
)
def test_resume_lists_what_would_change_the_result(
    finished_run: Path, override: str, difference: str
):
    with pytest.raises(ValueError, match="would change the run: .*resume_force=true") as error:
        resume(finished_run, override)
    assert difference in str(error.value)


def test_resume_force_goes_on_and_keeps_the_settings_of_before(copy: Path, capsys):
    before = (copy / "config.yaml").read_text()
    run(resume(copy, "trainer.max_epochs=3", "resume_force=true"), copy)
    assert pd.read_csv(copy / "metrics.csv")["epoch"].tolist() == [1, 2, 3]
    assert (copy / "config.until-step-6.yaml").read_text() == before
    assert "max_epochs: 3" in (copy / "config.yaml").read_text()
    assert "goes on with other settings: trainer.max_epochs 2 -> 3" in capsys.readouterr().out


def test_a_run_that_was_never_saved_starts_again(copy: Path, finished_run: Path, capsys):
    for name in ("last.ckpt", "previous.ckpt"):
        (copy / name).unlink(missing_ok=True)
    with pytest.raises(ValueError, match="there is no such checkpoint"):
        run(resume(copy), copy)  # two epochs were logged: somebody removed the checkpoints
    first = (copy / "metrics.csv").read_text().splitlines()[:2]
    (copy / "metrics.csv").write_text("\n".join(first) + "\n")
    run(resume(copy), copy)
    assert "was not saved before it ended; it starts again" in capsys.readouterr().out
    for name in ("metrics.csv", "bundle/model.safetensors"):
        assert (copy / name).read_bytes() == (finished_run / name).read_bytes()


def test_the_best_epochs_are_kept_and_one_of_them_becomes_the_bundle(demo: Path, tmp_path: Path):
    config = configured(
        *SMALL, f"data.root={demo}", "trainer.max_epochs=4", "run_dir=.", "loggers=[]",
        "checkpoint.best_k=2", "checkpoint.bundle=best", "validation.monitor=train_loss",
        "optim.lr=0.3",
    )  # fmt: skip
    run(config, tmp_path)
    losses = pd.read_csv(tmp_path / "metrics.csv").set_index("epoch")["train_loss"]
    best = losses.nsmallest(2).index.tolist()
    kept = sorted(path.name for path in (tmp_path / "best").iterdir())
    assert kept == sorted(f"epoch-{epoch:03d}" for epoch in best)
    assert read_manifest(tmp_path / "bundle").metrics["epoch"] == best[0]
    one, own = tmp_path / "best" / f"epoch-{best[0]:03d}", tmp_path / "bundle"
    weights = "model.safetensors"
    assert (one / weights).read_bytes() == (own / weights).read_bytes()
    thresholds = read_manifest(own).thresholds  # only the run's own bundle is given some
    assert replace(read_manifest(one), thresholds=thresholds) == read_manifest(own)
    assert thresholds is not None and read_manifest(one).thresholds is None


def test_timings_have_a_row_per_epoch(finished_run: Path):
    timings = pd.read_csv(finished_run / "timings.csv")
    assert timings["epoch"].tolist() == [1, 2]
    assert (timings["segments"] == 24).all() and (timings["model_seconds"] > 0).all()
    assert not [name for name in pd.read_csv(finished_run / "metrics.csv") if "seconds" in name]


def test_the_line_on_time_says_what_to_change_when_loading_leads():
    data = DataSettings(num_workers=0)
    quick = time_line({"loading": 0.1, "model": 0.8, "mel": 0.1, "saving": 0.0}, data)
    assert quick == "time: model 80 %, loading 10 %, mel 10 %"
    slow = {"loading": 0.6, "model": 0.4}
    assert "loading 60 %, model 40 %; raise data.num_workers (0 now" in time_line(slow, data)
    data.num_workers = 1000
    assert "raise data.memory_gib" in time_line(slow, data)


def test_folders_and_tables_train_too(demo: Path, tmp_path: Path):
    audio = demo / "train_audio"
    small = (*SMALL, "trainer.max_epochs=1", "run_dir=.", "loggers=[]")
    folder = configured(
        *small, "data=folder", f"data.root={audio}", "data.num_folds=2", "data.memory_gib=0"
    )
    metrics = run(folder, tmp_path / "folder")
    assert np.isfinite(metrics["validation_macro_roc_auc"])
    paths = sorted(path.relative_to(audio).as_posix() for path in audio.rglob("*.ogg"))
    rows = "".join(f"{path},{path.split('/')[0]},{i % 6}\n" for i, path in enumerate(paths))
    (audio / "table.csv").write_text("path,labels,group\n" + rows)
    csv = configured(*small, "data=csv", f"data.table={audio / 'table.csv'}", "data.fold=null")
    try:
        assert "validation_loss" not in run(csv, tmp_path / "csv")
    finally:
        (audio / "table.csv").unlink()
    assert len(read_manifest(tmp_path / "csv" / "bundle").labels) == 12
