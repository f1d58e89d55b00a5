"""The file of a comparison: arms, control, replicates, screening and metrics, in YAML.

control: none
arms:
  none: [mix=none]
  mixup: [mix=mixup]
  inputs only: {overrides: [mix=mixup], control: inputs_only}
  two stages: {stages: [[mix=both], [mix=none, trainer.max_epochs=5]]}
overrides: [trainer.max_epochs=45]
replicates: 5
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from birdmix.config.run_config_file import read_yaml
from birdmix.messages import check_choice, did_you_mean
from birdmix.metrics.paired_statistics import MIN_RESAMPLES
from birdmix.metrics.weighted_metrics import COMPARISON_METRICS
from birdmix.mix.controls import CONTROLS

#: Named controls of an arm, and the overrides that they stand for.
ARM_CONTROLS = {
    **{name: (f"mix.control={name}",) for name in CONTROLS},
    "gain_and_noise": ("mix.control=no_mixing", "augment=gain_and_noise"),
}

_KEYS = (
    *("arms", "control", "overrides", "replicates", "seed", "folds", "metrics"),
    *("screening", "different_steps", "resamples"),
)
_ARM_KEYS = ("overrides", "stages", "control")
_SCREENING_KEYS = ("replicates", "keep", "overrides", "seed")

# Settings that each run of a comparison gets from it.
_SET_BY_COMPARISON = ("seed", "data.fold", "run_dir", "resume", "resume_force", "init_from")

# Distance from the first reported seed to the first one of a screening: it must not change when
# replicates are added.
_SCREENING_SEED = 1000

# Names of arms are names of folders.
_ARM_NAME = re.compile(r"\w[\w .,+()-]{0,79}")


@dataclass(frozen=True)
class Arm:
    """An arm of a comparison.

    Attributes:
        name: Its name.
        stages: Overrides of each stage; each stage begins from the weights of the one before.
    """

    name: str
    stages: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Screening:
    """A first round with other seeds, which chooses the arms that are reported.

    Attributes:
        replicates: Number of replicates.
        keep: Number of arms, besides the control, with the best mean of the first metric.
        seed: Seed of the first replicate.
        overrides: Overrides of its runs, which replace those of the arms.
    """

    replicates: int
    keep: int
    seed: int
    overrides: tuple[str, ...] = ()

    @property
    def seeds(self) -> range:
        """Seeds of its replicates."""
        return range(self.seed, self.seed + self.replicates)


@dataclass(frozen=True)
class Comparison:
    """What a comparison file says.

    Attributes:
        control: Name of the arm that the others are compared with.
        arms: The arms by name.
        overrides: Overrides of all runs, which arms may replace.
        last_overrides: Overrides of all runs, which replace those of arms.
        replicates: Number of seeds; for the demo each is also the seed of its own data.
        seed: The first of them.
        folds: Folds to hold out, one after another; None is all folds of the data.
        metrics: Names of the metrics; the first one decides the screening and leads the output.
        screening: The first round; None compares all arms at once.
        different_steps: Whether arms may have different numbers of optimizer steps.
        resamples: Number of resamples of the bootstrap.
    """

    control: str
    arms: Mapping[str, Arm]
    overrides: tuple[str, ...]
    last_overrides: tuple[str, ...]
    replicates: int
    seed: int
    folds: tuple[int, ...] | None
    metrics: tuple[str, ...]
    screening: Screening | None
    different_steps: bool
    resamples: int

    @property
    def seeds(self) -> range:
        """Seeds of the replicates that are reported."""
        return range(self.seed, self.seed + self.replicates)


def read_comparison(file: Path, overrides: Sequence[str] = ()) -> Comparison:
    """Read a comparison file.

    Args:
        file: The YAML file.
        overrides: Further overrides of all runs, which replace those of the file and its arms.

    Raises:
        ValueError: With the file and the key, if it is not readable or a value is wrong.
    """
    if not file.is_file():
        raise ValueError(
            f"{file}: no such file; name a YAML file with arms, for example "
            "{control: none, arms: {none: [mix=none], mixup: [mix=mixup]}}"
        )
    plain = read_yaml(file)
    try:
        comparison = _parse(plain)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return replace(comparison, last_overrides=_parse_overrides(list(overrides), "overrides"))


def describe_comparison(file: Path) -> str:
    """Return the text of a comparison file as plain YAML, without its comments."""
    return yaml.safe_dump(read_yaml(file), sort_keys=False, allow_unicode=True, width=100)


def _parse(plain: Mapping[str, Any]) -> Comparison:
    _check_keys(plain, _KEYS, "")
    arms = _parse_arms(plain.get("arms"))
    control = plain.get("control")
    if control is None:
        raise ValueError("control: name the arm that the others are compared with")
    check_choice("control", str(control), arms)
    replicates = _whole_number(plain, "replicates", 1, 1)
    seed = _whole_number(plain, "seed", 0, 0)
    metrics = tuple(_texts(plain.get("metrics", list(COMPARISON_METRICS)), "metrics"))
    if not metrics or len(set(metrics)) < len(metrics):
        raise ValueError(f"metrics={list(metrics)}: name one or more, each once")
    for metric in metrics:
        check_choice("metrics", metric, COMPARISON_METRICS)
    return Comparison(
        control=str(control),
        arms=arms,
        overrides=_parse_overrides(plain.get("overrides", []), "overrides"),
        last_overrides=(),
        replicates=replicates,
        seed=seed,
        folds=_parse_folds(plain.get("folds")),
        metrics=metrics,
        screening=_parse_screening(
            plain.get("screening"), range(seed, seed + replicates), arms, metrics[0]
        ),
        different_steps=_yes_or_no(plain, "different_steps"),
        resamples=_whole_number(plain, "resamples", 10_000, MIN_RESAMPLES),
    )


def _parse_arms(plain: Any) -> dict[str, Arm]:
    if not isinstance(plain, dict):
        raise ValueError("arms: write a mapping of names to overrides, as in {mixup: [mix=mixup]}")
    arms = {str(name): _parse_arm(str(name), value) for name, value in plain.items()}
    if len(arms) < 2:
        raise ValueError(f"arms: {len(arms)} given; a comparison needs a control and another arm")
    by_folder = {name.casefold(): name for name in arms}
    if len(by_folder) < len(arms):
        raise ValueError("arms: two names differ in upper and lower case only; rename one")
    return arms


def _parse_arm(name: str, plain: Any) -> Arm:
    key = f"arms.{name}"
    if not _ARM_NAME.fullmatch(name) or name != name.strip() or name.endswith("."):
        raise ValueError(
            f"arms: '{name}' is no name of an arm; use up to 80 letters, digits, spaces and _.,+()-"
        )
    if not isinstance(plain, dict):
        return Arm(name, (_parse_overrides(plain, key),))
    _check_keys(plain, _ARM_KEYS, f"{key}.")
    if "overrides" in plain and "stages" in plain:
        raise ValueError(f"{key}: set overrides or stages, not both")
    stages = plain.get("stages", [plain.get("overrides", [])])
    if not isinstance(stages, list) or not stages:
        raise ValueError(f"{key}.stages: write a list of lists of overrides")
    control = plain.get("control")
    added: tuple[str, ...] = ()
    if control is not None:
        check_choice(f"{key}.control", str(control), ARM_CONTROLS)
        added = ARM_CONTROLS[str(control)]
    return Arm(
        name,
        tuple((*_parse_overrides(stage, f"{key}.stages"), *added) for stage in stages),
    )


def _parse_screening(
    plain: Any, reported: range, arms: Mapping[str, Arm], metric: str
) -> Screening | None:
    if plain is None:
        return None
    if not isinstance(plain, dict):
        raise ValueError("screening: write {replicates: NUMBER, keep: NUMBER}")
    _check_keys(plain, _SCREENING_KEYS, "screening.")
    if COMPARISON_METRICS[metric].better is None:
        raise ValueError(
            f"metrics: {metric} cannot choose the arms of a screening, since neither higher nor "
            "lower values are better; put another metric first"
        )
    screening = Screening(
        _whole_number(plain, "replicates", 2, 1, "screening."),
        _whole_number(plain, "keep", 3, 1, "screening."),
        _whole_number(plain, "seed", reported.start + _SCREENING_SEED, 0, "screening."),
        _parse_overrides(plain.get("overrides", []), "screening.overrides"),
    )
    if set(screening.seeds) & set(reported):
        raise ValueError(
            f"screening.seed={screening.seed}: its seeds are also reported; results of the runs "
            f"that chose an arm are too good. Use {reported.stop} or more"
        )
    if screening.keep > len(arms) - 1:
        raise ValueError(
            f"screening.keep={screening.keep}: there are {len(arms) - 1} arms besides the control"
        )
    return screening


def _parse_folds(plain: Any) -> tuple[int, ...] | None:
    if plain is None:
        return None
    folds = plain if isinstance(plain, list) else [plain]
    are_numbers = all(isinstance(fold, int) and not isinstance(fold, bool) for fold in folds)
    if not folds or not are_numbers or min(folds) < 0:
        raise ValueError(f"folds={plain}: write a list of folds, as in [0, 1, 2]")
    return tuple(dict.fromkeys(folds))


def _parse_overrides(plain: Any, key: str) -> tuple[str, ...]:
    overrides = _texts(plain, key)
    for override in overrides:
        if "=" not in override:
            raise ValueError(f"{key}: '{override}' is no override; write key=value")
        name = override.lstrip("+~").partition("=")[0]
        if name in _SET_BY_COMPARISON and override != "data.fold=null":
            raise ValueError(
                f"{key}: '{override}' is set by the comparison; remove it "
                "(its own keys are seed, replicates and folds)"
            )
    return tuple(overrides)


def _texts(plain: Any, key: str) -> list[str]:
    if not isinstance(plain, list) or not all(isinstance(each, str) for each in plain):
        raise ValueError(f"{key}: write a list of texts, as in [mix=mixup, optim.lr=0.01]")
    return plain


def _whole_number(
    plain: Mapping[str, Any], key: str, default: int, lowest: int, prefix: str = ""
) -> int:
    value = plain.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
        raise ValueError(f"{prefix}{key}={value}: it must be a whole number of {lowest} or more")
    return value


def _yes_or_no(plain: Mapping[str, Any], key: str) -> bool:
    value = plain.get(key, False)
    if not isinstance(value, bool):
        raise ValueError(f"{key}={value}: it must be true or false")
    return value


def _check_keys(plain: Mapping[str, Any], right: Sequence[str], prefix: str) -> None:
    for key in map(str, plain):
        if key not in right:
            raise ValueError(f"{prefix}{key} is unknown{did_you_mean(key, right)}")
