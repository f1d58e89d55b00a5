"""Training runs: the files they write, what they refuse, and resuming."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from sklearn.metrics import roc_auc_score

from birdmix.bundle.manifest import read_manifest
from birdmix.config.resume_policy import new_or_resumed_config
from birdmix.config.schema import Config
from birdmix.experiments.run import run
from birdmix.experiments.run_console import format_time_shares
from birdmix.kaggle.submission_csv import read_aligned
from birdmix.recordings.settings import DataSettings
from tests.conftest import SMALL, make_config


def test_a_run_writes_all_its_files_and_leaves_no_partial_ones(finished_run: Path):
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


def test_the_final_metrics_contain_the_roc_auc_of_the_submission(finished_run: Path, demo: Path):
    metrics = json.loads((finished_run / "metrics.json").read_text())
    truth, probability = read_aligned(finished_run / "submission.csv", demo / "solution.csv")
    expected = [roc_auc_score(truth[c], probability[c]) for c in truth if truth[c].nunique() > 1]
    assert metrics["soundscape_macro_roc_auc"] == pytest.approx(np.mean(expected))
    assert metrics["epoch"] == 2


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.batch_size=2", "mix.mixup_double=0.5"], "data.batch_size=2: the mix joins 3"),
        (
            ["mix.hidden.mixup2_prob=1", "mix.hidden.layers=[input,layr2]"],
            "mix.hidden.layers: resnet10t has no layer 'layr2'; did you mean 'layer2'?",
        ),
        (
            ["mix.hidden.mixup2_prob=1", "mix.hidden.layers=[layer2]", "trainer.compile=true"],
            "'layer2' is inside the backbone, which trainer.compile=true compiles as a whole; use",
        ),
        (
            [
                *("model=timm", "model.backbone=legacy_xception"),
                *("mix.hidden.mixup2_prob=1", "mix.hidden.layers=[block2.rep.0]"),
            ],
            "'block2.rep.0' of legacy_xception is bypassed by a skip connection",
        ),
        (["mix=none", "mix.clean_weight=0.5"], "mix.clean_weight=0.5: nothing is mixed, so the"),
        (["loss.frame_weight=0.5"], "loss.frame_weight=0.5: this head computes no frame logits"),
        (["validation.monitor=validation_macro_auc"], "did you mean 'validation_macro_roc_auc'?"),
        (["data.fold=null", "validation.patience=3"], "need a validation set; hold out a fold"),
        (["data.fold=null", "checkpoint.best_k=1"], "need a validation set; hold out a fold"),
        (["loggers=[mlflow]"], "loggers=mlflow needs a package that is not installed"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_before_recordings_are_opened(
    overrides: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    config = make_config("data=folder", "data.root=/no/such/folder", "run_dir=x", *overrides)
    with pytest.raises(ValueError) as error:
        run(config, tmp_path / "run")
    assert expected in str(error.value)
    assert not (tmp_path / "run").exists()


def test_metrics_csv_has_a_row_per_epoch(finished_run: Path):
    metrics = pd.read_csv(finished_run / "metrics.csv")
    assert metrics["epoch"].tolist() == [1, 2]
    assert {"train_loss", "lr", "validation_soundscape_macro_roc_auc"} <= set(metrics.columns)


def test_the_submission_has_the_columns_of_the_sample_submission_and_a_row_per_window(
    finished_run: Path, demo: Path
):
    submission = pd.read_csv(finished_run / "submission.csv")
    solution = pd.read_csv(demo / "solution.csv")
    sample = pd.read_csv(demo / "sample_submission.csv")
    assert list(submission.columns) == list(sample.columns)
    assert sorted(submission["row_id"]) == sorted(solution["row_id"])
    probabilities = submission.drop(columns="row_id")
    assert probabilities.gt(0).all(axis=None) and probabilities.lt(1).all(axis=None)


def test_a_new_run_in_the_directory_of_another_run_is_refused(finished_run: Path, demo: Path):
    config = make_config(*SMALL, f"data.root={demo}", "run_dir=.")
    with pytest.raises(ValueError, match="already holds a run; resume it with resume="):
        run(config, finished_run)


def resume(run_dir: Path, *overrides: str) -> Config:
    """Return the settings that train.py makes of a command line that resumes a run."""
    arguments = [f"resume={run_dir}", *overrides]
    return new_or_resumed_config(
        OmegaConf.structured(make_config(*arguments, "run_dir=.")), arguments
    )


@pytest.fixture
def run_copy(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the small run's directory."""
    return shutil.copytree(finished_run, tmp_path / "copy")


def test_resuming_a_finished_run_only_writes_its_results_again(finished_run: Path, run_copy: Path):
    config = resume(run_copy)
    assert config.trainer.max_epochs == 2
    (run_copy / "metrics.json").unlink()
    run(config, run_copy)
    names = ("config.yaml", "metrics.csv", "metrics.json", "submission.csv")
    for name in (*names, "bundle/model.safetensors"):
        assert (run_copy / name).read_bytes() == (finished_run / name).read_bytes()
    assert json.loads((run_copy / "timings.json").read_text())["seconds"] > 0


def test_a_figure_that_fails_is_a_warning_after_all_other_files_are_written(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    shutil.rmtree(run_copy / "figures")
    (run_copy / "metrics.json").unlink()

    def fail(*_: object) -> None:
        assert json.loads((run_copy / "metrics.json").read_text())["epoch"] == 2
        raise MemoryError("no font\nfits")

    monkeypatch.setattr("birdmix.experiments.run_figures.draw_mixed_batch", fail)
    monkeypatch.setattr("birdmix.training.loggers.RunLogger.log_media", fail)
    run(resume(run_copy), run_copy)
    written = {path.name for path in (run_copy / "figures").glob("*.png")}
    assert written == {"learning_curves.png", "roc_auc_per_class.png"}
    printed = "".join(capsys.readouterr())
    figure = run_copy / "figures" / "mixed_batch.png"
    assert f"{figure} was not written, the rest of the run is complete: no font fits" in printed
    assert "the output of loggers=tensorboard was not written" in printed


def test_resume_accepts_settings_that_cannot_change_the_result(finished_run: Path):
    config = resume(
        finished_run, "data.num_workers=3", "loggers=[]", "trainer.max_time=9h",
        "checkpoint.every_minutes=1", "trainer.accelerator=cpu", "validation.threshold=precision",
    )  # fmt: skip
    assert config.data.num_workers == 3 and config.trainer.max_time == "9h"
    assert config.trainer.max_epochs == 2 and config.frontend.log_mel.n_mels == 32  # as in the run


def test_resume_accepts_the_command_line_of_the_run(finished_run: Path, demo: Path):
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
def test_resume_lists_the_settings_that_would_change_the_result(
    finished_run: Path, override: str, difference: str
):
    with pytest.raises(ValueError, match="would change the run: .*resume_force=true") as error:
        resume(finished_run, override)
    assert difference in str(error.value)


def test_resume_force_continues_and_keeps_the_former_settings_in_a_file(run_copy: Path, capsys):
    before = (run_copy / "config.yaml").read_text()
    run(resume(run_copy, "trainer.max_epochs=3", "resume_force=true"), run_copy)
    assert pd.read_csv(run_copy / "metrics.csv")["epoch"].tolist() == [1, 2, 3]
    assert (run_copy / "config.until-step-6.yaml").read_text() == before
    assert "max_epochs: 3" in (run_copy / "config.yaml").read_text()
    assert "continues with other settings: trainer.max_epochs 2 -> 3" in capsys.readouterr().out


def test_a_run_without_a_checkpoint_starts_again_from_the_beginning(
    run_copy: Path, finished_run: Path, capsys
):
    for name in ("last.ckpt", "previous.ckpt"):
        (run_copy / name).unlink(missing_ok=True)
    with pytest.raises(ValueError, match="there is no such checkpoint"):
        run(resume(run_copy), run_copy)  # two epochs were logged: the checkpoints were removed
    first = (run_copy / "metrics.csv").read_text().splitlines()[:2]
    (run_copy / "metrics.csv").write_text("\n".join(first) + "\n")
    run(resume(run_copy), run_copy)
    assert (
        "no checkpoint was saved; training starts again from the beginning"
        in capsys.readouterr().out
    )
    for name in ("metrics.csv", "bundle/model.safetensors"):
        assert (run_copy / name).read_bytes() == (finished_run / name).read_bytes()


def test_the_best_epochs_are_kept_and_the_best_becomes_the_bundle(demo: Path, tmp_path: Path):
    config = make_config(
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
    of_epoch, of_run = tmp_path / "best" / f"epoch-{best[0]:03d}", tmp_path / "bundle"
    weights = "model.safetensors"
    assert (of_epoch / weights).read_bytes() == (of_run / weights).read_bytes()
    thresholds = read_manifest(of_run).thresholds  # only the run's bundle has thresholds
    assert replace(read_manifest(of_epoch), thresholds=thresholds) == read_manifest(of_run)
    assert thresholds is not None and read_manifest(of_epoch).thresholds is None


def test_timings_csv_has_a_row_per_epoch(finished_run: Path):
    timings = pd.read_csv(finished_run / "timings.csv")
    assert timings["epoch"].tolist() == [1, 2]
    assert (timings["segments"] == 24).all() and (timings["model_seconds"] > 0).all()
    assert not [name for name in pd.read_csv(finished_run / "metrics.csv") if "seconds" in name]


def test_the_shares_of_time_are_printed_with_a_remedy_for_slow_loading():
    data = DataSettings(num_workers=0)
    fast_loading = format_time_shares(
        {"loading": 0.1, "model": 0.8, "mel": 0.1, "saving": 0.0}, data
    )
    assert fast_loading == "time: model 80 %, loading 10 %, mel 10 %"
    seconds = {"loading": 0.6, "model": 0.4}
    assert "loading 60 %, model 40 %; raise data.num_workers (0 now" in format_time_shares(
        seconds, data
    )
    data.num_workers = 1000
    assert "raise data.memory_gib" in format_time_shares(seconds, data)


def test_a_run_trains_on_a_folder_per_class_and_on_a_table(demo: Path, tmp_path: Path):
    audio = demo / "train_audio"
    small = (*SMALL, "trainer.max_epochs=1", "run_dir=.", "loggers=[]")
    folder = make_config(
        *small, "data=folder", f"data.root={audio}", "data.num_folds=2", "data.memory_gib=0"
    )
    metrics = run(folder, tmp_path / "folder")
    assert np.isfinite(metrics["validation_macro_roc_auc"])
    paths = sorted(path.relative_to(audio).as_posix() for path in audio.rglob("*.ogg"))
    rows = "".join(f"{path},{path.split('/')[0]},{i % 6}\n" for i, path in enumerate(paths))
    (audio / "table.csv").write_text("path,labels,group\n" + rows)
    csv = make_config(*small, "data=csv", f"data.table={audio / 'table.csv'}", "data.fold=null")
    try:
        assert "validation_loss" not in run(csv, tmp_path / "csv")
    finally:
        (audio / "table.csv").unlink()
    assert len(read_manifest(tmp_path / "csv" / "bundle").labels) == 12


def test_the_mixed_batch_is_drawn_with_partners_pools_and_injectors(demo: Path, tmp_path: Path):
    pools = f"data.pools={{noise: {{source: background, root: {demo}/test_soundscapes}}, "
    config = make_config(
        *SMALL, "mix=between_class", pools + "rare: {source: recordings, draw: class}}",
        "mix.partner_pool=rare", "mix.injectors=[{pool: noise, prob: 0.5, snr_db: [0, 20]}]",
        f"data.root={demo}", "trainer.max_epochs=1", "loggers=[]", "run_dir=.",
    )  # fmt: skip
    run(config, tmp_path / "run")
    assert (tmp_path / "run" / "figures" / "mixed_batch.png").is_file()
