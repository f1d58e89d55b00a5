"""``python train.py`` run as a process: errors, help, sweeps, the default run."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, SMALL


def train(*overrides: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *overrides], capture_output=True, text=True
    )


def test_a_misspelt_key_is_reported_in_one_line_and_creates_no_folder(tmp_path: Path):
    done = train("+mix.mixup_porb=1", f"run_dir={tmp_path}/run")
    assert done.returncode == 2
    assert done.stderr == (
        "error: there is no setting 'mix.mixup_porb'; did you mean 'mix.mixup_prob'?\n"
    )
    assert not (tmp_path / "run").exists()


def test_an_override_with_a_missing_environment_variable_is_reported_in_one_line(tmp_path: Path):
    done = train(f"run_dir={tmp_path}/run", "data.root=${oc.env:NO_SUCH}")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: data.root=${oc.env:NO_SUCH}: Environment variable")
    assert done.stderr.count("\n") == 1 and not (tmp_path / "run").exists()


def test_a_failed_run_removes_the_folders_it_created_and_keeps_existing_ones(tmp_path: Path):
    (tmp_path / "existing").mkdir()
    for run in ("new/run", "existing", "existing/run"):
        done = train("data.source=typo", f"run_dir={tmp_path}/{run}")
        assert done.returncode == 2 and "data.source='typo' is unknown" in done.stderr
        assert [path.name for path in tmp_path.rglob("*")] == ["existing"]


def test_help_lists_examples_groups_and_settings():
    done = train("--help")
    assert done.returncode == 0
    for text in (
        "data=folder",
        "resume=",
        "mix: amplitude, both, cutmix, mixup",
        "mixup_prob: 0.7",
    ):
        assert text in done.stdout


@pytest.mark.slow
def test_each_run_of_a_sweep_has_a_run_directory(demo: Path, tmp_path: Path):
    done = train(
        "-m", "seed=1,2,-3", "trainer.max_epochs=1", *SMALL, f"data.root={demo}", "loggers=[]",
        f"run_dir={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.endswith("1 of 3 runs failed: 2\n")
    summary = (tmp_path / "summary.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in summary] == ["state", "done", "done", "failed"]
    for job in range(2):
        assert (tmp_path / str(job) / "bundle" / "bundle.json").is_file()
        assert f"seed: {job + 1}\n" in (tmp_path / str(job) / "config.yaml").read_text()


@pytest.mark.slow
def test_the_default_run_reaches_its_roc_auc(tmp_path: Path):
    import json

    done = train(f"data.root={tmp_path}/demo", f"run_dir={tmp_path}/run")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["soundscape_macro_roc_auc"] >= 0.87
