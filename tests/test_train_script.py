"""``python train.py`` and ``birdmix train`` run as processes: errors, help, sweeps, own YAML."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, SMALL


def train(*overrides: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *overrides], capture_output=True, text=True
    )


def birdmix_train(folder: Path, *overrides: str) -> subprocess.CompletedProcess:
    """Run ``birdmix train`` in a folder, with the package of this checkout."""
    call = [sys.executable, "-m", "birdmix", "train", *overrides]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True)


def write_own_mix(folder: Path, name: str) -> None:
    """Write an option of the group ``mix``."""
    (folder / "mix").mkdir(parents=True)
    (folder / "mix" / f"{name}.yaml").write_text("mixup_prob: 0.123\n")


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


@pytest.mark.parametrize("arguments", [("--help",), ("-m", "sed=1,2")])
def test_birdmix_train_does_what_train_py_does(tmp_path: Path, arguments: tuple[str, ...]):
    script, command = train(*arguments), birdmix_train(tmp_path, *arguments)
    assert command.stdout == script.stdout.replace("python train.py", "birdmix train")
    assert (command.stderr, command.returncode) == (script.stderr, script.returncode)


def test_options_in_a_folder_of_the_user_can_be_chosen(tmp_path: Path):
    write_own_mix(tmp_path / "my=conf", "mine")
    done = birdmix_train(tmp_path, "--config-dir", "my=conf", "mix=mine", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert "mixup_prob: 0.123\n" in done.stdout


def test_an_option_of_the_user_with_a_name_of_birdmix_is_refused(tmp_path: Path):
    write_own_mix(tmp_path / "my", "both")
    done = birdmix_train(tmp_path, "--config-dir", "my", "run_dir=run")
    assert done.returncode == 2
    assert done.stderr.endswith("birdmix has a mix/both.yaml of its own; give it another name\n")
    assert [path.name for path in tmp_path.iterdir()] == ["my"]


def test_help_lists_examples_groups_and_settings():
    done = train("--help")
    assert done.returncode == 0
    for text in (
        "data=folder",
        "resume=",
        "mix: amplitude, between_class, both, cutmix, manifold, mixup",
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
