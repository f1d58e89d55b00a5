"""Overrides of the command line: text settings get exactly the text that was typed."""

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from birdmix.config.composition import compose_config
from birdmix.config.overrides import (
    add_quotes,
    move_flags_first,
    quote_arguments,
    quote_overrides,
    remove_quotes,
)
from birdmix.config.run_config_file import read_config, write_config
from birdmix.recordings.settings import PoolSettings
from tests.conftest import make_config

#: Texts that Hydra would read as another value, or reject.
TEXTS = [
    *("2024_05", "2026_11_26", "1e5", "007", "0x1F", "true", "1.10", "+5", "-0", "inf", "[a]"),
    *("/x/vögel", "/x/うぐいす", "/a/b=c", "/a b/c", "a,b", "/x:y", "~/x", "/a/$b", "/a#b", "it's"),
    *("C:\\birds\\", "a\\'b", "\\", " a ", "x\ny", "(a)", "/x(a,b)/c", "{a: 1}", 'a"'),
    "(?:^|_)(\\d+)[,=]",
]  # fmt: skip


def value_of(override: str) -> object:
    return OverridesParser.create().parse_override(override).value()


@pytest.mark.parametrize("text", [*TEXTS, "/x/caf\udce9"])
def test_a_text_setting_takes_the_text_as_typed(text: str):
    for key in ("data.root", "run_dir", "optim.name", "+data.pseudo.table"):
        (typed,) = quote_overrides([f"{key}={text}"])
        assert value_of(typed) == text
    (typed,) = quote_overrides([f"optim.freeze=[{add_quotes(text)}, b]"])
    assert value_of(typed) == [text, "b"]


def test_the_composed_configuration_contains_the_texts_as_typed():
    config = compose_config(["data.root=2024_05", "data.table=/x/vögel=1", "data.negative=[1e5]"])
    assert (config.data.root, config.data.table) == ("2024_05", "/x/vögel=1")
    assert config.data.negative == ["1e5"]


def test_each_element_of_a_list_of_texts_is_taken_as_typed():
    (typed,) = quote_overrides(["data.negative=[1e5, 2024_05 , vögel,null, 'a,b', true]"])
    assert value_of(typed) == ["1e5", "2024_05", "vögel", "null", "a,b", "true"]
    assert quote_overrides(["data.negative=[]"]) == ["data.negative=[]"]


def test_quotes_null_and_interpolations_work_as_in_hydra():
    config = compose_config(
        [
            "data.root='2024_05'",
            'data.table="a b"',
            "data.exclude=null",
            "data.label_map=${seed}.csv",
        ]
    )
    assert (config.data.root, config.data.table, config.data.exclude) == ("2024_05", "a b", None)
    assert config.data.label_map == "0.csv"


def test_numbers_stay_numbers():
    config = compose_config(["data.memory_gib=1e1", "seed=1_0", "mix.num_sources=[0.5,0,0.5]"])
    assert (config.data.memory_gib, config.seed, config.mix.num_sources) == (10, 10, [0.5, 0, 0.5])


@pytest.mark.parametrize(
    ("override", "values"),
    [
        ("data.root=2024_05,2024_06", ["2024_05", "2024_06"]),
        ("data.root=/x/vögel,'a,b'", ["/x/vögel", "a,b"]),
        ("data.root=choice(1e5,b)", ["1e5", "b"]),
        ("mix.mixup_rule=union,convex", ["union", "convex"]),
        ("frontend.log_mel.mel_norm=null,slaney", [None, "slaney"]),
        ("data.negative=[1,2],[]", [["1", "2"], []]),
        ("seed=1,2,3", [1, 2, 3]),
        ("data.fold=range(5)", [0, 1, 2, 3, 4]),
        ("data.memory_gib=1e1,2", [10.0, 2]),
        ("mix=none,both", ["none", "both"]),
        ("experiment=2024_05,x", ["2024_05", "x"]),
    ],
)
def test_sweeps_are_split_as_in_hydra_and_their_texts_are_taken_as_typed(
    override: str, values: list
):
    (flag, typed) = quote_arguments(["-m", override])
    sweep = OverridesParser.create().parse_override(typed)
    assert flag == "-m" and sweep.is_sweep_override()

    def plain(value: object) -> object:
        if isinstance(value, list):
            return [plain(element) for element in value]
        if value is None or isinstance(value, int | float):
            return value
        return getattr(value, "text", value)

    assert [plain(each) for each in sweep.sweep_iterator(transformer=lambda value: value)] == values


def test_flags_and_plain_texts_pass_unchanged():
    arguments = [
        "--cfg",
        "job",
        "-p",
        "data",
        "mix=both",
        "data.root=/a/b",
        "~mix",
        "hydra.job.num=1_0",
    ]
    assert quote_arguments(arguments) == arguments


@pytest.mark.parametrize("text", [*TEXTS, "plain"])
def test_unquoting_a_quoted_text_gives_the_text_back(text: str):
    assert remove_quotes(add_quotes(text)) == remove_quotes(add_quotes(text, '"')) == text


@pytest.mark.parametrize(
    "override",
    [
        "+optim.args.x=2024_05",
        "data.augment=[{_target_: audiomentations.Gain, p: 2024_05}]",
        "model.backbone_args={a: [2024_05]}",
    ],
)
def test_a_number_with_underscores_is_refused_in_a_setting_of_any_type(override: str):
    with pytest.raises(ValueError, match=r"read as the number 202405; write 202405, or '2024_05'"):
        quote_overrides([override])
    text = override.replace("2024_05", "'2024_05'")
    assert quote_overrides([text]) == [text]
    assert quote_overrides(["data.augment=[{a: x_2024_05, '1_0': b}]"])


def test_a_mapping_with_names_of_the_user_needs_no_plus():
    pools = "data.pools={noise: {source: background, root: /x/y-2024_05}}"
    config = make_config("run_dir=x", pools, "data.pools={recordings: {}}")
    assert config.data.pools == {
        "noise": PoolSettings("background", "/x/y-2024_05"),
        "recordings": PoolSettings(),
    }
    assert quote_arguments(["model.backbone_args={a: 1}"]) == ["model.backbone_args={a: 1}"]


def test_a_text_within_a_named_group_is_taken_as_typed():
    pools = "data.pools={noise: {source: background, root: x}}"
    config = make_config("run_dir=x", pools, "data.pools.noise.root=2024_05=é")
    assert config.data.pools["noise"].root == "2024_05=é"


def test_texts_are_equal_after_writing_and_reading_a_configuration(tmp_path: Path):
    texts = [*TEXTS, "null", "0123", "12:30", "12:30:59", "2026-11-26", "~", "a: b", "- a", "é"]
    config = compose_config([f"data.negative=[{','.join(map(add_quotes, texts))}]"])
    assert config.data.negative == texts
    for number, text in enumerate(texts[::6]):  # the list holds all of them in each file
        config.data.root = text
        (tmp_path / str(number)).mkdir()
        write_config(tmp_path / str(number), config)
        assert read_config(tmp_path / str(number)).data == config.data


def test_flags_may_stand_between_overrides():
    words = ["seed=1", "--config-dir", "my=conf", "mix=a", "-m", "~data.pools.x", "--cfg=job"]
    expected = ["--config-dir", "my=conf", "-m", "--cfg=job", "seed=1", "mix=a", "~data.pools.x"]
    assert move_flags_first(words) == expected
    assert move_flags_first(["--cfg", "job", "x=1"]) == ["--cfg", "job", "x=1"]
