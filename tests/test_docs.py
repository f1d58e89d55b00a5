"""The pages of documentation: all commands in them run, and all that they name exists.

Quick tests check every command as far as seconds allow: settings are composed and what they
describe is built, prediction and checks of data run. With ``--slow`` everything runs that needs
neither a network, a GPU nor several machines. Commands of a page run in order, in a directory
that is like a clone after the commands of the README.
"""

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import entry_points
from itertools import count
from pathlib import Path

import pytest
import typer
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from typer.testing import CliRunner

from birdmix.cli.main import app
from birdmix.config import schema
from birdmix.config.composition import to_config
from birdmix.config.config_errors import explain_error
from birdmix.config.overrides import quote_arguments
from birdmix.config.resume_policy import new_or_resumed_config
from birdmix.config.schema import Config
from birdmix.experiments.builders import check_buildable
from birdmix.experiments.comparison.comparison_file import read_comparison
from birdmix.experiments.comparison.comparison_loop import ComparisonSeries
from birdmix.experiments.run import run
from birdmix.recordings.source_readers import read_source
from tests.conftest import ROOT, SMALL, make_config
from tests.test_layers import LAYERS

PAGES = ["README.md", *sorted(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md"))]
#: Pages that are linked and named, but whose commands are those of the others.
FURTHER_PAGES = ["CONTRIBUTING.md", "data/README.md"]

#: What makes runs short enough for a test; the network is replaced where no other one is chosen.
SHORT = (
    *(override for override in SMALL if override.startswith(("data.", "trainer."))),
    *("trainer.max_epochs=1", "trainer.precision=32-true", "trainer.compile=false"),
    *("model.pretrained=false", "model.weights=null", "loggers=[]"),
)
SHORT_NETWORK = next(override for override in SMALL if override.startswith("model."))

#: Parts of commands that need a large network, other data, or more than the one labelled
#: soundscape of the tests' demo, so that a test only builds them.
ONLY_BUILT = ("experiment=", "DIR", "soundscapes: {")

#: Words in capitals that stand for something of the reader's; the other words are taken as typed.
PLACEHOLDERS = {"DIR", "FILE", "FOLDER", "HOST", "PATH", "RUN_DIR"}

#: Languages of blocks that show a file, and of all blocks.
FILES = ("csv", "text", "yaml")
LANGUAGES = ("", "sh", "python", *FILES)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        place: Page and line.
        language: The word behind the fence, empty if there is none.
        text: The lines of the block.
        before: The paragraph before it.
    """

    place: str
    language: str
    text: str
    before: str

    def commands(self) -> Iterator[list[str]]:
        """Yield the words of each command, without comments."""
        for line in self.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while "&&" in words:
                yield words[: words.index("&&")]
                words = words[words.index("&&") + 1 :]
            if words:
                yield words


def read_page(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    text = read_page(page)
    found = re.finditer(r"^```(\w*)\n((?:.*\n)*?)```$", text, re.M)
    return [
        Block(
            f"{page}:{text[: match.start()].count(chr(10)) + 1}",
            match[1],
            match[2],
            text[: match.start()].rstrip().rpartition("\n\n")[2],
        )
        for match in found
    ]


def prose(page: str) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*\n(?:.*\n)*?```$", "", read_page(page), flags=re.M)


def code_spans(page: str) -> list[str]:
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))]


# Commands


class Clone:
    """A directory with all that a reader has made; runs or checks commands in it.

    Args:
        folder: The directory.
        all_run: Whether to run what takes long, too.
    """

    def __init__(self, folder: Path, all_run: bool) -> None:
        self.folder, self.all_run = folder, all_run
        self._numbers = count(1)
        self._text = ""  # of the page's blocks

    def check_page(self, page: str) -> None:
        """Run or check all blocks of a page.

        Raises:
            ExceptionGroup: If some fail.
        """
        errors: list[Exception] = []
        self._text = "\n".join(block.text for block in blocks(page))
        # Files first: a page may show a file below the command that reads it.
        for block in sorted(blocks(page), key=lambda block: block.language not in FILES):
            for name, check in self._checks(block):
                try:
                    check()
                except (Exception, SystemExit) as error:
                    failed = AssertionError(f"{block.place}: {name}: {error!r}")
                    failed.__cause__ = error
                    errors.append(failed)
        if errors:
            raise ExceptionGroup(f"{page}: {len(errors)} failed", errors)

    def _checks(self, block: Block) -> Iterator[tuple[str, Callable[[], object]]]:
        assert block.language in LANGUAGES, f"{block.place}: no test runs {block.language}"
        if block.language == "sh":
            for words in block.commands():
                yield shlex.join(words), lambda words=words: self._check_command(words)
        elif block.language == "python":
            yield "python", lambda: exec(compile(block.text, block.place, "exec"), {})
        elif block.language in FILES:
            yield block.language, lambda: self._write_file(block)

    def _write_file(self, block: Block) -> None:
        """Write a file that a page shows; the last name before the block is that of the file."""
        names = re.findall(r"`([\w/]+\.(?:csv|txt|yaml))`", block.before)
        file = self.folder / names[-1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text, encoding="utf-8")

    def _check_command(self, words: list[str]) -> None:
        """Run or check a command.

        Raises:
            AssertionError: Also for a program that no test covers.
        """
        while re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        match words:
            case ["python", "train.py", *arguments] | ["birdmix", "train", *arguments]:
                self._check_training(words[:2], arguments)
            case ["birdmix", *arguments]:
                self._check_birdmix(arguments)
            case ["torchrun" | "srun", *_]:
                self._check_launched(words)
            case ["cp", *_]:
                subprocess.run(words, cwd=self.folder, check=True)
            case ["pip", "install" | "wheel", *arguments]:
                check_extras(arguments)
            case ["pytest", "-n", "2"]:
                pass
            case ["tensorboard", "--logdir", folder]:
                assert entry_points(group="console_scripts", name="tensorboard")
                assert (self.folder / folder).is_dir()
            case _:
                raise AssertionError("no test covers this command")

    def _check_launched(self, words: list[str]) -> None:
        """Check what several processes would run; tests/test_processes.py runs several."""
        script = next(word for word in ("train.py", "birdmix") if word in words)
        arguments = words[words.index(script) + 1 :]
        if script == "train.py":
            check_buildable(composed_config(self.folder, arguments)[0])
        else:
            parse_arguments(arguments)

    def _check_training(self, program: list[str], arguments: list[str]) -> None:
        flags = {word for word in arguments if word.startswith("-")}
        if self.all_run and (flags or program[0] == "birdmix"):
            self._run_script(program, arguments)
            return
        config, overrides = composed_config(self.folder, arguments)
        if config.resume is None:
            model = replace(config.model, pretrained=False, weights=None)
            check_buildable(replace(config, model=model, init_from=None, loggers=[]))
        if any(part in shlex.join(arguments) for part in ONLY_BUILT):
            return
        read_source(config.data)
        if self.all_run:
            self._train(config, overrides)

    def _train(self, config: Config, overrides: list[str]) -> None:
        if config.resume is not None:
            epochs = ["trainer.max_epochs=3"] if "resume_force=true" in overrides else []
            config, _ = composed_config(self.folder, [*overrides, *epochs])
            run(config, self.folder / str(config.resume))
            return
        config, _ = composed_config(self.folder, [*overrides, *short_overrides(overrides)])
        run(config, self._new_run_directory(overrides))

    def _new_run_directory(self, overrides: list[str]) -> Path:
        """Return the run directory of a command, without an earlier run."""
        given = [override.split("=")[1] for override in overrides if "run_dir=" in override]
        directory = self.folder / (given[0] if given else f"runs/unnamed-{next(self._numbers)}")
        shutil.rmtree(directory, ignore_errors=True)
        return directory

    def _run_script(self, program: list[str], arguments: list[str]) -> None:
        """Run the training script in a process of its own."""
        script = [str(ROOT / "train.py")] if program[0] == "python" else ["-m", "birdmix", "train"]
        is_run = not {"--help", "--cfg"} & set(arguments)
        short = short_overrides(arguments) if is_run else []
        self._new_run_directory(arguments)
        self._run_process([*script, *arguments, *short])

    def _run_process(self, arguments: list[str]) -> None:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]

    def _check_birdmix(self, arguments: list[str]) -> None:
        parse_arguments(arguments)
        name = arguments[0]
        if name == "kit" or (name == "tune" and not self.all_run):
            return  # tests/test_kit.py makes kits; wheels are downloaded
        if name == "compare" and not self.all_run:
            self._check_comparison(arguments)
            return
        if name in ("predict", "export") and not self.all_run and not self._is_needed(arguments):
            return
        self._run_birdmix(name, arguments)

    def _check_comparison(self, arguments: list[str]) -> None:
        """Compose the settings of all arms of a comparison."""
        _, file, *overrides = arguments[: arguments.index("--out")]
        mixtures = None
        if "--mixtures" in overrides:
            at = overrides.index("--mixtures")
            mixtures = Path(overrides[at + 1])
            overrides = overrides[:at]
        comparison = read_comparison(self.folder / file, overrides)
        ComparisonSeries(comparison, self.folder / "compared", mixtures, 0).check_settings()

    def _shorten_comparison(self, file: Path) -> None:
        """Divide the numbers of epochs in a comparison file by 15, and make one replicate."""
        text = file.read_text(encoding="utf-8")
        if "replicates: 1" in text:
            return  # by an earlier command of the page
        text = text.replace("replicates: 5", "replicates: 1")
        text = re.sub(r"(max_epochs=)(\d+)", lambda m: f"{m[1]}{max(int(m[2]) // 15, 1)}", text)
        file.write_text(text, encoding="utf-8")

    def _run_birdmix(self, name: str, arguments: list[str]) -> None:
        if name == "compare":
            self._shorten_comparison(self.folder / arguments[1])
            short = [each for each in SHORT if "max_epochs" not in each]
            arguments = [*arguments, *short, SHORT_NETWORK]
        if name == "tune":
            arguments = [word if word != "50" else "2" for word in arguments]
            arguments += [*SHORT, SHORT_NETWORK]
        if name == "inspect":
            of_a_run = any(word.startswith("run=") for word in arguments)
            arguments += [*([] if of_a_run else SHORT), "--batches", "2", "--examples", "2"]
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0 or (name == "doctor" and done.exit_code == 1), done.output

    def _is_needed(self, arguments: list[str]) -> bool:
        """Return whether a later block of the page uses what a command writes, and it is absent."""
        if "--out" not in arguments:
            return False
        out = arguments[arguments.index("--out") + 1]
        uses = re.findall(rf"(?<![\w/]){re.escape(out)}(?![\w])", self._text)
        return len(uses) > 1 and not (self.folder / out).exists()


def parse_arguments(arguments: list[str]) -> None:
    """Check the names and types of a command's options and arguments, without running it."""
    name, *rest = arguments
    group = typer.main.get_command(app)
    if name.startswith("-"):
        assert name in {option for each in group.params for option in each.opts}
        return
    with group.make_context("birdmix", [name]) as context:
        group.commands[name].make_context(name, rest, parent=context)


def composed_config(folder: Path, arguments: list[str]) -> tuple[Config, list[str]]:
    """Compose the settings of a command; of a sweep, those of its first run.

    Args:
        folder: The working directory.
        arguments: The command line of ``train.py``.

    Returns:
        The settings, and the overrides without flags.
    """
    schema.register()
    words = iter(quote_arguments(arguments))
    overrides, search_path = [], []
    for word in words:
        if word == "--config-dir":
            search_path = [f"hydra.searchpath=[file://{folder / next(words)}]"]
        elif word == "--cfg":
            assert next(words) == "job"
        elif not word.startswith("-"):
            parsed = OverridesParser.create().parse_override(word)
            if parsed.is_sweep_override():
                word = f"{parsed.key_or_group}={next(iter(parsed.sweep_string_iterator()))}"
            overrides.append(word)
        else:
            assert word in ("-m", "--help")
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        try:
            composed = compose("config", overrides=[*overrides, *search_path])
        except Exception as error:
            raise AssertionError(explain_error(error)) from error
    composed.run_dir = "x"
    if composed.resume:
        return new_or_resumed_config(composed, overrides), overrides
    return to_config(composed), overrides


def short_overrides(overrides: list[str]) -> list[str]:
    """Return overrides that make a run of these overrides short."""
    chooses_network = any(each.startswith("model=") for each in overrides)
    return [*SHORT, *([] if chooses_network else [SHORT_NETWORK])]


def check_extras(arguments: list[str]) -> None:
    """Check that the extras in arguments of pip exist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra in re.findall(r"\[(.+?)\]", " ".join(arguments)):
        assert extra in project["optional-dependencies"], extra


@pytest.fixture(scope="module")
def prepared(demo: Path, finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone after the commands of the README, with a second run."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "conf").symlink_to(ROOT / "conf")
    shutil.copytree(demo, folder / "data" / "demo")
    shutil.copytree(demo / "train_audio", folder / "my_data")
    shutil.copytree(demo / "test_soundscapes", folder / "recordings")
    for name in ("first", "second", "folds/0"):
        shutil.copytree(finished_run, folder / "runs" / name)
    return folder


@pytest.fixture
def make_clone(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, bool], Clone]:
    """Make the directory in which a page's commands run."""

    def make(page: str, all_run: bool) -> Clone:
        shutil.copytree(prepared, tmp_path / "clone", symlinks=True)
        if page == "README.md":
            shutil.rmtree(tmp_path / "clone" / "my_data")
            shutil.rmtree(tmp_path / "clone" / "recordings")
        monkeypatch.chdir(tmp_path / "clone")
        return Clone(tmp_path / "clone", all_run)

    return make


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_valid(page: str, make_clone: Callable[[str, bool], Clone]):
    make_clone(page, False).check_page(page)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_runs(page: str, make_clone: Callable[[str, bool], Clone]):
    make_clone(page, True).check_page(page)


def test_a_command_that_no_test_covers_fails(tmp_path: Path):
    with pytest.raises(AssertionError, match="no test covers"):
        Clone(tmp_path, False)._check_command(["curl", "x"])


# What the pages name


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *FURTHER_PAGES])
def test_every_link_leads_to_a_file_and_a_heading(page: str):
    for path, _, anchor in re.findall(r"\]\(([^)#]*)(#?)([^)]*)\)", prose(page)):
        if path.startswith("https://"):
            continue
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def test_every_page_is_linked_from_the_readme():
    text = read_page("README.md")
    assert [page for page in PAGES[1:] if f"({page})" not in text] == []


@cache
def default_settings() -> dict[str, object]:
    """Return the settings and groups of settings by their full keys."""
    settings: dict[str, object] = {}

    def add(value: object, prefix: str) -> None:
        for name, each in vars(value).items():
            settings[f"{prefix}{name}"] = each
            if hasattr(each, "__dataclass_fields__"):
                add(each, f"{prefix}{name}.")

    add(make_config("run_dir=x"), "")
    return settings


@pytest.mark.parametrize("page", [*PAGES, *FURTHER_PAGES])
def test_every_setting_that_a_page_names_exists(page: str):
    settings = default_settings()
    groups = {key.split(".")[0] for key in settings if "." in key}
    for word in " ".join(code_spans(page)).replace('"', " ").replace("'", " ").split():
        key, equals, value = word.partition("=")
        if "." in key and key.split(".")[0] in groups and not key.endswith((".md", ".csv")):
            assert key in settings, f"{page}: {word}"
        elif equals and key in groups and re.fullmatch(r"[\w/]+", value):
            assert (ROOT / "conf" / key / f"{value}.yaml").is_file(), f"{page}: {word}"


@pytest.mark.parametrize("page", PAGES)
def test_every_option_that_a_page_names_exists(page: str):
    group = typer.main.get_command(app)
    commands = [group, *group.commands.values()]
    options = {option for each in commands for param in each.params for option in param.opts}
    known = options | {"--help", "--cfg", "--slow"}
    named = re.findall(r"(?<![\w-])--[a-z][\w-]*", " ".join(code_spans(page)))
    assert [option for option in named if option not in known] == []


@pytest.mark.parametrize("page", [*PAGES, *FURTHER_PAGES])
def test_every_file_of_the_project_that_a_page_names_exists(page: str):
    for span in code_spans(page):
        if re.fullmatch(r"(birdmix|conf|docs|tests|benchmarks)/[\w./*-]+", span):
            assert list(ROOT.glob(span)), f"{page}: {span}"


@pytest.mark.parametrize("page", PAGES)
def test_words_in_capitals_are_placeholders_or_environment_variables(page: str):
    for block in blocks(page):
        if block.language == "sh":
            words = [word for command in block.commands() for word in command]
            capitals = {
                word
                for each in words
                for word in re.findall(r"(?<![\w-])[A-Z][A-Z_]+(?![\w-])", each.partition("=")[2])
            }
            assert capitals <= PLACEHOLDERS | {"UTC"} or "PASSIVE" in capitals, block.place


def test_the_readme_is_short():
    assert len(read_page("README.md").splitlines()) <= 150


def test_the_tree_of_the_readme_has_every_package_with_its_layer():
    (tree,) = (block.text for block in blocks("README.md") if "birdmix/" in block.text)
    listed = dict(re.findall(r"^  (\w+)/ +(?:layer )?(\d)", tree, re.M))
    packages = {path.parent.name for path in (ROOT / "birdmix").glob("*/__init__.py")}
    assert {name: int(layer) for name, layer in listed.items()} == {
        name: LAYERS[name] for name in packages
    }


# The files page


@pytest.fixture
def prediction(make_clone: Callable[[str, bool], Clone]) -> Clone:
    """A clone with a prediction in all formats, clips of it, and a check of the data."""
    clone = make_clone("docs/files.md", False)
    options = "--bundle runs/first/bundle --threshold 0.2 --probabilities parquet"
    formats = "--format raven --format audacity --format birdnet --format kaleidoscope"
    for command in (
        f"predict recordings {options} {formats} --out predictions",
        "clips predictions --out clips",
        "doctor my_data --out .",
    ):
        name, *_ = arguments = command.split()
        clone._run_birdmix(name, arguments)
    return clone


def test_the_trees_of_the_files_page_list_every_file(prediction: Clone):
    trees = blocks("docs/files.md")
    assert len(trees) == 3
    for tree in trees:
        folder, *lines = tree.text.splitlines()
        names = " ".join(re.split(r" {2,}", line.strip())[0] for line in lines).split()
        written = {path.name for path in (prediction.folder / folder).iterdir()}
        assert written <= {name.strip("/,") for name in names}


def test_the_files_page_lists_every_column_in_order(prediction: Clone):
    text = " ".join(prose("docs/files.md").split())
    for file in ("predictions/*.csv", "doctor.csv", "clips/clips.csv"):
        for table in prediction.folder.glob(file):
            with table.open(newline="") as stream:
                columns = ", ".join(f"`{name}`" for name in next(csv.reader(stream)))
            assert columns in text, table.name


def test_own_data_has_every_data_source():

    sources = set(re.findall(r"`data=(\w+)`", read_page("docs/own-data.md")))
    assert sources == {file.stem for file in (ROOT / "conf" / "data").glob("*.yaml")}
