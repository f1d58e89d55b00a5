"""Submissions from the command line."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from birdmix.app.cli import app

runner = CliRunner()


def test_a_submission_is_the_one_the_run_wrote(
    bundle: Path, finished_run: Path, demo: Path, tmp_path: Path
):
    out = tmp_path / "submission.csv"
    call = ["submit", "--bundle", str(bundle), "--data", str(demo), "--out", str(out)]
    done = runner.invoke(app, call)
    assert done.exit_code == 0, done.output
    assert out.read_bytes() == (finished_run / "submission.csv").read_bytes()


def test_a_submission_follows_the_samples_columns(bundle: Path, demo: Path, tmp_path: Path):
    data = tmp_path / "competition"
    shutil.copytree(demo / "test_soundscapes", data / "test_soundscapes")
    sample = pd.read_csv(demo / "sample_submission.csv")
    columns = ["row_id", "unheard1", *sample.columns[:4:-1]]
    sample.assign(unheard1=0.1)[columns].to_csv(data / "sample_submission.csv", index=False)
    with pytest.warns(UserWarning, match="does not know 1 of .* species.*unheard1"):
        from birdmix.inference.engine import open_engine
        from birdmix.kaggle.submission import submit

        submit(open_engine(bundle), data, tmp_path / "s.csv")
    submission = pd.read_csv(tmp_path / "s.csv")
    assert list(submission.columns) == columns
    assert submission["unheard1"].to_list() == pytest.approx([1 / (len(columns) - 1)] * 24)
