"""Stages: a run begins with the weights of another one, and says which it took."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from birdmix.app.build import build_model, build_training
from birdmix.app.data import open_data
from birdmix.app.schema import Config
from birdmix.bundle.manifest import read_manifest
from birdmix.bundle.weights import read_weights
from birdmix.labels import Labels
from birdmix.training.checkpoint import load_checkpoint
from birdmix.training.processes import open_processes
from tests.conftest import SMALL, configured, train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def before(finished_run: Path) -> Path:
    return finished_run


def second(before: Path, *overrides: str) -> Config:
    return configured(*SMALL, f"init_from={before}", "loggers=[]", "run_dir=.", *overrides)


def test_a_stage_begins_with_all_weights_of_the_one_before(before: Path, capsys):
    labels = read_manifest(before / "bundle").labels
    model = build_model(second(before), labels, CPU)
    weights = read_weights(before / "bundle")
    assert all(torch.equal(each, weights[name]) for name, each in model.state_dict().items())
    said = capsys.readouterr().out
    assert "and the whole head, of 12 classes" in said and str(before / "bundle") in said


def test_classes_are_taken_by_their_codes_and_new_ones_start_anew(before: Path, capsys):
    labels = read_manifest(before / "bundle").labels
    others = Labels(("new", labels.codes[7], labels.codes[2]))
    model = build_model(second(before / "bundle"), others, CPU)
    old = read_weights(before / "bundle")["head.classes.weight"]
    new = model.state_dict()["head.classes.weight"]
    assert torch.equal(new[1:], old[[7, 2]])
    assert not (old == new[0]).all(dim=1).any()
    assert "rows of 2 of 3 classes; 1 are new" in capsys.readouterr().out


def test_classes_that_are_left_out_are_named_and_none_in_common_is_a_warning(before: Path, capsys):
    codes = read_manifest(before / "bundle").labels.codes
    build_model(second(before), Labels(codes[2:]), CPU)
    assert f"no longer there: 2 classes: {codes[0]}, {codes[1]}" in capsys.readouterr().out
    build_model(second(before), Labels(("Parus major",)), CPU)
    assert "are they codes of the same kind?" in capsys.readouterr().out


def test_another_front_end_is_told(before: Path, capsys):
    labels = read_manifest(before / "bundle").labels
    build_model(second(before, "frontend.log_mel.f_min=99"), labels, CPU)
    assert "f_min 50.0 -> 99" in capsys.readouterr().out


def test_another_backbone_is_refused_in_one_line(before: Path):
    config = second(before, "model.backbone_args={channels: [8, 8, 16, 24], stem_width: 8}")
    with pytest.raises(ValueError, match=r"^init_from=.*layer4[^\n]*$"):
        build_model(config, Labels(("a", "b")), CPU)


def test_a_stage_may_be_a_run_that_has_not_ended(before: Path, tmp_path: Path, capsys):
    for name in ("config.yaml", "last.ckpt"):
        shutil.copy(before / name, tmp_path)
    labels, weights = read_manifest(before / "bundle").labels, read_weights(before / "bundle")
    model = build_model(second(tmp_path), Labels((*labels.codes, "new")), CPU)
    new = model.state_dict()
    assert torch.equal(new["head.classes.weight"][:12], weights["head.classes.weight"])
    assert all(torch.equal(new[name], weights[name]) for name in new if "head" not in name)
    assert "rows of 12 of 13 classes; 1 are new" in capsys.readouterr().out


def test_a_stage_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="no bundle here"):
        build_model(second(tmp_path / "nowhere"), Labels(("a",)), CPU)


def test_a_bundle_without_labels_is_refused(before: Path, tmp_path: Path):
    shutil.copytree(before / "bundle", tmp_path / "bundle")
    file = tmp_path / "bundle" / "bundle.json"
    file.write_text(file.read_text().replace('"labels"', '"names"'))
    with pytest.raises(ValueError, match=r"bundle.json: damaged: labels is missing; "):
        build_model(second(tmp_path), Labels(("a",)), CPU)


def test_weights_have_one_origin():
    with pytest.raises(ValueError, match=r"^init_from=a: its weights would replace"):
        configured("init_from=a", "model.pretrained=true", "run_dir=.")


def test_a_resumed_stage_does_not_ask_for_the_one_before(before: Path, demo: Path, tmp_path: Path):
    stage = tmp_path / "stage"
    shutil.copytree(before / "bundle", stage / "bundle")
    config = second(stage, f"data.root={demo}", "trainer.max_epochs=1")
    data = open_data(config.data, 32_000)
    trained = train(config, data, tmp_path / "run")
    shutil.rmtree(stage)
    resumed = build_training(
        replace(config), data, tmp_path / "run", open_processes(config.trainer),
        load_checkpoint(tmp_path / "run"),
    )  # fmt: skip
    for name, weight in trained.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name])
