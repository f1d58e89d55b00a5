"""Checks that arms can be compared: the same data, label set and number of optimizer steps."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from birdmix.config.resume_policy import flatten_settings
from birdmix.config.schema import Config
from birdmix.experiments.builders import check_buildable, num_optimizer_steps
from birdmix.experiments.comparison.planned_runs import PlannedRun
from birdmix.loading.run_data import RunData, open_data
from birdmix.messages import first_few, format_count
from birdmix.threads import OnItemDone
from birdmix.training.checkpoint import has_checkpoint, load_checkpoint


def check_settings(
    runs: Sequence[PlannedRun], has_separate_test: bool, is_demo: bool, different_steps: bool
) -> None:
    """Check the settings of an arm's runs as far as the configuration alone decides them.

    Args:
        runs: The stages of one replicate.
        has_separate_test: Whether the runs are tested on other recordings than they hold out.
        is_demo: Whether each replicate makes its own demo.
        different_steps: Whether arms may have different numbers of optimizer steps.

    Raises:
        ValueError: If a setting is invalid, is set by the comparison, ends training early, or
            selects an epoch on the rows that are reported.
    """
    for run in runs:
        keys = {override.lstrip("+~").partition("=")[0] for override in run.overrides}
        for key in ("data.root", "data.demo.seed") if is_demo else ():
            if key in keys:
                raise ValueError(
                    f"arm {run.arm}: {key} is set by the comparison, which makes a demo for each "
                    "seed; remove it"
                )
        config = run.compose()
        # The weights that a later stage begins from do not exist yet.
        first = replace(config, init_from=None) if run.stage > 1 else config
        try:
            check_buildable(first)
        except ValueError as error:
            raise ValueError(f"arm {run.arm}: {error}") from error
        if config.validation.patience is not None and not different_steps:
            raise ValueError(
                f"arm {run.arm}: validation.patience ends runs after different numbers of steps; "
                "set it to null, or different_steps: true"
            )
        chooses = config.validation.patience is not None or config.checkpoint.bundle == "best"
        if chooses and not has_separate_test:
            raise ValueError(
                f"arm {run.arm}: validation.patience and checkpoint.bundle=best choose an epoch by "
                "the held-out recordings, which are reported; set them to null and last"
            )


class ComparableArms:
    """Checks arms one by one against the control: data, label set and optimizer steps.

    Args:
        control: Name of the control.
        different_steps: Whether arms may have different numbers of optimizer steps.
        open_bar: Opens a progress bar.

    Attributes:
        steps: Number of optimizer steps of each arm's stages together, by arm.
    """

    def __init__(
        self,
        control: str,
        different_steps: bool,
        open_bar: Callable[[str], AbstractContextManager[OnItemDone]],
    ) -> None:
        self.control, self.different_steps = control, different_steps
        self.steps: dict[str, int] = {}
        self._open_bar = open_bar
        self._opened: dict[str, RunData] = {}
        self._first: dict[str, Sequence[str]] = {}

    def open(self, config: Config) -> RunData:
        """Open the data of a run, or return them if they are open; nothing is decoded."""
        settings = replace(config.data, cache="none")
        rate = config.frontend.log_mel.sample_rate
        key = repr((rate, list(flatten_settings(settings))))
        if key not in self._opened:
            self._opened[key] = open_data(settings, rate, self._open_bar)
        return self._opened[key]

    def check(self, arm: str, runs: Sequence[PlannedRun]) -> None:
        """Check an arm against the control, which must be the first one.

        Args:
            arm: Name of the arm.
            runs: The stages of its first replicate.

        Raises:
            ValueError: If data, label set or optimizer steps differ.
        """
        steps = 0
        for run in runs:
            config = run.compose()
            data = self.open(config)
            self._check_data(arm, data)
            steps += num_optimizer_steps(config, data)
        self.steps[arm] = steps
        expected = self.steps[self.control]
        if steps != expected and not self.different_steps:
            raise ValueError(
                f"arm {arm} has {format_count(steps, 'optimizer step')}, the control "
                f"{self.control} {expected:,}; "
                "more training alone may be the difference. Make them equal "
                "(trainer.max_epochs, data.batch_size), or set different_steps: true"
            )

    def check_former_data(self, run: PlannedRun) -> None:
        """Check that a run that was started before was trained on the present recordings.

        Raises:
            ValueError: If it was trained on others.
        """
        if not has_checkpoint(run.directory):
            return
        config = run.compose()
        former = load_checkpoint(run.directory)["data"].get("recordings")
        if former == "+".join(self.open(config).digests):
            return
        # With another cache other damaged recordings may be found, and left out.
        rate = config.frontend.log_mel.sample_rate
        if former != "+".join(open_data(config.data, rate, self._open_bar).digests):
            raise ValueError(
                f"{run.directory} was trained on other recordings or labels than there are now; "
                "restore them, or name another folder for --out"
            )

    def _check_data(self, arm: str, data: RunData) -> None:
        described = describe_data_identity(data)
        for name, value in described.items():
            expected = self._first.setdefault(name, value)
            if list(value) != list(expected):
                raise ValueError(
                    f"arm {arm} has other {name} than the control {self.control}: "
                    f"{_first_difference(value, expected)}; arms differ in how they train, so move "
                    "such settings to overrides"
                )


def describe_data_identity(data: RunData) -> Mapping[str, Sequence[str]]:
    """Return what must be equal in all arms: classes, recordings and what is held out."""
    return {
        "classes": data.labels.codes,
        "training recordings": [*data.train.paths, data.train.digest()],
        "held-out recordings": [
            each
            for recordings in data.validation.values()
            for each in (*recordings.paths, recordings.digest())
        ],
    }


def _first_difference(value: Sequence[str], expected: Sequence[str]) -> str:
    added = [each for each in value if each not in set(expected)][:-1]
    missing = [each for each in expected if each not in set(value)][:-1]
    if added:
        return f"it also has {first_few(added)}"
    if missing:
        return f"it lacks {first_few(missing)}"
    return "their labels, weights or spans differ"
