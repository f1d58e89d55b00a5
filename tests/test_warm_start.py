"""Warm start: a run starts with the weights of another run or bundle."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from birdmix.bundle.bundle_weights import read_weights
from birdmix.bundle.manifest import read_manifest
from birdmix.config.schema import Config
from birdmix.experiments.builders import build_model, build_training_run
from birdmix.labels import Labels
from birdmix.loading.run_data import open_data
from birdmix.training.checkpoint import load_checkpoint
from birdmix.training.distributed_processes import connect_processes
from tests.conftest import SMALL, make_config, train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def source_run(finished_run: Path) -> Path:
    return finished_run


def warm_start_config(source_run: Path, *overrides: str) -> Config:
    return make_config(*SMALL, f"init_from={source_run}", "loggers=[]", "run_dir=.", *overrides)


def test_a_warm_start_loads_all_weights(source_run: Path, capsys):
    labels = read_manifest(source_run / "bundle").labels
    model = build_model(warm_start_config(source_run), labels, CPU)
    weights = read_weights(source_run / "bundle")
    assert all(torch.equal(each, weights[name]) for name, each in model.state_dict().items())
    output = capsys.readouterr().out
    assert "and the whole head, 12 classes" in output and str(source_run / "bundle") in output


def test_classes_are_matched_by_code_and_new_ones_have_random_weights(source_run: Path, capsys):
    labels = read_manifest(source_run / "bundle").labels
    others = Labels(("new", labels.codes[7], labels.codes[2]))
    model = build_model(warm_start_config(source_run / "bundle"), others, CPU)
    old = read_weights(source_run / "bundle")["head.classes.weight"]
    new = model.state_dict()["head.classes.weight"]
    assert torch.equal(new[1:], old[[7, 2]])
    assert not (old == new[0]).all(dim=1).any()
    assert "weights of 2 of 3 classes; 1 are new" in capsys.readouterr().out


def test_classes_without_a_match_are_reported(source_run: Path, capsys):
    codes = read_manifest(source_run / "bundle").labels.codes
    build_model(warm_start_config(source_run), Labels(codes[2:]), CPU)
    assert f"dropped 2 classes: {codes[0]}, {codes[1]}" in capsys.readouterr().out
    build_model(warm_start_config(source_run), Labels(("Parus major",)), CPU)
    assert "are they codes of the same kind?" in capsys.readouterr().out


def test_another_front_end_is_a_warning(source_run: Path, capsys):
    labels = read_manifest(source_run / "bundle").labels
    build_model(warm_start_config(source_run, "frontend.log_mel.f_min=99"), labels, CPU)
    assert "f_min 50.0 -> 99" in capsys.readouterr().out


def test_another_backbone_is_a_one_line_error(source_run: Path):
    config = warm_start_config(
        source_run, "model.backbone_args={channels: [8, 8, 16, 24], stem_width: 8}"
    )
    with pytest.raises(ValueError, match=r"^init_from=.*layer4[^\n]*$"):
        build_model(config, Labels(("a", "b")), CPU)


def test_a_warm_start_from_a_run_without_a_bundle_loads_its_checkpoint(
    source_run: Path, tmp_path: Path, capsys
):
    for name in ("config.yaml", "last.ckpt"):
        shutil.copy(source_run / name, tmp_path)
    labels, weights = (
        read_manifest(source_run / "bundle").labels,
        read_weights(source_run / "bundle"),
    )
    model = build_model(warm_start_config(tmp_path), Labels((*labels.codes, "new")), CPU)
    new = model.state_dict()
    assert torch.equal(new["head.classes.weight"][:12], weights["head.classes.weight"])
    assert all(torch.equal(new[name], weights[name]) for name in new if "head" not in name)
    assert "weights of 12 of 13 classes; 1 are new" in capsys.readouterr().out


def test_a_warm_start_from_a_missing_folder_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="no bundle here"):
        build_model(warm_start_config(tmp_path / "nowhere"), Labels(("a",)), CPU)


def test_a_warm_start_from_a_bundle_without_labels_is_refused(source_run: Path, tmp_path: Path):
    shutil.copytree(source_run / "bundle", tmp_path / "bundle")
    file = tmp_path / "bundle" / "bundle.json"
    file.write_text(file.read_text().replace('"labels"', '"names"'))
    with pytest.raises(ValueError, match=r"bundle.json: damaged: labels is missing; "):
        build_model(warm_start_config(tmp_path), Labels(("a",)), CPU)


def test_two_sources_of_initial_weights_are_refused():
    with pytest.raises(ValueError, match=r"^init_from=a: its weights would replace"):
        make_config("init_from=a", "model.pretrained=true", "run_dir=.")


def test_resuming_does_not_need_the_source_of_the_warm_start(
    source_run: Path, demo: Path, tmp_path: Path
):
    initial = tmp_path / "initial"
    shutil.copytree(source_run / "bundle", initial / "bundle")
    config = warm_start_config(initial, f"data.root={demo}", "trainer.max_epochs=1")
    data = open_data(config.data, 32_000)
    trained = train(config, data, tmp_path / "run")
    shutil.rmtree(initial)
    resumed = build_training_run(
        replace(config), data, tmp_path / "run", connect_processes(config.trainer),
        load_checkpoint(tmp_path / "run"),
    )  # fmt: skip
    for name, weight in trained.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name])
