"""``birdmix compare``: comparison files, comparable arms, paired scores, and continued work."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from birdmix.bundle.manifest import read_manifest
from birdmix.cli.main import app
from birdmix.config.run_config_file import read_config, write_config
from birdmix.experiments import run_series
from birdmix.experiments.comparison import comparison_output, test_sets
from birdmix.experiments.comparison.comparison_file import read_comparison
from birdmix.experiments.comparison.comparison_loop import ComparisonSeries, compare
from birdmix.experiments.comparison.mixture_predictions import MIXTURE_LOGITS
from birdmix.experiments.comparison.paired_scores import ALL, compare_scores
from birdmix.experiments.comparison.planned_runs import plan_phases
from birdmix.experiments.comparison.run_costs import peak_memory_gib, seconds_per_step
from birdmix.experiments.comparison.scored_sets import (
    ScoredSet,
    read_soundscapes,
    thresholds_of_other_folds,
)
from birdmix.experiments.run_directory import register_run_output_files
from birdmix.loading.run_data import open_data
from birdmix.messages import check_choice
from birdmix.metrics.ranking import macro_roc_auc
from birdmix.metrics.threshold_metrics import macro_f1
from birdmix.recordings.folds import split_by_fold
from birdmix.recordings.mixture_table import COLUMNS, MixtureManifest, MixtureSets
from birdmix.report.comparison_row import ComparisonRow
from birdmix.training.stop_requests import EXIT_TIME_LIMIT, RunStopped
from tests.conftest import ROOT, SMALL, make_config
from tests.recordings import read_folder, write_text, write_wave

TWO_ARMS = "control: none\narms: {none: [mix=none], mixup: [mix=mixup]}\n"


def write_file(folder: Path, text: str) -> Path:
    file = folder / "comparison.yaml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("control: none\narms: {none: [mix=none]}", "arms: 1 given; a comparison needs a control"),
        ("arms: {a: [mix=none], b: [mix=mixup]}", "control: name the arm"),
        (TWO_ARMS.replace("control: none", "control: nnoe"), "did you mean 'none'?"),
        (TWO_ARMS + "metrics: [macro_roc_uac]", "did you mean 'macro_roc_auc'?"),
        (TWO_ARMS + "metrics: [brier_score, brier_score]", "name one or more, each once"),
        (TWO_ARMS + "replicate: 2", "replicate is unknown; did you mean 'replicates'?"),
        (TWO_ARMS + "replicates: 0", "replicates=0: it must be a whole number of 1 or more"),
        (TWO_ARMS + "replicates: two", "replicates=two: it must be a whole number"),
        (TWO_ARMS + "screening: {seed: 0, keep: 1}", "its seeds are also reported"),
        (
            TWO_ARMS + "screening: {keep: 1}\nmetrics: [calibration_slope]",
            "put another metric first",
        ),
        (TWO_ARMS + "overrides: [seed=1]", "'seed=1' is set by the comparison; remove it"),
        (TWO_ARMS + "overrides: [data.fold=1]", "'data.fold=1' is set by the comparison"),
        (TWO_ARMS + "folds: true", "folds=True: write a list of folds"),
        (TWO_ARMS + "screening: {keep: 2}", "there are 1 arms besides the control"),
        (TWO_ARMS + "overrides: [resume=x]", "'resume=x' is set by the comparison; remove it"),
        (TWO_ARMS + "overrides: [seed]", "'seed' is no override; write key=value"),
        (TWO_ARMS + "different_steps: 1", "different_steps=1: it must be true or false"),
        (TWO_ARMS + "resamples: 10", "resamples=10: it must be a whole number of 1000 or more"),
        ("control: a\narms: {a: [mix=none], ../b: [mix=none]}", "'../b' is no name of an arm"),
        ("control: a\narms: {a: [mix=none], A: [mix=none]}", "differ in upper and lower case"),
        (
            "control: a\narms: {a: [mix=none], b: {control: inputs_onyl}}",
            "arms.b.control='inputs_onyl' is unknown; did you mean 'inputs_only'?",
        ),
        ("control: a\narms: {a: [mix=none], b: {stages: []}}", "write a list of lists"),
        ("- mixup", "not a mapping of settings"),
        ("control: [", "not readable as YAML"),
    ],
)
def test_a_wrong_comparison_file_is_refused(tmp_path: Path, text: str, expected: str):
    with pytest.raises(ValueError) as error:
        read_comparison(write_file(tmp_path, text))
    assert expected in str(error.value) and "comparison.yaml: " in str(error.value)


def test_controls_and_stages_of_an_arm_become_overrides(tmp_path: Path):
    text = (
        "control: a\narms:\n  a: [mix=none]\n  b: {overrides: [mix=mixup], control: resampling}\n"
        "  c: {stages: [[mix=both], [mix=none]], control: no_mixing}\n"
        "  d: {control: gain_and_noise}"
    )
    arms = read_comparison(write_file(tmp_path, text)).arms
    assert arms["b"].stages == (("mix=mixup", "mix.control=resampling"),)
    assert [stage[-1] for stage in arms["c"].stages] == ["mix.control=no_mixing"] * 2
    (gain_and_noise,) = arms["d"].stages
    config = make_config(*gain_and_noise)
    assert config.augment.gain.prob and config.augment.coloured_noise.prob


def test_replicates_of_the_demo_redraw_the_data_and_arms_share_them(tmp_path: Path):
    comparison = read_comparison(write_file(tmp_path, TWO_ARMS + "replicates: 2\nseed: 7"))
    _, phase = plan_phases(comparison, tmp_path, [None], is_demo=True)
    configs = [run.compose() for run in phase.runs()]
    assert [config.seed for config in configs] == [7, 7, 8, 8]  # replicate by replicate
    assert [config.data.demo.seed for config in configs] == [7, 7, 8, 8]
    assert len({config.data.root for config in configs}) == 2
    assert len({config.run_dir for config in configs}) == 4


def test_each_stage_begins_from_the_one_before(tmp_path: Path):
    text = "control: a\narms: {a: [mix=none], b: {stages: [[mix=both], [mix=mixup], [mix=none]]}}"
    comparison = read_comparison(write_file(tmp_path, text))
    _, phase = plan_phases(comparison, tmp_path, [0], is_demo=False)
    stages = list(phase.runs_of(comparison.arms["b"], 0, 0))
    assert [run.is_last for run in stages] == [False, False, True]
    assert [run.compose().init_from for run in stages] == [
        None, str(stages[0].directory), str(stages[1].directory)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of two classes with 8 recordings each, of 8 groups."""
    root = tmp_path_factory.mktemp("recordings")
    for code in ("low", "high"):
        for group in range(8):
            write_wave(root / code / f"g{group}_{code}.wav", 1.0)
    return root


def options(recordings: Path) -> list[str]:
    return [
        *(each for each in SMALL if "demo" not in each),
        *("data=folder", f"data.root={recordings}", r"data.group_pattern=^(g\d)"),
        *("data.num_folds=2", "data.segment_seconds=1", "trainer.max_epochs=1", "loggers=[]"),
        "data.batch_size=4",
    ]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.secondary_value=0.9", None),
        ("trainer.max_epochs=2", "arm mixup has 4 optimizer steps, the control none 2"),
        ("data.batch_size=8", "arm mixup has 1 optimizer step, the control none 2"),
        ("data.num_folds=4", "arm mixup has other training recordings than the control none"),
        ("data.negative=[low]", "arm mixup has other classes than the control none"),
        ("validation.patience=1", "ends runs after different numbers of steps"),
        ("checkpoint={best_k: 1, bundle: best}", "choose an epoch by the held-out recordings"),
        ("optim.lrr=1", "arm mixup: "),
        ("mix.control=resample", "arm mixup: mix.control='resample' is unknown"),
    ],
)
def test_arms_that_cannot_be_compared_are_refused_before_any_training(
    recordings: Path, tmp_path: Path, monkeypatch, override: str, expected: str | None
):
    def refuse(*arguments: object) -> dict:
        raise RuntimeError("training began")

    monkeypatch.setattr(run_series, "run", refuse)
    text = TWO_ARMS.replace("mix=mixup", f'mix=mixup, "{override}"')
    file = write_file(tmp_path, text + f"overrides: {json.dumps(options(recordings))}")
    with pytest.raises(ValueError if expected else RuntimeError) as error:
        compare(file, tmp_path / "out")
    assert (expected or "training began") in str(error.value)


class FakeRuns:
    """Replaces training by runs whose held-out logits have a given advantage by arm.

    Attributes:
        calls: Arms and seeds of the runs that were called.
        directories: Their run directories.
        failing: Name of a run directory whose run fails.
        stop_at: Number of the call that is stopped.
    """

    def __init__(self, advantage: dict[str, float]) -> None:
        self.advantage, self.calls, self.failing = advantage, [], ""
        self.directories: list[Path] = []
        self.stop_at = math.inf

    def __call__(self, config, directory: Path, make_hook: object = None) -> dict[str, float]:
        arm = directory.parent.name
        self.calls.append((arm, config.seed, config.data.fold))
        self.directories.append(directory)
        if directory.name == self.failing:
            check_choice("loss", "nan", ["finite"])  # an error of birdmix, as of a user
        if len(self.calls) >= self.stop_at:
            raise RunStopped(EXIT_TIME_LIMIT, "batch 1", directory)
        register_run_output_files(directory, is_resumed=False)
        write_config(directory, config)
        data = open_data(config.data, config.frontend.log_mel.sample_rate)
        held_out = data.validation["validation"]
        truth = held_out.targets()
        noise = np.random.default_rng(config.seed).standard_normal(truth.shape)
        logits = noise + self.advantage[arm] * (truth - 0.5)
        columns = {f"logit:{c}": logits[:, at] for at, c in enumerate(data.labels.codes)}
        columns |= {f"truth:{c}": truth[:, at] for at, c in enumerate(data.labels.codes)}
        frame = pd.DataFrame({"path": held_out.paths, "set": "validation"} | columns)
        frame.to_parquet(directory / "out_of_fold.parquet")
        (directory / "metrics.json").write_text(json.dumps({"validation_macro_roc_auc": 0.5}))
        return {}


@pytest.fixture
def fake_runs(monkeypatch: pytest.MonkeyPatch) -> FakeRuns:
    """Fake runs, without the page and the plot, which take most of the time."""
    runs = FakeRuns({"none": 0.0, "mixup": 30.0, "worse": -30.0, "same": 0.0})
    monkeypatch.setattr(run_series, "run", runs)
    monkeypatch.setattr(comparison_output, "draw_forest_plot", lambda path, *_: path.touch())
    monkeypatch.setattr(comparison_output, "write_comparison_page", lambda *_: None)
    return runs


FAST = "metrics: [macro_roc_auc]\n"
ARMS = TWO_ARMS.replace("}", ", worse: [mix=both], same: [mix=cutmix]}") + FAST


def test_gains_losses_and_ties_are_in_the_table_and_on_the_page(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fake = FakeRuns({"none": 0.0, "mixup": 30.0, "worse": -30.0, "same": 0.0})
    monkeypatch.setattr(run_series, "run", fake)
    out = tmp_path / "out"
    call = ["compare", str(write_file(tmp_path, ARMS)), *options(recordings), "--out", str(out)]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    table = pd.read_csv(out / "comparison.csv")
    auc = table[table["metric"] == "macro_roc_auc"].set_index("arm")
    assert auc.loc["mixup", "value"] == 1 and auc.loc["worse", "value"] == 0
    assert auc["verdict"].to_dict() == {
        "none": "control", "mixup": "better", "worse": "worse", "same": "no difference shown"
    }  # fmt: skip
    assert (auc["num"] == 8).all()  # groups, not folds or recordings
    page = (out / "comparison.html").read_text(encoding="utf-8")
    for text in ("better", "worse", "no difference shown", "folds are not treated as independent"):
        assert text in page
    assert options(recordings)[0] in page  # overrides of the command line
    printed = " ".join(done.output.split())
    assert "bootstrap over groups, as folds are not independent" in printed
    for text in ("better", "worse"):
        assert text in printed
    assert len(pd.read_csv(out / "runs.csv")) == 8
    assert (out / "forest_plot.png").stat().st_size > 10_000


def row(arm: str, difference: float, better: str | None = "higher") -> ComparisonRow:
    """Return a row of the headline, in which the control has .5."""
    return ComparisonRow(
        *("test", ALL, "macro_roc_auc", "ROC-AUC", better, arm, arm == "none"),
        *(0.5 + difference, 0.5, difference, *[math.nan] * 4, 2, "student"),
    )


@pytest.mark.parametrize(("better", "best"), [("higher", "mixup"), ("lower", "worse")])
def test_a_screening_keeps_the_control_and_the_best_arms(tmp_path: Path, better: str, best: str):
    text = ARMS + "screening: {replicates: 2, keep: 1}\nreplicates: 3\n"
    series = ComparisonSeries(read_comparison(write_file(tmp_path, text)), tmp_path, None, 0.0)
    assert series.screening is not None
    assert not set(series.screening.seeds) & set(series.reported.seeds)
    rows = [row("none", math.nan, better), row("mixup", 0.2, better), row("worse", -0.2, better)]
    kept = series._choose_arms([*rows, row("same", math.nan, better)])
    assert [arm.name for arm in kept] == ["none", best]


def test_seeds_of_a_screening_stay_when_replicates_are_added(tmp_path: Path):
    seeds = {
        replicates: read_comparison(
            write_file(tmp_path, ARMS + f"screening: {{keep: 1}}\nreplicates: {replicates}")
        ).screening.seeds  # type: ignore[union-attr]
        for replicates in (2, 5)
    }
    assert seeds[2] == seeds[5]


def test_a_screening_on_the_rows_that_are_reported_is_refused(recordings: Path, tmp_path: Path):
    file = write_file(tmp_path, ARMS + "screening: {keep: 1}")
    with pytest.raises(ValueError, match="screening: these data have the same held-out record"):
        compare(file, tmp_path / "out", options(recordings))


def test_overrides_of_a_screening_and_of_the_command_line_replace_those_of_arms(tmp_path: Path):
    text = TWO_ARMS.replace("mix=mixup", "mix=mixup, trainer.max_epochs=9, data.batch_size=9")
    text += "screening: {keep: 1, overrides: [trainer.max_epochs=2]}"
    comparison = read_comparison(write_file(tmp_path, text), ["data.batch_size=7"])
    screening, reported = plan_phases(comparison, tmp_path, [None], is_demo=True)
    assert screening is not None
    epochs = []
    for phase in (screening, reported):
        config = next(phase.runs_of(comparison.arms["mixup"], 0, None)).compose()
        assert config.data.batch_size == 7
        epochs.append(config.trainer.max_epochs)
    assert epochs == [2, 9]


def test_a_stage_is_not_trained_after_a_stage_that_failed(
    recordings: Path, tmp_path: Path, fake_runs: FakeRuns
):
    text = "control: none\narms: {none: [mix=none], two: {stages: [[mix=both], [mix=none]]}}\n"
    file, out = write_file(tmp_path, text + FAST + "different_steps: true"), tmp_path / "out"
    fake_runs.advantage["two"] = 1.0
    fake_runs.failing = "seed-0-fold-0-stage-1"
    compare(file, out, options(recordings))
    names = [directory.name for directory in fake_runs.directories]
    assert names.count("seed-0-fold-0") == 1  # of the control alone
    runs = pd.read_csv(out / "runs.csv").set_index("run")
    assert runs.loc["replicates/two/seed-0-fold-0", "state"] == "failed"
    assert set(pd.read_csv(out / "comparison.csv")["arm"]) == {"none"}
    fake_runs.failing = ""
    compare(file, out, options(recordings))
    assert set(pd.read_csv(out / "comparison.csv")["arm"]) == {"none", "two"}


def test_runs_on_data_that_changed_since_are_not_compared(
    recordings: Path, tmp_path: Path, fake_runs: FakeRuns
):
    out = tmp_path / "out"
    compare(write_file(tmp_path, TWO_ARMS + FAST), out, options(recordings))
    other = tmp_path / "other"
    for file in recordings.rglob("*.wav"):
        name = file.name.replace("low", "lower")
        write_wave(other / file.parent.name / name, 1.0)
    changed = [each.replace(str(recordings), str(other)) for each in options(recordings)]
    with pytest.raises(ValueError, match="not held out now; restore the data"):
        compare(write_file(tmp_path, ARMS), out, changed)


def write_mixture_table(folder: Path, recordings: Path, *, swap_folds: bool = False) -> Path:
    """Write test mixtures of the recordings without sound: their table and manifest."""
    source = read_folder(recordings, group_pattern=r"^(g\d)", num_folds=2)
    lines = []
    for fold in (0, 1):
        _, held_out = split_by_fold(source, 2, fold)
        by_code = {code: [] for code in ("low", "high")}
        for path in held_out.paths:
            by_code[path.split("/")[0]].append(path)
        for number, (low, high) in enumerate(zip(*by_code.values(), strict=True)):
            bed = by_code["low"][number - 1]
            for name, sources, bed_path in (
                ("single", [low], ""),
                ("single", [high], ""),
                ("two_or_three", [low, high], ""),
                ("three_or_four", [low, high], bed),
                ("three_or_four", [low], bed),
            ):
                file = folder / name / f"fold{fold}-{number}-{len(sources)}-{sources[0][:3]}.flac"
                write_text(file, "")
                cells = {
                    "path": file.relative_to(folder).as_posix(),
                    "set": name,
                    "fold": 1 - fold if swap_folds else fold,
                    "labels": ";".join(each.split("/")[0] for each in sources),
                    "num_sources": len(sources),
                    "sources": ";".join(sources),
                    "groups": ";".join(each.split("/")[1][:2] for each in sources),
                    "snr_db": ";".join(["0.0"] * len(sources)) if len(sources) > 1 else "",
                    "bed": bed_path,
                    "bed_group": bed_path and bed_path.split("/")[1][:2],
                }
                lines.append(dict.fromkeys(COLUMNS, "") | cells)
    pd.DataFrame(lines).to_csv(folder / "mixtures.csv", index=False)
    manifest = MixtureManifest(
        *(1, 0, 4, 8000, 1.0, ("high", "low"), "folder", str(recordings), None, 2, "auto", None),
        *(None, "", {}, "digest"),
    )
    (folder / "mixtures.json").write_text(json.dumps(asdict(manifest)))
    return folder


def predict_with_thresholds(directory: Path, mixtures: MixtureSets) -> bool:
    """Write logits of mixtures that are as large as the truth says."""
    paths = [
        path.relative_to(mixtures.folder).as_posix()
        for each in mixtures.sets.values()
        for path in each.paths
    ]
    truth = np.concatenate([each.truth for each in mixtures.sets.values()])
    columns = {f"logit:{c}": truth[:, at] for at, c in enumerate(mixtures.labels.codes)}
    frame = pd.DataFrame({"path": paths} | columns)
    frame.to_parquet(directory / MIXTURE_LOGITS)
    return True


def test_mixtures_lead_the_output_and_those_that_are_trained_on_are_refused(
    recordings: Path, tmp_path: Path, fake_runs: FakeRuns, monkeypatch: pytest.MonkeyPatch
):
    folder = write_mixture_table(tmp_path / "mixtures", recordings)
    monkeypatch.setattr(test_sets, "predict_mixtures", predict_with_thresholds)
    file, out = write_file(tmp_path, TWO_ARMS + FAST), tmp_path / "out"
    compare(file, out, options(recordings), mixtures=folder)
    table = pd.read_csv(out / "comparison.csv")
    assert list(table["test_set"].unique()) == [
        *("three_or_four", "single", "two_or_three", "held_out")
    ]
    first = table[(table["arm"] == "mixup") & (table["stratum"] == ALL)].iloc[0]
    assert (first["value"], first["method"], first["num"]) == (1.0, "jackknife", 8)
    wrong = write_mixture_table(tmp_path / "wrong", recordings, swap_folds=True)
    with pytest.raises(ValueError, match="is trained on, which makes metrics too good"):
        compare(file, tmp_path / "second", options(recordings), mixtures=wrong)


def test_a_stopped_comparison_continues_where_it_was(
    recordings: Path, tmp_path: Path, fake_runs: FakeRuns
):
    file, out = write_file(tmp_path, ARMS), tmp_path / "out"
    fake_runs.stop_at = 4
    with pytest.raises(SystemExit) as stopped:
        compare(file, out, options(recordings))
    assert stopped.value.code == EXIT_TIME_LIMIT
    fake_runs.stop_at = math.inf
    compare(file, out, options(recordings))
    assert len(fake_runs.calls) == 4 * 2 + 1  # only the stopped run was repeated
    whole = (out / "comparison.csv").read_bytes()
    compare(file, out, options(recordings))
    assert len(fake_runs.calls) == 9 and (out / "comparison.csv").read_bytes() == whole


def test_arms_may_be_added_and_changed_arms_are_refused(
    recordings: Path, tmp_path: Path, fake_runs: FakeRuns
):
    out = tmp_path / "out"
    compare(write_file(tmp_path, TWO_ARMS + FAST), out, options(recordings))
    compare(write_file(tmp_path, ARMS), out, options(recordings))
    assert len(fake_runs.calls) == 8
    changed = ARMS.replace("[mix=mixup]", "[mix=mixup, mix.mixup_prob=0.1]")
    with pytest.raises(ValueError, match=r"mixup/seed-0-fold-0 holds a run with other settings: "):
        compare(write_file(tmp_path, changed), out, options(recordings))


def test_a_comparison_does_not_replace_files_of_a_user(
    recordings: Path, tmp_path: Path, fake_runs: FakeRuns
):
    (tmp_path / "out").mkdir()
    for name, message in (
        ("comparison.csv", "name another folder for --out"),
        ("thesis.txt", "it holds other files than those of a comparison"),
    ):
        (tmp_path / "out" / name).write_text("mine")
        with pytest.raises(ValueError, match=message):
            compare(write_file(tmp_path, TWO_ARMS), tmp_path / "out", options(recordings))
        assert [file.name for file in (tmp_path / "out").iterdir()] == [name]
        assert (tmp_path / "out" / name).read_text() == "mine" and not fake_runs.calls
        (tmp_path / "out" / name).unlink()


def scored(truth: np.ndarray, logits: np.ndarray, **fields) -> ScoredSet:
    groups = fields.pop("groups", [(str(row),) for row in range(len(truth))])
    keys = fields.pop("keys", [str(row) for row in range(len(truth))])
    return ScoredSet(truth, np.ones(truth.shape, bool), logits, groups, keys, **fields)


def rows_of(results: list[ComparisonRow], stratum: str = ALL) -> dict[str, ComparisonRow]:
    return {row.arm: row for row in results if row.stratum == stratum}


def test_independent_replicates_have_students_interval_of_paired_differences():
    rng = np.random.default_rng(0)
    scores: dict = {"a": {}, "b": {}}
    for seed in range(3):
        truth = rng.random((40, 3)) < 0.4
        for arm in scores:
            logits = rng.standard_normal(truth.shape) + (arm == "b") * truth
            scores[arm][seed] = {"test": scored(truth, logits)}
    results = compare_scores(scores, "a", ["macro_roc_auc"], independent=True, num_resamples=1000)
    values = np.array(
        [
            [macro_roc_auc(s["test"].truth, s["test"].logits) for s in scores[arm].values()]
            for arm in ("a", "b")
        ]
    )
    differences = values[1] - values[0]
    row = rows_of(results)["b"]
    assert row.difference == pytest.approx(differences.mean())
    half_width = 4.302653 * differences.std(ddof=1) / math.sqrt(3)  # t of 2 degrees of freedom
    assert (row.low, row.high) == pytest.approx(
        (differences.mean() - half_width, differences.mean() + half_width), rel=1e-6
    )
    assert row.method == "student" and row.num == 3


def test_one_replicate_gives_no_interval():
    truth = np.array([[True], [False], [True]])
    logits = np.array([[1.0], [0.0], [2.0]])
    scores = {
        arm: {0: {"test": scored(truth, logits * sign)}} for arm, sign in (("a", 1), ("b", -1))
    }
    results = compare_scores(scores, "a", ["macro_roc_auc"], independent=True, num_resamples=1000)
    row = rows_of(results)["b"]
    assert row.verdict == "no interval" and row.difference == -1 and math.isnan(row.low)


def test_rows_of_several_groups_are_compared_by_the_jackknife():
    rng = np.random.default_rng(1)
    truth = rng.random((60, 4)) < 0.4
    groups = [
        tuple(rng.choice(12, size=1 + row % 3, replace=False).astype(str)) for row in range(60)
    ]
    scores = {
        arm: {0: {"test": scored(truth, rng.standard_normal(truth.shape), groups=groups)}}
        for arm in ("a", "b")
    }
    results = compare_scores(scores, "a", ["macro_roc_auc"], independent=False, num_resamples=1000)
    assert rows_of(results)["b"].method == "jackknife" and rows_of(results)["b"].num == 12


def test_strata_by_sources_and_snr_count_only_what_belongs_to_them():
    truth = np.array([[1, 0], [1, 0], [0, 1], [1, 1], [0, 0]], bool)
    snr = np.where(truth, 20.0, np.nan)
    snr[0, 0] = -5.0  # the only quiet one
    logits = np.array([[0, 0], [3, 0], [1, 1], [3, 1], [2, 0]], float)
    sources = truth.sum(axis=1)
    a = {0: {"test": scored(truth, logits, num_sources=sources, snr_db=snr)}}
    results = compare_scores(
        {"a": a, "b": a}, "a", ["macro_roc_auc"], independent=True, num_resamples=1000
    )
    # Class 0: the quiet example ranks below both negatives; class 1 has no quiet example.
    assert rows_of(results, "SNR below 0 dB")["a"].value == 0
    assert rows_of(results, "SNR 10 dB or more")["a"].value == 1
    # Among rows of one source: class 0 has positives 0 and 3 against 1; class 1 has 1 against 0, 0.
    assert rows_of(results, "1 source")["a"].value == pytest.approx((0.5 + 1) / 2)
    assert rows_of(results, ALL)["a"].value == pytest.approx((4 / 6 + 1) / 2)


@pytest.mark.parametrize("groups_per_row", [1, 2])
def test_a_stratum_with_positives_of_few_groups_has_no_interval(groups_per_row: int):
    rng = np.random.default_rng(2)
    truth = rng.random((96, 4)) < 0.3
    group = np.arange(96) % 24
    sources = np.where(group < 4, 3, 2)  # rows of three sources are those of four groups
    groups = [tuple(f"{g} {k}" for k in range(groups_per_row)) for g in group]
    scores = {
        arm: {
            0: {
                "test": scored(
                    truth, rng.standard_normal(truth.shape), groups=groups, num_sources=sources
                )
            }
        }
        for arm in ("a", "b")
    }
    results = compare_scores(scores, "a", ["macro_roc_auc"], independent=False, num_resamples=1000)
    few, many = rows_of(results, "3 or more sources")["b"], rows_of(results, "2 sources")["b"]
    assert many.num == 20 * groups_per_row and not math.isnan(many.low)
    assert few.num == 4 * groups_per_row
    assert math.isnan(few.low) == (groups_per_row == 1)


def test_rows_of_other_recordings_are_not_paired():
    truth = np.array([[True], [False]])
    a, b = (scored(truth, np.zeros((2, 1)), keys=keys) for keys in (["x", "y"], ["x", "z"]))
    scores = {"a": {0: {"test": a}}, "b": {0: {"test": b}}}
    with pytest.raises(ValueError, match="b, seed 0 was tested on other rows or labels than a"):
        compare_scores(scores, "a", ["macro_roc_auc"], independent=False, num_resamples=1000)


def test_thresholds_of_a_fold_are_fitted_on_the_other_folds():
    truth = np.array([[1], [0], [1], [0]], bool)
    logits = np.array([[2.0], [-2.0], [6.0], [4.0]])
    held_out = scored(truth, logits, fold=np.array([0, 0, 1, 1]))
    thresholds = thresholds_of_other_folds(held_out)
    assert thresholds is not None
    low, high = (1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2)))
    assert thresholds[1][0] == pytest.approx((low + high) / 2)  # between the two rows of fold 0
    assert thresholds_of_other_folds(scored(truth, logits, fold=np.zeros(4, int))) is None


def test_scores_of_the_demo_are_those_of_its_run(demo: Path, finished_run: Path):
    config = read_config(finished_run)
    config.run_dir = str(finished_run)
    labels = read_manifest(finished_run / "bundle").labels
    read = read_soundscapes(config, labels)
    expected = json.loads((finished_run / "metrics.json").read_text())
    assert macro_roc_auc(read.truth, read.logits) == expected["soundscape_macro_roc_auc"]
    assert read.decisions is not None
    assert macro_f1(read.truth, read.decisions, 0.5) == expected["soundscape_tuned_macro_f1"]
    assert read.snr_db is not None and read.num_sources is not None
    assert (np.isfinite(read.snr_db) == read.truth).all()  # of all that sing, and of no other
    assert np.array_equal(read.num_sources, read.truth.sum(axis=1))
    assert len(set(read.groups)) == 2  # soundscapes
    assert seconds_per_step(config, finished_run) > 0


@pytest.mark.slow
def test_a_comparison_of_the_demo_has_strata_and_costs(tmp_path: Path):
    text = TWO_ARMS.replace("mix=mixup", "mix=mixup, mix.control=inputs_only")
    overrides = [*SMALL, "trainer.max_epochs=1", "loggers=[]"]
    out = tmp_path / "out"
    compare(write_file(tmp_path, text), out, overrides)
    table = pd.read_csv(out / "comparison.csv")
    assert set(table["test_set"]) == {"test_soundscapes"}
    assert {"1 source", "SNR 0 to 10 dB"} <= set(table["stratum"])
    assert set(table[table["arm"] == "mixup"]["verdict"]) == {"no interval"}
    for arm in ("none", "mixup"):
        assert 0.1 < peak_memory_gib(out / "replicates" / arm / "seed-0") < 100


@pytest.mark.slow
def test_a_comparison_killed_three_times_ends_with_the_same_table(tmp_path: Path):
    text = TWO_ARMS.replace("{none", "{two stages: {stages: [[mix=both], [mix=none]]}, none")
    text += "replicates: 2\ndifferent_steps: true\nscreening: {replicates: 1, keep: 2}\n"
    file = write_file(tmp_path, text)
    settings = (*SMALL, "loggers=[]", "trainer.max_epochs=3", "checkpoint.every_steps=1")
    code = "from birdmix.cli.main import main; main()"

    def start(out: Path) -> subprocess.Popen:
        command = ["compare", str(file), *settings, "--out", str(out)]
        return subprocess.Popen([sys.executable, "-c", code, *command], cwd=ROOT)

    assert start(tmp_path / "uninterrupted").wait(600) == 0
    killed = tmp_path / "killed"
    for kill_after in (
        "screening/two stages/seed-1000-stage-1/last.ckpt",
        "replicates/two stages/seed-0/config.yaml",
        "replicates/mixup/seed-1/previous.ckpt",
    ):
        process = start(killed)
        while not (killed / kill_after).exists() and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not (killed / "replicates/mixup/seed-1/metrics.json").exists()
    assert start(killed).wait(600) == 0
    one, two = ((tmp_path / name / "comparison.csv") for name in ("uninterrupted", "killed"))
    assert one.read_bytes() == two.read_bytes()
