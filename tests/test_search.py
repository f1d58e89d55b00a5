"""A search: what is tried next, what is given up, and going on after any end."""

import copy
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from birdmix.app.configure import compose_config, read_config, write_config
from birdmix.app.run import Listener
from birdmix.app.run_directory import claim_run_directory
from birdmix.app.schema import Config
from birdmix.app.search import loop as searching
from birdmix.app.search.loop import search
from birdmix.app.search.space import as_overrides, corners, distributions, read_space
from birdmix.app.search.study import Pruned, Pruning, study_of
from birdmix.app.search.trials import Trial, read_trials
from birdmix.training.stops import Stopped
from tests.conftest import ROOT, SMALL, assert_equal_runs

FIGURE = "validation_macro_roc_auc"
SPACE = {"optim.lr": {"low": 1e-3, "high": 1e-1, "log": True}, "mix": ["none", "both"]}


def write_space(
    folder: Path, text: str = "optim.lr: {low: 1e-3, high: 1}\nmix: [none, both]"
) -> Path:
    file = folder / "space.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("optim.lr: 3", "optim.lr: 3: write {low: , high: }, or a list of choices"),
        ("optim.lr: {low: 1, hihg: 2}", "write {low: , high: }"),
        ("optim.lr: {low: 1, high: 2, steps: 1}", "steps is unknown; did you mean 'step'?"),
        ("optim.lr: {low: 2, high: 1}", "low=2 must be below high=1"),
        ("optim.lr: {low: 0, high: 1, log: true}", "log needs low above 0"),
        ("mix: [none]", "choices are at least two"),
        ("- optim.lr", "a space is a line for each setting"),
        (
            "optim.lr: {low: 1e-3, high: 1}\nmix.mixup_porb: [0, 1]",
            "did you mean 'mix.mixup_prob'?",
        ),
        ("mix.mixup_prob: {low: 0, high: 2}", "mix.mixup_prob=2.0: a probability lies in [0, 1]"),
        ("mix: [none, boht]", "mix=boht is unknown; did you mean 'both'?"),
        ("seed: [1, 2]", "seed is searched; leave it out"),
    ],
)
def test_a_wrong_space_is_told_before_any_work(tmp_path: Path, text: str, expected: str):
    with pytest.raises(ValueError) as error:
        search(write_space(tmp_path, text), ["seed=1"], tmp_path / "out", 2)
    assert expected in str(error.value) and not (tmp_path / "out").exists()


def test_the_projects_own_space_is_made_of_settings():
    for point in corners(read_space(ROOT / "conf" / "search.yaml")):
        compose_config(as_overrides(point))


def test_choices_of_a_text_are_taken_as_typed(tmp_path: Path):
    text = "data.root: [2024_05, 1e5, /x/vögel, 'a,b']\ndata.num_folds: [2, 3]\n"
    space = read_space(write_space(tmp_path, text))
    assert space == {"data.root": ["2024_05", "1e5", "/x/vögel", "a,b"], "data.num_folds": [2, 3]}
    for point in corners(space):
        assert compose_config(as_overrides(point)).data.root == point["data.root"]


def test_a_setting_is_whole_where_the_schema_says_so(tmp_path: Path):
    text = "mix.mixup_prob: {low: 0, high: 1}\ndata.batch_size: {low: 4, high: 12, step: 4}"
    spans = distributions(read_space(write_space(tmp_path, text)))
    assert [type(each).__name__ for each in spans.values()] == [
        "FloatDistribution",
        "IntDistribution",
    ]
    assert as_overrides({"a": 0.1, "b": True, "c": "d e"}) == ["a=0.1", "b=true", "c='d e'"]


def ended(folder: Path, number: int, *values: float, state: str = "complete") -> Trial:
    """A trial as it stands in its files: its figure after each epoch."""
    params = {"optim.lr": 0.002 * (number + 1), "mix": "none"}
    trial = Trial(number, params, state, FIGURE, values[-1])
    trial.write(folder)
    table = pd.DataFrame({"epoch": range(1, len(values) + 1), FIGURE: values})
    table.to_csv(trial.directory(folder) / "metrics.csv", index=False)
    return trial


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"number": "1"}', '{"figures": 1}'])
def test_a_damaged_trial_is_one_line(tmp_path: Path, text: str):
    ended(tmp_path, 0, 0.5)
    (tmp_path / "trial-000" / "trial.json").write_text(text)
    with pytest.raises(ValueError, match=r"trial-000/trial.json: damaged: .*; remove the folder"):
        read_trials(tmp_path)


def test_a_suggestion_is_a_function_of_the_seed_and_the_trials_before(tmp_path: Path):
    before = [ended(tmp_path, number, 0.1 * number) for number in range(12)]
    again = read_trials(tmp_path)
    assert again == before

    def suggested(seed: int, trials: list[Trial]) -> dict:
        return study_of(tmp_path, SPACE, seed, trials).ask(distributions(SPACE)).params

    one = suggested(0, before)
    assert one == suggested(0, again)
    assert one != suggested(1, before)
    assert one != suggested(0, before[:-1])


def epoch_of(study: object, *values: float, max_epochs: int = 4) -> None:
    """Hear the last of some epochs, as the loop does."""
    training = SimpleNamespace(
        trainer=SimpleNamespace(max_epochs=max_epochs),
        position=SimpleNamespace(monitored=list(values)),
        is_done=len(values) >= max_epochs,
    )
    Pruning(study, training).on_epoch({}, {})  # type: ignore[arg-type]


def test_a_trial_below_the_median_of_the_others_is_given_up(tmp_path: Path):
    trials = [ended(tmp_path, number, 0.5, 0.6 + 0.01 * number, 0.9) for number in range(5)]
    study = study_of(tmp_path, SPACE, 0, trials)
    epoch_of(study, 0.1)  # the first quarter of the epochs is not judged
    epoch_of(study, 0.1, 0.63)
    epoch_of(study, 0.63, float("nan"))
    with pytest.raises(Pruned):
        epoch_of(study, 0.1, 0.61)
    epoch_of(study, 0.1, 0.1, max_epochs=2)  # it is over anyhow


@functools.cache
def composed(*overrides: str) -> Config:
    return compose_config(list(overrides))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, list[float] | Exception]], None]:
    """Puts fake runs, and settings that are composed once, in the places of the real ones."""

    def compose(overrides: list[str]) -> Config:
        common = [each for each in overrides if not each.startswith(("optim.lr", "mix"))]
        return copy.deepcopy(composed(*common))

    monkeypatch.setattr(searching, "compose_config", compose)
    return lambda values: monkeypatch.setattr(searching, "run", fake_run(values))


def fake_run(values: dict[int, list[float] | Exception]) -> object:
    """A run with given figures, by trial, that goes the way of a real one past its listener."""

    def run(config: Config, directory: Path, listener: Listener) -> dict[str, float]:
        claim_run_directory(directory, is_resumed=config.resume is not None)
        write_config(directory, config)
        figures = values[int(directory.name[-3:])]
        training = SimpleNamespace(
            monitor=FIGURE,
            trainer=config.trainer,
            position=SimpleNamespace(monitored=[]),
            is_done=False,
        )
        hook = listener(training)  # type: ignore[arg-type]
        if isinstance(figures, Exception):
            raise figures
        for epoch, value in enumerate(figures, start=1):
            training.position.monitored.append(value)
            table = pd.DataFrame({"epoch": range(1, epoch + 1), FIGURE: figures[:epoch]})
            table.to_csv(directory / "metrics.csv", index=False)
            hook.on_epoch({}, {})
        return {FIGURE: figures[-1]}

    return run


def our_error(text: str) -> Exception:
    """An error as birdmix raises it."""
    try:
        read_space(Path(text))
    except ValueError as error:
        return error
    raise AssertionError


def test_failed_and_pruned_trials_are_rows_and_the_best_is_named(tmp_path: Path, runs, capsys):
    good = {number: [0.5, 0.6] for number in range(4)}
    values = {**good, 2: our_error("lost"), 4: [0.7, 0.8], 5: [0.6, 0.6], 6: [0.1, 0.1, 0.9]}
    runs(values)
    out = tmp_path / "out"
    search(write_space(tmp_path), ["trainer.max_epochs=4"], out, 7)
    table = pd.read_csv(out / "trials.csv")
    assert table["trial"].tolist() == list(range(7))
    assert table["state"].tolist() == [*["complete"] * 2, "failed", *["complete"] * 3, "pruned"]
    assert table["value"].tolist()[3:] == [0.6, 0.8, 0.6, 0.1] and "lost" in table["error"][2]
    said = capsys.readouterr().out.splitlines()
    assert said[-2].startswith(f"best: trial 4, {FIGURE} 0.8000, in {out}")
    best = read_trials(out)[4].params
    assert said[-1].split() == ["python", "train.py", "trainer.max_epochs=4", *as_overrides(best)]


def test_a_search_that_fails_alike_from_the_start_ends_with_the_reason(tmp_path: Path, runs):
    runs(dict.fromkeys(range(9), our_error("lost")))
    with pytest.raises(ValueError, match="the first 3 trials failed alike: lost"):
        search(write_space(tmp_path), [], tmp_path / "out", 9)
    assert len(read_trials(tmp_path / "out")) == 3


@pytest.mark.parametrize("name", ["space.yaml", "base.yaml", "trials.csv", "trial-000/thesis"])
def test_what_a_search_did_not_write_is_kept(tmp_path: Path, runs, name: str):
    file = tmp_path / "out" / name
    file.parent.mkdir(parents=True)
    file.write_text("a user's")
    (tmp_path / "out" / ".lock").write_text("a user's too")
    runs({0: [0.5]})
    with pytest.raises(ValueError, match="birdmix did not write it|it is there and is no trial"):
        search(write_space(tmp_path), [], tmp_path / "out", 1)
    assert file.read_text() == "a user's"
    assert (tmp_path / "out" / ".lock").read_text() == "a user's too"


def test_an_interrupted_search_goes_on_with_its_trial(tmp_path: Path, runs, capsys):
    out, space = tmp_path / "out", write_space(tmp_path)
    stopped = Stopped(143, "the end of epoch 1", out)
    runs({0: [0.5], 1: stopped})
    with pytest.raises(SystemExit) as end:
        search(space, [], out, 3)
    assert end.value.code == 143
    assert (
        "stopped in trial 1, which was saved; the same command goes on" in capsys.readouterr().err
    )
    before = read_trials(out)
    assert [trial.state for trial in before] == ["complete", "running"]
    runs({1: [0.7], 2: [0.6]})
    search(space, [], out, 3)
    assert read_trials(out)[0] == before[0] and read_trials(out)[1].params == before[1].params
    assert read_config(out / "trial-001").resume == str(out / "trial-001")
    assert [trial.value for trial in read_trials(out)] == [0.5, 0.7, 0.6]


def test_another_space_or_other_settings_are_refused_and_so_is_company(tmp_path: Path, runs):
    runs({0: [0.5], 1: [0.6]})
    out, space = tmp_path / "out", write_space(tmp_path)
    search(space, ["data.num_workers=0"], out, 1)
    with pytest.raises(ValueError, match="holds a search with other settings: seed 0 -> 1;"):
        search(space, ["seed=1"], out, 2)
    with searching._alone(out), pytest.raises(ValueError, match="another search is at work"):
        search(space, [], out, 2)
    write_space(tmp_path, "optim.lr: {low: 1e-3, high: 1}\nmix: [none, cutmix]")
    with pytest.raises(ValueError, match=r"mix \['none', 'both'\] -> \['none', 'cutmix'\]"):
        search(space, [], out, 2)


def test_without_optuna_one_line_says_what_to_install(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"pip install -e '.\[search\]'"):
        search(write_space(tmp_path), [], tmp_path, 1)


@pytest.mark.slow
def test_trials_are_runs_and_no_key_of_a_service_reaches_them(
    demo: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setenv("WANDB_API_KEY", "a-key-that-is-secret")
    out = tmp_path / "out"
    overrides = [*SMALL, f"data.root={demo}", "trainer.max_epochs=1"]
    search(write_space(tmp_path), overrides, out, 2)
    for trial in read_trials(out):
        run = trial.directory(out)
        assert json.loads((run / "metrics.json").read_text())[trial.figure] == trial.value
        assert read_config(run).optim.lr == trial.params["optim.lr"]
        assert (run / "bundle" / "bundle.json").is_file() and (run / "tensorboard").is_dir()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if b"a-key-that-is-secret" in path.read_bytes()]


@pytest.mark.slow
def test_a_search_that_is_killed_ends_as_one_that_is_not(demo: Path, tmp_path: Path):
    text = "optim.lr: {low: 1e-3, high: 1e-1, log: true}\nmix.mixup_prob: {low: 0, high: 1}"
    settings = (
        *SMALL, f"data.root={demo}", "loggers=[]", "trainer.max_epochs=3",
        "checkpoint.every_steps=1",
    )  # fmt: skip
    code = "from birdmix.app.cli import main; main()"

    def start(out: Path) -> subprocess.Popen:
        command = ["search", str(write_space(tmp_path, text)), *settings, "--trials", "3"]
        return subprocess.Popen([sys.executable, "-c", code, *command, "--out", str(out)], cwd=ROOT)

    assert start(tmp_path / "whole").wait(300) == 0
    killed = tmp_path / "killed"
    for awaited in ("trial-000/last.ckpt", "trial-001/config.yaml", "trial-001/previous.ckpt"):
        process = start(killed)
        while not (killed / awaited).exists() and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not (killed / "trial-001" / "metrics.json").exists()
    assert start(killed).wait(300) == 0
    for one, two in zip(read_trials(tmp_path / "whole"), read_trials(killed), strict=True):
        assert (one.params, one.state, one.value) == (two.params, two.state, two.value)
        assert_equal_runs(one.directory(tmp_path / "whole"), two.directory(killed))
