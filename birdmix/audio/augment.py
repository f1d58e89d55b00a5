"""Augment waveforms with audiomentations, as a function of the waveform and a generator alone.

Its transforms draw from the global generators of Python and numpy: these are seeded for each call
and put back after it. What the library keeps between calls (lengths and samples of noise files)
changes no result. Transforms that draw from elsewhere are refused, by ``_own_randomness``.

Shapes: T samples.
"""

import inspect
import random
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from birdmix.suggest import did_you_mean, first_line

_NAMESPACE = "audiomentations"

# Lists of files that transforms make of folders: in the order of the file system, unless sorted.
_FILE_LISTS = ("sound_file_paths", "ir_files")

# Below this rate signalsmith_stretch fills up with noise of its own.
_LEAST_CLEAN_RATE = 0.5


class Augmentation:
    """A chain of audiomentations' transforms, built from settings.

    It is false where there are no transforms, and pickles as its settings. Calls from several
    threads at once are not reproducible: the generators that are seeded belong to the process.

    Args:
        transforms: One mapping each: ``_target_`` is ``audiomentations.<ClassName>``, the rest are
            its arguments; among them may be further such mappings, as for ``OneOf``.
        sample_rate: Hz of the waveforms.

    Raises:
        ValueError: If audiomentations is not installed, or for a transform that it does not have,
            that refuses its arguments, or whose result would not repeat.
    """

    def __init__(self, transforms: Sequence[Mapping[str, Any]], sample_rate: int) -> None:
        self.transforms = list(transforms)
        self.sample_rate = sample_rate
        self._chain = _built(self.transforms, "") if transforms else []

    def __bool__(self) -> bool:
        return bool(self._chain)

    def __reduce__(self) -> tuple[type["Augmentation"], tuple[Sequence[Mapping[str, Any]], int]]:
        return Augmentation, (self.transforms, self.sample_rate)

    def __call__(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Augment one waveform.

        Args:
            waveform: float32 [T]; it is not changed.
            rng: Source of all randomness.

        Returns:
            float32 [T]: what a transform makes longer is cut at its end, what it makes shorter
            ends in silence.

        Raises:
            ValueError: If a transform fails, for want of an optional package or on a broken file.
        """
        if not self:
            return waveform
        augmented = waveform.copy()
        with _global_generators_seeded(rng):
            for transform in self._chain:
                try:
                    augmented = transform(augmented, self.sample_rate)
                except Exception as error:
                    name = f"{_NAMESPACE}.{type(transform).__name__}"
                    raise ValueError(f"{name} failed: {first_line(error)}{_cure(error)}") from error
        fitted = np.zeros(len(waveform), np.float32)
        piece = augmented[: len(waveform)]
        fitted[: len(piece)] = piece
        return fitted


@contextmanager
def _global_generators_seeded(rng: np.random.Generator) -> Iterator[None]:
    of_python, of_numpy = random.getstate(), np.random.get_state(legacy=False)
    random.seed(rng.bytes(16))
    np.random.seed(rng.integers(2**32, size=4, dtype=np.uint32))
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)


def _cure(error: Exception) -> str:
    return f'; try: pip install "{_NAMESPACE}[extras]"' if isinstance(error, ImportError) else ""


def _classes() -> dict[str, type]:
    """Return what may be built, by its full name."""
    try:
        import audiomentations
        from audiomentations.core.composition import BaseCompose
        from audiomentations.core.transforms_interface import BaseWaveformTransform
    except ImportError as error:
        raise ValueError(
            f'augmentation needs audiomentations ({error}): pip install -e ".[augment]"'
        ) from error
    return {
        f"{_NAMESPACE}.{name}": each
        for name, each in vars(audiomentations).items()
        if isinstance(each, type) and issubclass(each, (BaseWaveformTransform, BaseCompose))
    }


def _built(entries: Any, where: str) -> list[Any]:
    """Build a list of transforms; ``where`` says in errors which list it is."""
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        raise ValueError(f"{where or 'transforms'} is {entries!r}, not a list of transforms")
    classes = _classes()
    return [_transform(each, f"{where}[{at}]", classes) for at, each in enumerate(entries)]


def _transform(entry: Any, where: str, classes: Mapping[str, type]) -> Any:
    """Build one transform, and what is nested in its arguments."""
    if not isinstance(entry, Mapping) or "_target_" not in entry:
        raise ValueError(f"transform {where} is {entry!r}, not a mapping with a _target_")
    target = str(entry["_target_"])
    if target not in classes:
        near = did_you_mean(f"{_NAMESPACE}.{target.rpartition('.')[2]}", classes)
        raise ValueError(f"transform {where}: _target_={target!r} is unknown{near}")
    given = {
        name: _argument(name, value, f"{where}.{name}", classes)
        for name, value in entry.items()
        if name != "_target_"
    }
    known = inspect.signature(classes[target]).parameters
    for name in given:
        if name not in known:
            raise ValueError(
                f"transform {where}: {target} has no argument {name!r}{did_you_mean(name, known)}"
            )
    try:
        transform = classes[target](**given)
    except Exception as error:
        raise ValueError(f"transform {where}: {target} refuses: {_words(error)}") from error
    for name in _FILE_LISTS:
        if hasattr(transform, name):
            setattr(transform, name, sorted(getattr(transform, name)))
    if reason := _own_randomness(transform):
        raise ValueError(f"transform {where}: {target} would not repeat: {reason}")
    return transform


def _argument(name: str, value: Any, where: str, classes: Mapping[str, type]) -> Any:
    if name == "transforms":
        return _built(value, where)
    if isinstance(value, Mapping) and "_target_" in value:
        return _transform(value, where, classes)
    # SomeOf knows a range by its being a tuple, which YAML has not.
    return tuple(value) if name == "num_transforms" and isinstance(value, list) else value


def _words(error: Exception) -> str:
    """Return an error's first line; of an assertion without words, what it asserts."""
    if isinstance(error, AssertionError) and not str(error):
        return str(traceback.extract_tb(error.__traceback__)[-1].line)
    return first_line(error)


def _own_randomness(transform: Any) -> str:
    """Say why a transform's result depends on more than the global generators; empty if not."""
    name = type(transform).__name__
    if name == "RoomSimulator" and transform.use_ray_tracing:
        return "pyroomacoustics draws rays by itself; set use_ray_tracing: false"
    stretches = name == "TimeStretch" and transform.method == "signalsmith_stretch"
    if stretches and transform.min_rate < _LEAST_CLEAN_RATE:
        return f"set min_rate to {_LEAST_CLEAN_RATE} or more, or method: librosa_phase_vocoder"
    return ""
