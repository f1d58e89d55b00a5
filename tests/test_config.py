"""Configuration: every file builds, and what is misspelt is refused with the nearest right name."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from birdmix.app.build import build_step
from birdmix.app.configure import explain, read_config, write_config
from birdmix.app.data import Data
from birdmix.app.feed import build_batches
from birdmix.labels import Labels
from birdmix.loading.store import MemoryStore
from birdmix.mix import build_stages
from birdmix.model.classifier import Classifier
from birdmix.model.optimizers import build_optimizer
from birdmix.recordings.table import Recordings
from birdmix.training.position import Position
from birdmix.training.processes import open_processes
from tests.conftest import ROOT, configured

CONF = ROOT / "conf"
RECORDINGS = Recordings.build(ROOT, Labels(("a",)), path=["a.wav"] * 99, codes=[("a",)] * 99)
FILES = sorted(
    file.relative_to(CONF).with_suffix("").as_posix()
    for file in CONF.rglob("*.yaml")
    if file.parent != CONF
)


def message(*overrides: str) -> str:
    """What the command line would print for these overrides."""
    with pytest.raises((ValueError, HydraException, OmegaConfBaseException)) as caught:
        configured(*overrides, "run_dir=x")
    text = str(caught.value) if isinstance(caught.value, ValueError) else explain(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("file", FILES)
def test_every_configuration_file_composes_converts_and_builds(file: str):
    group, option = file.split("/", 1)
    config = configured(f"{group}={option}", "run_dir=x")
    with torch.device("meta"):  # shapes without numbers
        model = Classifier(replace(config.model, pretrained=False), num_classes=3)
    build_step(config, model, RECORDINGS, torch.device("cpu"))
    build_optimizer(model, config.optim)
    data = Data(RECORDINGS, {}, {}, MemoryStore({}))
    build_batches(config, data, Position(), open_processes(config.trainer))
    assert group != "data" or config.data.source == option


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("mix.mixup_porb=1", "'mix.mixup_porb'; did you mean 'mix.mixup_prob'?"),
        ("+mix.mixup_porb=1", "'mix.mixup_porb'; did you mean 'mix.mixup_prob'?"),
        ("optim.args.momentum=0.8", "put a + before it: +optim.args.momentum=VALUE"),
        ("+sed=1", "'sed'; did you mean 'seed'?"),
        ("mixx=both", "'mixx'; did you mean 'mix'?"),
        ("mix=mixip", "mix=mixip is unknown; did you mean 'mixup'?"),
        ("frontend.log_mel.n_mel=64", "did you mean 'frontend.log_mel.n_mels'?"),
        ("frontend.log_mel.mel_scale=slany", "frontend.log_mel.mel_scale='slany'"),
        ("data.batch_size=many", "data.batch_size: Value 'many'"),
        ("mix.mixup_prob=1.5", "mix.mixup_prob=1.5: a probability lies in [0, 1]"),
        ("mix.num_sources=[0.5]", "mix.num_sources=[0.5]: probabilities of two, three"),
        ("mix.mixup_rule=unoin", "mix.mixup_rule='unoin' is unknown; did you mean 'union'?"),
        ("mix.cutmix.axis=tim", "mix.cutmix.axis='tim' is unknown; did you mean 'time'?"),
        ("mix.cutmix.prob=2", "mix.cutmix.prob=2.0: a probability lies in [0, 1]"),
        ("mix.schedule.off_from=2", "mix.schedule.off_from=2.0: it lies in [0, 1]"),
        ("mix.min_snr_db=3", "mix.min_snr_db=3.0: it is at most 0"),
        ("mix.mix_beta2=0", "mix.mix_beta2=0.0: a concentration is above 0"),
        ("data.num_folds=1 data.fold=0", "data.num_folds=1: at least 2"),
        ("data.group_pattern='('", "data.group_pattern='(' is no regular expression"),
        ("loggers=[tensorbord]", "did you mean 'tensorboard'"),
        ("seed=-1", "seed=-1: it cannot be negative"),
        ("trainer.clip=0", "trainer.clip=0.0: it must be above 0"),
        ("data.fold=7", "data.fold=7: it is one of 0 .. 4"),
        ("data.demo.recordings_per_species=0", "data.demo.recordings_per_species"),
        (
            "data.root=${oc.env:NO_SUCH}",
            "data.root=${oc.env:NO_SUCH}: Environment variable 'NO_SUCH' not found; "
            "set what it names, or write \\${ where a plain ${ is meant",
        ),
        (
            "data.negative=[${x}]",
            "data.negative[0]=${x}: Interpolation key 'x' not found; set what",
        ),
        ("data.root=/x/${y", "data.root: no viable alternative at input '${y'; set what it names"),
        ("seed=a=b", "seed: 'a=b' is no whole number"),
        ("trainer.clip=1=2", "trainer.clip: '1=2' is no number"),
        ("seed=1,2", "seed=1,2: several values are a sweep, which needs -m"),
        ("data.root=range(3)", "a text in quotes: 'data.root=\"range(3)\"'"),
        ("data.root='x", "the value cannot be read; put it in quotes: 'data.root="),
        ("data.augment=[{a:/vö}]", "put each text in it in quotes: ['a', {b: 'c'}]"),
        ("seed", "'seed' is no setting: write key=value, as seed=1"),
        ("=3", "'=3' is no setting: write key=value, as seed=1"),
        ("mix=3", "mix=3 is unknown; there is: "),
        ("experiment=2024_05", "experiment=2024_05 is unknown; there is: "),
    ],
)
def test_a_wrong_setting_is_told_by_its_full_key(override: str, expected: str):
    assert expected in message(*override.split())


def test_a_saved_configuration_reads_back_equal(tmp_path: Path):
    config = configured("mix=mixup", "data.fold=null", "mix.mix_beta=0.5", f"run_dir={tmp_path}")
    write_config(tmp_path, config)
    assert read_config(tmp_path) == config


#: Nine lists, each of nine times the one before.
NESTED_ALIASES = "x0: &x0 [1]\n" + "".join(
    f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
        ("a: &a [1, 1]\nb: &b [*a, *a, *a]\nc: [*b, *b]\n" * 2, "no YAML that can be read"),
        (NESTED_ALIASES, "more than 20000 values, no settings of a run"),
        ("a: &a [*a]\n", "more than 20000 values"),
        ("a: " + "[" * 3000, "no YAML that can be read"),
        ("", "run_dir: "),
        ("- 1\n", "no settings, but something else"),
        ("frontend: 3\nrun_dir: x\n", "Merge error: int is not a subclass of FrontendSettings"),
        ("seed: many\nrun_dir: x\n", "seed: Value 'many'"),
        ("data: {root: '${oc.env:HOME}'}\n", "data.root=${oc.env:HOME}: ${...} is not read here"),
        ("data: {root: 2024_05}\n", "data.root: 202405 is no text; put what was meant in quotes"),
        ("data: {root: a\0b}\n", "no YAML that can be read"),
    ],
)
def test_a_broken_run_directory_is_told_in_a_line(tmp_path: Path, text: str, expected: str):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=re.escape(expected)) as caught:
        read_config(tmp_path)
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'config.yaml'}: ") and "\n" not in said


@pytest.mark.parametrize("text", ["/x/${y}", "/x/${y", r"\${a}", r"a\\${b}", "$"])
def test_a_saved_dollar_sign_reads_back_as_it_was(tmp_path: Path, text: str):
    config = configured("run_dir=x")
    config.data.root = text
    write_config(tmp_path, config)
    assert read_config(tmp_path) == config


def test_one_word_chooses_the_mix():
    words = {
        "none": [],
        "mixup": ["mixup"],
        "mixup2": ["mixup2"],
        "both": ["mixup", "mixup2"],
        "cutmix": ["cutmix"],
        "amplitude": ["mixup"],
    }
    for word, slots in words.items():
        assert build_stages(configured(f"mix={word}", "run_dir=x").mix).slots == slots


def test_numbers_of_sources_can_be_told():
    mix = configured("mix.num_sources=[0.5,0,0.5]", "run_dir=x").mix
    assert build_stages(mix).num_batch_sources == 4


def test_every_recipe_of_the_readme_is_a_configuration():
    text = (ROOT / "README.md").read_text().replace("\\\n", " ")
    recipes = text[text.index("## Recipes") : text.index("## Runs of runs")]
    lines = [each.split(" && ")[0] for each in re.findall(r"^python train.py (.*)$", recipes, re.M)]
    assert len(lines) > 20
    for line in lines:
        if not line.startswith("--help"):
            configured(*shlex.split(line, comments=True), "run_dir=x")
