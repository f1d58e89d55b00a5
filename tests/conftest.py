"""What tests share: a tiny demo, one small run for all who need a bundle, real recordings."""

import copy
import functools
import os
from collections.abc import Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is loaded
    # Processes whose threads wait for each other's processors take many times as long.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hydra import compose, initialize_config_dir

from birdmix.app import schema
from birdmix.app.build import build_training
from birdmix.app.configure import to_config
from birdmix.app.data import Data
from birdmix.app.overrides import as_typed
from birdmix.app.schema import Config
from birdmix.inference.engine import open_engine
from birdmix.kaggle import submission
from birdmix.recordings.demo import ensure_demo
from birdmix.recordings.settings import DemoSettings
from birdmix.training.checkpoint import load_checkpoint
from birdmix.training.loop import fit
from birdmix.training.processes import open_processes
from birdmix.training.run import Training

ROOT = Path(__file__).parent.parent

#: A network that trains in a second: the tests are about the way, not about the figures.
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


#: Two epochs of five steps (accumulation 2, a short last batch), with all that is random.
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
    "mix.hidden.prob=0.5",
    "mix.schedule.warm_up=0.5",
    "loggers=[]",
    "run_dir=.",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the long proofs too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="a long proof; run with --slow"))


def configured(*overrides: str) -> Config:
    """Compose the project's own configuration, as train.py does."""
    return copy.deepcopy(_composed(overrides))


@functools.cache
def _composed(overrides: tuple[str, ...]) -> Config:
    schema.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return to_config(compose("config", overrides=as_typed(overrides)))


def train(config: Config, data: Data, run: Path, state: dict | None = None) -> Training:
    """Train without all that comes before and after."""
    run.mkdir(exist_ok=True)
    training = build_training(config, data, run, open_processes(config.trainer), state)
    fit(training)
    return training


def assert_equal_runs(one: Path, two: Path) -> None:
    """Compare all that two runs end with, bit by bit."""

    def flat(value: object, name: str = "") -> dict[str, object]:
        if isinstance(value, dict):
            return {k: v for n in value for k, v in flat(value[n], f"{name}.{n}").items()}
        if isinstance(value, list):
            return flat(dict(enumerate(value)), name)
        return {name: value}

    a, b = flat(load_checkpoint(one)), flat(load_checkpoint(two))
    assert a.keys() == b.keys()
    for name in a:
        same = torch.equal(a[name], b[name]) if torch.is_tensor(a[name]) else a[name] == b[name]
        assert same, name
    assert (one / "metrics.csv").read_bytes() == (two / "metrics.csv").read_bytes()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo of 24 recordings, one validation and two test soundscapes."""
    root = tmp_path_factory.mktemp("demo") / "demo"
    ensure_demo(
        root,
        DemoSettings(recordings_per_species=2, validation_soundscapes=1, test_soundscapes=2),
    )
    return root


@pytest.fixture(scope="session")
def finished_run(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of one small run on the tiny demo, two epochs."""
    from birdmix.app.run import run

    directory = tmp_path_factory.mktemp("runs") / "finished"
    run(configured(*SMALL, f"data.root={demo}", "trainer.max_epochs=2", "run_dir=."), directory)
    return directory


@pytest.fixture(scope="session")
def bundle(finished_run: Path) -> Path:
    return finished_run / "bundle"


@pytest.fixture(scope="module")
def bundles_opened_once() -> Iterator[None]:
    """Submissions open each bundle once: that takes as long as all the rest of a small one."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(submission, "open_engine", functools.cache(open_engine))
        yield


@pytest.fixture(scope="session")
def real_audio() -> Path:
    """A folder of real recordings: BIRDMIX_AUDIO, or shared/audio beside the checkout."""
    folder = Path(os.environ.get("BIRDMIX_AUDIO", ROOT.parent / "shared" / "audio"))
    if not folder.is_dir():
        pytest.skip(f"no real recordings: {folder} is absent; set BIRDMIX_AUDIO")
    return folder
