"""Shared fixtures and helpers: a tiny demo, one small finished run, real recordings."""

import copy
import functools
import os
from collections.abc import Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is loaded
    # With more threads than processors, the worker processes take many times as long.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hydra import compose, initialize_config_dir

from birdmix.config import schema
from birdmix.config.composition import to_config
from birdmix.config.overrides import quote_overrides
from birdmix.config.schema import Config
from birdmix.engines.registry import open_engine
from birdmix.experiments.builders import build_training_run
from birdmix.kaggle import submission
from birdmix.loading.run_data import RunData
from birdmix.recordings.demo import ensure_demo
from birdmix.recordings.settings import DemoSettings
from birdmix.training.checkpoint import load_checkpoint
from birdmix.training.distributed_processes import connect_processes
from birdmix.training.training_loop import fit
from birdmix.training.training_run import TrainingRun

ROOT = Path(__file__).parent.parent

#: Overrides of a network that trains in a second; its metrics are of no interest.
SMALL = (
    "trainer.accelerator=cpu",
    "model.backbone_args={channels: [8, 8, 16, 16], stem_width: 8}",
    "frontend.log_mel.n_mels=32",
    "frontend.log_mel.n_fft=1024",
    "frontend.log_mel.hop_length=1600",
    "data.batch_size=8",
    "data.demo.recordings_per_species=2",
    "data.demo.validation_soundscapes=1",
    "data.demo.test_soundscapes=2",
)


#: Overrides of two epochs of five optimizer steps (accumulation over 2 batches, a short last
#: batch), with every random operation switched on.
TOY = (
    *SMALL,
    "data.batch_size=5",
    "data.segments_per_recording=2",
    "data.drop_last=false",
    "trainer.max_epochs=2",
    "trainer.accumulate=2",
    "model.dropout=0.3",
    "frontend.masking.prob=0.5",
    "frontend.attenuation.prob=0.5",
    "mix.cutmix.prob=0.5",
    "mix.mixup2_rule=amplitude",
    "mix.hidden.mixup2_prob=0.5",
    "mix.hidden.layers=[input,layer2,features,pooled]",
    "mix.schedule.warm_up=0.5",
    "loggers=[]",
    "run_dir=.",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the slow tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))


def make_config(*overrides: str) -> Config:
    """Compose the configuration in conf/ with overrides, as train.py does."""
    return copy.deepcopy(_compose(overrides))


@functools.cache
def _compose(overrides: tuple[str, ...]) -> Config:
    schema.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return to_config(compose("config", overrides=quote_overrides(overrides)))


def train(config: Config, data: RunData, run: Path, state: dict | None = None) -> TrainingRun:
    """Run the training loop alone: no configuration file, bundle, figures or submission."""
    run.mkdir(exist_ok=True)
    training = build_training_run(config, data, run, connect_processes(config.trainer), state)
    fit(training)
    return training


def assert_equal_runs(one: Path, two: Path) -> None:
    """Assert that two runs ended with equal checkpoints and metrics.csv, bit for bit."""

    def flatten(value: object, name: str = "") -> dict[str, object]:
        if isinstance(value, dict):
            return {k: v for n in value for k, v in flatten(value[n], f"{name}.{n}").items()}
        if isinstance(value, list):
            return flatten(dict(enumerate(value)), name)
        return {name: value}

    a, b = flatten(load_checkpoint(one)), flatten(load_checkpoint(two))
    assert a.keys() == b.keys()
    for name in a:
        same = torch.equal(a[name], b[name]) if torch.is_tensor(a[name]) else a[name] == b[name]
        assert same, name
    assert (one / "metrics.csv").read_bytes() == (two / "metrics.csv").read_bytes()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a demo: 24 recordings, one validation soundscape, two test soundscapes."""
    root = tmp_path_factory.mktemp("demo") / "demo"
    ensure_demo(
        root,
        DemoSettings(recordings_per_species=2, validation_soundscapes=1, test_soundscapes=2),
    )
    return root


@pytest.fixture(scope="session")
def finished_run(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run directory of a small run on the tiny demo, two epochs."""
    from birdmix.experiments.run import run

    directory = tmp_path_factory.mktemp("runs") / "finished"
    run(make_config(*SMALL, f"data.root={demo}", "trainer.max_epochs=2", "run_dir=."), directory)
    return directory


@pytest.fixture(scope="session")
def bundle(finished_run: Path) -> Path:
    """Bundle of the small run."""
    return finished_run / "bundle"


@pytest.fixture(scope="module")
def cached_bundles() -> Iterator[None]:
    """Open each bundle once for all submissions of a module; opening takes half of their time."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(submission, "open_engine", functools.cache(open_engine))
        yield


@pytest.fixture(scope="session")
def real_audio() -> Path:
    """Folder of real recordings: BIRDMIX_AUDIO, or shared/audio beside the checkout."""
    folder = Path(os.environ.get("BIRDMIX_AUDIO", ROOT.parent / "shared" / "audio"))
    if not folder.is_dir():
        pytest.skip(f"no real recordings: {folder} does not exist; set BIRDMIX_AUDIO")
    return folder
