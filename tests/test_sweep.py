"""Runs side by side, and runs of one command line, some of which fail."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from typer.testing import CliRunner

from birdmix.app.cli import app
from birdmix.app.configure import write_config
from birdmix.app.out_of_fold import write_out_of_fold
from birdmix.app.summary import summarise
from birdmix.app.sweep import SweepSummary, one_of_many
from birdmix.labels import Labels
from birdmix.recordings.table import Recordings
from birdmix.training.judged import Judged
from birdmix.training.stops import Stopped
from tests.conftest import configured

FIGURE = "validation_macro_roc_auc"


def leave_run(directory: Path, *overrides: str, **figures: float) -> Path:
    """What a run leaves of its settings and figures; one without figures has not ended."""
    write_config(directory, configured(*overrides, f"run_dir={directory}"))
    if figures:
        (directory / "metrics.json").write_text(json.dumps(figures))
    return directory


def test_figures_are_averaged_over_folds_and_seeds_within_each_other_setting(tmp_path: Path):
    for number, (mix, fold, seed, value) in enumerate(
        [
            ("none", 0, 0, 0.5), ("none", 1, 0, 0.7), ("none", 0, 1, 0.6), ("none", 1, 1, 0.6),
            ("cutmix", 0, 0, 0.9), ("cutmix", 1, 0, 0.8),
        ]
    ):  # fmt: skip
        overrides = (f"mix={mix}", f"data.fold={fold}", f"seed={seed}")
        leave_run(tmp_path / str(number), *overrides, **{FIGURE: value})
    summary = summarise([tmp_path])
    assert {"seed", "data.fold", "mix.cutmix.prob"} <= set(summary.differing)
    assert "run_dir" not in summary.differing
    means = summary.averages().set_index("mix.cutmix.prob")
    assert means.loc["0.0", "runs"] == 4 and means[FIGURE].tolist() == pytest.approx([0.6, 0.85])
    assert means[f"{FIGURE}_deviation"].tolist() == pytest.approx([(0.02 / 3) ** 0.5, 0.005**0.5])


def test_the_table_has_a_row_for_every_run_in_the_order_of_their_numbers(tmp_path: Path):
    for fold in (10, 2, 0):
        leave_run(tmp_path / str(fold), "data.num_folds=11", f"data.fold={fold}")
    leave_run(tmp_path / "1", "data.num_folds=11", "data.fold=1", **{FIGURE: 0.5})
    rows = summarise([tmp_path]).rows
    assert [row.directory.name for row in rows] == ["0", "1", "2", "10"]
    assert [row.state for row in rows] == ["unfinished", "done", "unfinished", "unfinished"]


def test_a_run_that_fails_is_a_row_that_says_so_and_the_next_one_goes_on(tmp_path: Path, capsys):
    leave_run(tmp_path / "0", "data.fold=0", **{FIGURE: 0.5})
    with one_of_many(tmp_path / "1", ["data.fold=9", "mix=none"]):
        configured("data.fold=9", "run_dir=x")
    assert capsys.readouterr().err.startswith("error: run 1: data.fold=9: it is one of 0 .. 4")
    done, failed = summarise([tmp_path]).rows
    assert done.is_done and failed.state == "failed" and failed.settings["data.fold"] == "9"
    table = summarise([tmp_path]).table()
    assert table["data.fold"].tolist() == ["0", "9"] and "mix" not in table
    assert table[FIGURE].isna().tolist() == [False, True]


@pytest.mark.parametrize("name", ["metrics.json", "failed.json", "config.yaml"])
@pytest.mark.parametrize("text", [
    *("", "[1]", "[" * 3000, '{"a": [', "\0"),
    *('{"error": 5, "figure": "high"}', '{"a": {}, "overrides": 3}'),
])  # fmt: skip
def test_a_damaged_run_is_a_row_that_says_so(tmp_path: Path, name: str, text: str):
    leave_run(tmp_path / "0", **{FIGURE: 0.5})
    (leave_run(tmp_path / "1", **{FIGURE: 0.5}) / name).write_text(text)
    summary = summarise([tmp_path])
    summary.tell()
    summary.write(tmp_path / "summary.csv")
    one, two = summary.rows
    assert one.is_done
    assert two.state == "unreadable" and name in two.error and not two.figures


def test_an_end_that_was_asked_for_ends_all_runs(tmp_path: Path):
    with pytest.raises(Stopped), one_of_many(tmp_path, []):
        raise Stopped(143, "the end of epoch 1", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_sweep_ends_with_its_table_and_the_status_of_an_error_if_a_run_failed(
    tmp_path: Path, capsys
):
    for fold, value in enumerate((0.5, 0.7)):
        leave_run(tmp_path / str(fold), f"data.fold={fold}", **{FIGURE: value})
    sweep = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}, "mode": "MULTIRUN"}})
    SweepSummary().on_multirun_end(sweep)
    said = " ".join(capsys.readouterr().out.split())
    assert f"2 runs {FIGURE} 0.6000 ± 0.1414" in said
    leave_run(tmp_path / "2", "data.fold=2")
    with pytest.raises(SystemExit) as ended:
        SweepSummary().on_multirun_end(sweep)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "1 of 3 runs failed: 2\n"


def test_runs_from_anywhere_are_put_side_by_side(tmp_path: Path):
    one = leave_run(tmp_path / "a" / "one", "data.fold=0", **{FIGURE: 0.5})
    two = leave_run(tmp_path / "b" / "two", "data.fold=1", **{FIGURE: 0.7})
    out = tmp_path / "table.csv"
    done = CliRunner().invoke(app, ["summary", str(one), str(two.parent), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert pd.read_csv(out)["data.fold"].tolist() == [0, 1]
    nothing = CliRunner().invoke(app, ["summary", str(out)])
    assert nothing.exit_code == 2 and "no run here" in nothing.stderr


def test_held_out_predictions_of_all_folds_are_one_table(tmp_path: Path):
    labels = Labels(("a", "b"))
    for fold in range(2):
        recordings = Recordings.build(
            tmp_path, labels, path=[f"{fold}.wav", f"{fold}.wav"], codes=[("a",)] * 2,
            start=[np.nan, 5.0], end=[np.nan, 10.0],
        )  # fmt: skip
        truth, known = np.array([[1, 0], [0, 0.5]]), np.array([[True, True], [True, False]])
        logits = np.array([[2.0, -1], [fold, 0]])
        judged = Judged("validation", truth, known, logits)
        file = tmp_path / str(fold) / "out_of_fold.parquet"
        write_out_of_fold(file, [(recordings, judged)], fold)
    table = pd.concat(map(pd.read_parquet, sorted(tmp_path.glob("*/out_of_fold.parquet"))))
    assert table["path"].tolist() == ["0.wav", "0.wav", "1.wav", "1.wav"]
    assert table["fold"].tolist() == [0, 0, 1, 1] and set(table["set"]) == {"validation"}
    assert table["start_seconds"].isna().tolist() == [True, False] * 2
    assert table["end_seconds"].tolist()[1::2] == [10, 10]
    assert table["logit:a"].tolist() == [2, 0, 2, 1]
    assert table["truth:b"].isna().tolist() == [False, True] * 2
    assert list(table.filter(like="logit:")) == ["logit:a", "logit:b"]
