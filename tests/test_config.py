"""Configuration: every file in conf/ builds, and wrong settings are refused in one line."""

import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from birdmix.config.composition import compose_config
from birdmix.config.conf_folders import config_dir_overrides
from birdmix.config.config_errors import explain_error
from birdmix.config.resume_policy import resumed_config
from birdmix.config.run_config_file import read_config, write_config
from birdmix.experiments.builders import build_batch_sampler, build_training_step
from birdmix.labels import Labels
from birdmix.loading.audio_store import MemoryStore
from birdmix.loading.run_data import RunData
from birdmix.mix import LabelRule, build_mix_stages
from birdmix.model.classifier import Classifier
from birdmix.model.optimizers import build_optimizer
from birdmix.recordings.recordings_table import Recordings
from birdmix.recordings.settings import PoolSettings
from birdmix.training.distributed_processes import connect_processes
from birdmix.training.run_position import RunPosition
from tests.conftest import ROOT, make_config

CONF = ROOT / "conf"
RECORDINGS = Recordings.build(ROOT, Labels(("a",)), path=["a.wav"] * 99, codes=[("a",)] * 99)
FILES = sorted(
    file.relative_to(CONF).with_suffix("").as_posix()
    for file in CONF.rglob("*.yaml")
    if file.parent != CONF
)


def error_message(*overrides: str) -> str:
    """Return the error that the command line would print for these overrides."""
    with pytest.raises((ValueError, HydraException, OmegaConfBaseException)) as caught:
        make_config(*overrides, "run_dir=x")
    text = (
        str(caught.value) if isinstance(caught.value, ValueError) else explain_error(caught.value)
    )
    assert "\n" not in text
    return text


@pytest.mark.parametrize("file", FILES)
def test_every_configuration_file_composes_converts_and_builds(file: str):
    group, option = file.split("/", 1)
    config = make_config(f"{group}={option}", "run_dir=x")
    with torch.device("meta"):  # shapes only, no values
        model = Classifier(replace(config.model, pretrained=False), num_classes=3)
    build_training_step(config, model, RECORDINGS, torch.device("cpu"))
    build_optimizer(model, config.optim)
    data = RunData(RECORDINGS, {}, {}, MemoryStore({}))
    build_batch_sampler(config, data, RunPosition(), connect_processes(config.trainer))
    assert group != "data" or config.data.source == option


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("mix.mixup_porb=1", "'mix.mixup_porb'; did you mean 'mix.mixup_prob'?"),
        ("+mix.mixup_porb=1", "'mix.mixup_porb'; did you mean 'mix.mixup_prob'?"),
        ("optim.args.momentum=0.8", "add it with a +: +optim.args.momentum=VALUE"),
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
        ("mix.min_snr_db=3", "mix.min_snr_db=3.0: levels are relative to the loudest source"),
        ("mix.mix_beta2=0", "mix.mix_beta2=0.0: a concentration is above 0"),
        ("data.num_folds=1 data.fold=0", "data.num_folds=1: it must be at least 2"),
        ("data.group_pattern='('", "data.group_pattern='(': not a regular expression"),
        ("loggers=[tensorbord]", "did you mean 'tensorboard'"),
        ("seed=-1", "seed=-1: it cannot be negative"),
        ("trainer.clip=0", "trainer.clip=0.0: it must be above 0"),
        ("data.fold=7", "data.fold=7: it must be in 0 .. 4"),
        ("data.demo.recordings_per_species=0", "data.demo.recordings_per_species"),
        (
            "data.root=${oc.env:NO_SUCH}",
            "data.root=${oc.env:NO_SUCH}: Environment variable 'NO_SUCH' not found; "
            "define what it names, or write \\${ for a literal ${",
        ),
        (
            "data.negative=[${x}]",
            "data.negative[0]=${x}: Interpolation key 'x' not found; define what",
        ),
        (
            "data.root=/x/${y",
            "data.root: no viable alternative at input '${y'; define what it names",
        ),
        ("seed=a=b", "seed: 'a=b' is not an integer"),
        ("trainer.clip=1=2", "trainer.clip: '1=2' is not a number"),
        ("seed=1,2", "seed=1,2: several values are a sweep, which needs -m"),
        ("data.root=range(3)", "put a text in quotes: 'data.root=\"range(3)\"'"),
        ("data.root='x", "the value cannot be read; put it in quotes: 'data.root="),
        ("data.augment=[{a:/vö}]", "put its texts in quotes: ['a', {b: 'c'}]"),
        ("seed", "'seed' is not a setting; write key=value, for example seed=1"),
        ("=3", "'=3' is not a setting; write key=value, for example seed=1"),
        ("data.pool.size=3", "there is no setting 'data.pool'; use data.pools, as in data.po"),
        (
            "data.mix_pool.size=3",
            "there is no setting 'data.mix_pool'; use data.pools, as in data.po",
        ),
        (
            "data.pools.noise.size=3",
            "there is no setting 'data.pools.noise' yet; add it with data.pools={noise: {KEY: VAL",
        ),
        ("data.batch_shares.x=0.1", "add it with a +: +data.batch_shares.x=VALUE"),
        (
            "data.pools={recordings:{sise:3}}",
            "there is no setting 'data.pools.recordings.sise'; did you mean 'size'?",
        ),
        ("data.pools={x:null}", "data.pools.x: it must not be null"),
        ("data.pools={x:{size:-1}}", "data.pools.x.size=-1: it must be at least 1"),
        ("data.pools={x:{}}", "data.pools.x.source: it is not set, and the name is no source"),
        ("data.pools={x:{source:recordings}} data.batch_shares={x:2}", "data.batch_shares.x=2.0: "),
        ("data.substitution.prob=0.1", "data.substitution.prob=0.1: set pool to the pool"),
        ("mix.hidden.prob=1", "there is no setting 'mix.hidden.prob'; its name is 'mix.hidden.mix"),
        (
            "mix.inject.prob=1",
            "no setting 'mix.inject'; use mix.injectors=[{pool: NAME, prob: 0.5}]",
        ),
        ("mix.injectors=[{pool:a}]", "mix.injectors[0].prob: it is not set; set it"),
        ("mix.injectors=[{prob:2}]", "mix.injectors[0].prob=2.0: a probability lies in"),
        (
            "mix.injectors=[{grp:a}]",
            "there is no setting 'mix.injectors.grp'; did you mean 'group'",
        ),
        ("mix.injectors=[{prob:x}]", "mix.injectors.prob: Value 'x' of type 'str' could not be"),
        ("mix.injectors=[noise]", "mix.injectors[0]: it must be settings, {name: value"),
        ("mix.injectors={prob:1}", "mix.injectors: it must be a list, [a, b]"),
        ("mix.match_rms=true", "no setting 'mix.match_rms'; use mix.match_level=rms"),
        ("model.parts=2", "there is no setting 'model.parts'; its name is 'model.num_chunks'"),
        ("mix=3", "mix=3 is unknown; valid names: "),
        ("experiment=2024_05", "experiment=2024_05 is unknown; valid names: "),
    ],
)
def test_an_error_about_a_setting_names_its_full_key(override: str, expected: str):
    assert expected in error_message(*override.split())


def test_the_conf_of_another_project_in_the_working_directory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("database: mysql\n")
    monkeypatch.chdir(tmp_path)
    assert compose_config(["seed=3"]) == make_config("seed=3", "run_dir=.")


def test_options_in_a_folder_of_the_user_can_be_composed(tmp_path: Path):
    folder = tmp_path / "vögel, [a]=b"
    (folder / "mix").mkdir(parents=True)
    (folder / "mix" / "mine.yaml").write_text("mixup_prob: 0.123\n")
    config = compose_config([*config_dir_overrides(folder), "mix=mine"])
    assert config.mix.mixup_prob == 0.123


def test_a_folder_of_the_user_that_does_not_exist_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"--config-dir=.*/none: no such folder"):
        config_dir_overrides(tmp_path / "none")


def test_a_copy_of_the_packaged_conf_is_allowed_until_an_option_is_changed(tmp_path: Path):
    copy = Path(shutil.copytree(CONF, tmp_path / "my"))
    assert len(config_dir_overrides(copy)) == 1
    (copy / "mix" / "both.yaml").write_text("mixup_prob: 0.123\n")
    with pytest.raises(ValueError, match=r"mix/both.yaml of its own; give it another name"):
        config_dir_overrides(copy)


#: Overrides with three pools and what uses them.
POOLS = (
    "data.pools={noise: {source: background, root: x, size: 8}, soundscapes: {}, recordings: {}}",
    "data.batch_shares={soundscapes: 0.1}",
    "data.substitution={pool: recordings, prob: 0.4}",
)


def test_a_configuration_is_equal_after_writing_and_reading(tmp_path: Path):
    overrides = ("mix=mixup", "data.fold=null", "mix.mix_beta=0.5", *POOLS)
    config = make_config(*overrides, f"run_dir={tmp_path}")
    write_config(tmp_path, config)
    assert read_config(tmp_path) == config
    assert list(read_config(tmp_path).data.pools) == ["noise", "soundscapes", "recordings"]


def test_pools_of_a_file_are_extended_and_changed_by_the_command_line(tmp_path: Path):
    folder = tmp_path / "my"
    (folder / "experiment").mkdir(parents=True)
    (folder / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndata: {pools: {noise: {source: background, root: x}}}\n"
    )
    extended = ["data.pools={soundscapes: {}}", "data.pools.noise.size=3"]
    config = compose_config([*config_dir_overrides(folder), "experiment=mine", *extended])
    assert config.data.pools == {
        "noise": PoolSettings("background", "x", size=3),
        "soundscapes": PoolSettings(),
    }
    without = compose_config(
        [*config_dir_overrides(folder), "experiment=mine", "~data.pools.noise"]
    )
    assert not without.data.pools


def test_an_override_on_resume_is_checked_together_with_the_settings_of_the_run():
    former = make_config(*POOLS, "run_dir=x")
    requested = asdict(make_config("resume=x", "run_dir=x"))
    requested["data"]["batch_shares"] = {"soundscapes": 0.2}  # its pool is the run's
    with pytest.raises(ValueError, match=r"would change the run: data.batch_shares .* 0.2"):
        resumed_config(former, requested, ["data.batch_shares={soundscapes: 0.2}"])


def test_a_resumed_run_keeps_its_pools_and_names_each_change_of_them(tmp_path: Path):
    def plain(*overrides: str) -> dict:
        return asdict(make_config(*overrides, "run_dir=x"))

    former = make_config(*POOLS, "run_dir=x")
    same = resumed_config(former, plain("resume=x", *POOLS), list(POOLS))
    assert same.data == former.data
    assert resumed_config(former, plain("resume=x"), []).data == former.data
    changed = [
        POOLS[0].replace("size: 8", "size: 9, draw: group").replace("{}}", "{}, folder: {root: y}}")
    ]
    with pytest.raises(ValueError) as error:
        resumed_config(former, plain("resume=x", *changed), changed)
    expected = (
        "-> ['noise', 'soundscapes', 'recordings', 'folder']",
        "data.pools.noise.size 8 -> 9, data.pools.noise.draw uniform -> group",
    )
    assert all(change in str(error.value) for change in expected)


#: YAML of nine nested lists; each repeats the one before nine times through an alias.
NESTED_ALIASES = "x0: &x0 [1]\n" + "".join(
    f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
        ("a: &a [1, 1]\nb: &b [*a, *a, *a]\nc: [*b, *b]\n" * 2, "not readable as YAML"),
        (NESTED_ALIASES, "more than 20000 values, not the settings of a run"),
        ("a: &a [*a]\n", "more than 20000 values"),
        ("a: " + "[" * 3000, "not readable as YAML"),
        ("", "run_dir: "),
        ("- 1\n", "not a mapping of settings"),
        ("frontend: 3\nrun_dir: x\n", "Merge error: int is not a subclass of FrontendSettings"),
        ("seed: many\nrun_dir: x\n", "seed: Value 'many'"),
        (
            "data: {root: '${oc.env:HOME}'}\n",
            "data.root=${oc.env:HOME}: ${...} is not resolved in a run's file",
        ),
        ("data: {root: 2024_05}\n", "data.root: 202405 is not text; put the text in quotes"),
        ("data: {root: a\0b}\n", "not readable as YAML"),
    ],
)
def test_a_damaged_configuration_of_a_run_is_reported_in_one_line(
    tmp_path: Path, text: str, expected: str
):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=re.escape(expected)) as caught:
        read_config(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'config.yaml'}: ") and "\n" not in message


@pytest.mark.parametrize("text", ["/x/${y}", "/x/${y", r"\${a}", r"a\\${b}", "$"])
def test_a_dollar_sign_in_a_text_is_kept_after_writing_and_reading(tmp_path: Path, text: str):
    config = make_config("run_dir=x")
    config.data.root = text
    write_config(tmp_path, config)
    assert read_config(tmp_path) == config


def test_each_option_of_the_mix_group_enables_its_operators():
    slots_by_option = {
        "none": [],
        "mixup": ["mixup"],
        "mixup2": ["mixup2"],
        "both": ["mixup", "mixup2"],
        "cutmix": ["cutmix"],
        "amplitude": ["mixup"],
        "sumix": ["mixup"],
        "perch2": ["mixup"],
        "between_class": ["mixup"],
        "manifold": ["hidden"],
        "regmixup": ["mixup2"],
    }
    for option, slots in slots_by_option.items():
        assert (
            build_mix_stages(make_config(f"mix={option}", "run_dir=x").mix).operator_names == slots
        )


def test_every_option_of_mixup2_can_be_set():
    options = {"lambda_per": "batch", "own_is_larger": True, "min_lambda": 0.2, "fixed_lambda": 0.4}
    for stage, prefix in (("spectrogram", "mix"), ("hidden", "mix.hidden")):
        keys = [f"{prefix}.{name}={value}" for name, value in options.items()]
        mix = make_config(f"{prefix}.mixup2_prob=1", *keys, "run_dir=x").mix
        (operator,) = getattr(build_mix_stages(mix), stage).values()
        assert {name: getattr(operator, name) for name in options} == options


def test_settings_of_one_operator_do_not_reach_another():
    overrides = ("mix.post=standardise", "mix.match_level=rms")
    probabilities = (
        "mix.mixup_prob=1",
        "mix.mixup2_prob=1",
        "mix.injectors=[{prob: 1, post: peak_guard}]",
    )
    mix = make_config(*overrides, *probabilities, "run_dir=x").mix
    stages = build_mix_stages(mix)
    mixup, inject, mixup2 = *stages.waveform.values(), *stages.spectrogram.values()
    assert (mixup.post, mixup.match_level) == ("standardise", "rms")
    assert (inject.post, inject.match_level) == ("peak_guard", "none")
    assert (mixup2.post, mixup2.match_level) == ("none", "none")


def test_the_tolerance_and_the_audibility_threshold_reach_the_rules():
    overrides = ("mix.known_tolerance=0.3", "mix.min_snr_db=-20")
    probabilities = (
        "mix.mixup_prob=1",
        "mix.injectors=[{prob: 1, label_cap: 0.5}]",
        "mix.hidden.mixup2_prob=1",
    )
    stages = build_mix_stages(make_config(*overrides, *probabilities, "run_dir=x").mix)
    mixup, inject = stages.waveform.values()
    assert mixup.effective_rule == LabelRule("full", "sum", -20, known_tolerance=0.3)
    assert inject.effective_rule == LabelRule("full", "max", -20, 0.5, known_tolerance=0.3)
    assert stages.hidden["hidden"].effective_rule == LabelRule("part", "sum", known_tolerance=0.3)


def test_probabilities_of_more_than_two_sources_can_be_set():
    mix = make_config("mix.num_sources=[0.5,0,0.5]", "run_dir=x").mix
    assert build_mix_stages(mix).min_batch_size == 4
