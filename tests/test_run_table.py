"""Tables of runs, sweeps with runs that fail, and out-of-fold predictions."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from typer.testing import CliRunner

from birdmix.cli.main import app
from birdmix.config.run_config_file import write_config
from birdmix.experiments.run_table import read_run_table
from birdmix.experiments.sweep import SweepSummary, record_and_continue_on_error
from birdmix.labels import Labels
from birdmix.metrics.eval_result import EvalResult
from birdmix.recordings.recordings_table import Recordings
from birdmix.training.out_of_fold import write_out_of_fold
from birdmix.training.stop_requests import RunStopped
from tests.conftest import make_config

METRIC = "validation_macro_roc_auc"


def write_run(directory: Path, *overrides: str, **metrics: float) -> Path:
    """Write the settings and final metrics of a run; without metrics it has not ended."""
    write_config(directory, make_config(*overrides, f"run_dir={directory}"))
    if metrics:
        (directory / "metrics.json").write_text(json.dumps(metrics))
    return directory


def test_metrics_are_averaged_over_folds_and_seeds_for_each_combination_of_other_settings(
    tmp_path: Path,
):
    for number, (mix, fold, seed, value) in enumerate(
        [
            ("none", 0, 0, 0.5), ("none", 1, 0, 0.7), ("none", 0, 1, 0.6), ("none", 1, 1, 0.6),
            ("cutmix", 0, 0, 0.9), ("cutmix", 1, 0, 0.8),
        ]
    ):  # fmt: skip
        overrides = (f"mix={mix}", f"data.fold={fold}", f"seed={seed}")
        write_run(tmp_path / str(number), *overrides, **{METRIC: value})
    summary = read_run_table([tmp_path])
    assert {"seed", "data.fold", "mix.cutmix.prob"} <= set(summary.differing)
    assert "run_dir" not in summary.differing
    means = summary.means_over_folds_and_seeds().set_index("mix.cutmix.prob")
    assert means.loc["0.0", "runs"] == 4 and means[METRIC].tolist() == pytest.approx([0.6, 0.85])
    assert means[f"{METRIC}_deviation"].tolist() == pytest.approx([(0.02 / 3) ** 0.5, 0.005**0.5])


def test_the_table_has_a_row_for_every_run_ordered_by_number(tmp_path: Path):
    for fold in (10, 2, 0):
        write_run(tmp_path / str(fold), "data.num_folds=11", f"data.fold={fold}")
    write_run(tmp_path / "1", "data.num_folds=11", "data.fold=1", **{METRIC: 0.5})
    rows = read_run_table([tmp_path]).rows
    assert [row.directory.name for row in rows] == ["0", "1", "2", "10"]
    assert [row.state for row in rows] == ["unfinished", "done", "unfinished", "unfinished"]


def test_a_failed_run_is_a_row_with_its_error_and_the_next_run_continues(tmp_path: Path, capsys):
    write_run(tmp_path / "0", "data.fold=0", **{METRIC: 0.5})
    with record_and_continue_on_error(tmp_path / "1", ["data.fold=9", "mix=none"]):
        make_config("data.fold=9", "run_dir=x")
    assert capsys.readouterr().err.startswith("error: run 1: data.fold=9: it must be in 0 .. 4")
    done, failed = read_run_table([tmp_path]).rows
    assert done.is_done and failed.state == "failed" and failed.settings["data.fold"] == "9"
    table = read_run_table([tmp_path]).to_dataframe()
    assert table["data.fold"].tolist() == ["0", "9"] and "mix" not in table
    assert table[METRIC].isna().tolist() == [False, True]


@pytest.mark.parametrize("name", ["metrics.json", "failed.json", "config.yaml"])
@pytest.mark.parametrize("text", [
    *("", "[1]", "[" * 3000, '{"a": [', "\0"),
    *('{"error": 5, "figure": "high"}', '{"a": {}, "overrides": 3}'),
])  # fmt: skip
def test_a_run_with_a_damaged_file_is_a_row_with_its_error(tmp_path: Path, name: str, text: str):
    write_run(tmp_path / "0", **{METRIC: 0.5})
    (write_run(tmp_path / "1", **{METRIC: 0.5}) / name).write_text(text)
    summary = read_run_table([tmp_path])
    summary.log()
    summary.write_csv(tmp_path / "summary.csv")
    intact, damaged = summary.rows
    assert intact.is_done
    assert damaged.state == "unreadable" and name in damaged.error and not damaged.metrics


def test_a_stop_request_ends_all_runs_of_a_sweep(tmp_path: Path):
    with pytest.raises(RunStopped), record_and_continue_on_error(tmp_path, []):
        raise RunStopped(143, "the end of epoch 1", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_sweep_prints_its_table_and_exits_with_status_2_if_a_run_failed(tmp_path: Path, capsys):
    for fold, value in enumerate((0.5, 0.7)):
        write_run(tmp_path / str(fold), f"data.fold={fold}", **{METRIC: value})
    sweep = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}, "mode": "MULTIRUN"}})
    SweepSummary().on_multirun_end(sweep)
    output = " ".join(capsys.readouterr().out.split())
    assert f"2 runs {METRIC} 0.6000 ± 0.1414" in output
    write_run(tmp_path / "2", "data.fold=2")
    with pytest.raises(SystemExit) as ended:
        SweepSummary().on_multirun_end(sweep)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "1 of 3 runs failed: 2\n"


def test_birdmix_summary_reads_runs_in_several_folders(tmp_path: Path):
    one = write_run(tmp_path / "a" / "one", "data.fold=0", **{METRIC: 0.5})
    two = write_run(tmp_path / "b" / "two", "data.fold=1", **{METRIC: 0.7})
    out = tmp_path / "table.csv"
    done = CliRunner().invoke(app, ["summary", str(one), str(two.parent), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert pd.read_csv(out)["data.fold"].tolist() == [0, 1]
    failed = CliRunner().invoke(app, ["summary", str(out)])
    assert failed.exit_code == 2 and "no run here" in failed.stderr


def test_out_of_fold_predictions_of_all_folds_join_into_one_table(tmp_path: Path):
    labels = Labels(("a", "b"))
    for fold in range(2):
        recordings = Recordings.build(
            tmp_path, labels, path=[f"{fold}.wav", f"{fold}.wav"], codes=[("a",)] * 2,
            start=[np.nan, 5.0], end=[np.nan, 10.0],
        )  # fmt: skip
        truth, known = np.array([[1, 0], [0, 0.5]]), np.array([[True, True], [True, False]])
        logits = np.array([[2.0, -1], [fold, 0]])
        result = EvalResult("validation", truth, known, logits)
        file = tmp_path / str(fold) / "out_of_fold.parquet"
        write_out_of_fold(file, [(recordings, result)], fold)
    table = pd.concat(map(pd.read_parquet, sorted(tmp_path.glob("*/out_of_fold.parquet"))))
    assert table["path"].tolist() == ["0.wav", "0.wav", "1.wav", "1.wav"]
    assert table["fold"].tolist() == [0, 0, 1, 1] and set(table["set"]) == {"validation"}
    assert table["start_seconds"].isna().tolist() == [True, False] * 2
    assert table["end_seconds"].tolist()[1::2] == [10, 10]
    assert table["logit:a"].tolist() == [2, 0, 2, 1]
    assert table["truth:b"].isna().tolist() == [False, True] * 2
    assert list(table.filter(like="logit:")) == ["logit:a", "logit:b"]
