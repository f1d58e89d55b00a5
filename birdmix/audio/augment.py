"""Waveform augmentation with audiomentations, reproducible from a random generator.

audiomentations draws from the global generators of Python and numpy: these are seeded for each call
and restored after it. The library's caches (lengths and samples of noise files) do not change
results. Transforms with other sources of randomness are refused, see ``_find_unseeded_randomness``.

Shapes: T samples.
"""

import inspect
import random
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from birdmix.messages import did_you_mean, first_line

_NAMESPACE = "audiomentations"

# Attributes with lists of files that transforms find in folders, in the order of the file system.
_FILE_LISTS = ("sound_file_paths", "ir_files")

# Below this rate signalsmith_stretch adds noise that is not reproducible.
_MIN_STRETCH_RATE = 0.5


class AugmentationChain:
    """A chain of audiomentations transforms, built from settings.

    It is false without transforms, and pickles as its settings. Calls from several threads at once
    are not reproducible: the seeded generators are global to the process.

    Args:
        transforms: One mapping per transform: ``_target_`` is ``audiomentations.<ClassName>``, the
            other entries are its arguments, which may hold further transforms, as in ``OneOf``.
        sample_rate: Hz of the waveforms.

    Raises:
        ValueError: If audiomentations is not installed, a transform is unknown or refuses its
            arguments, or its results would not be reproducible.
    """

    def __init__(self, transforms: Sequence[Mapping[str, Any]], sample_rate: int) -> None:
        self.transforms = list(transforms)
        self.sample_rate = sample_rate
        self._chain = _build_list(self.transforms, "") if transforms else []

    def __bool__(self) -> bool:
        return bool(self._chain)

    def __reduce__(
        self,
    ) -> tuple[type["AugmentationChain"], tuple[Sequence[Mapping[str, Any]], int]]:
        return AugmentationChain, (self.transforms, self.sample_rate)

    def __call__(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Augment one waveform.

        Args:
            waveform: float32 [T]; not modified.
            rng: Source of all randomness.

        Returns:
            float32 [T]. Longer results are cut at the end, shorter ones padded with zeros.

        Raises:
            ValueError: If a transform fails, for example because of a missing optional package or
                a corrupt noise file.
        """
        if not self:
            return waveform
        augmented = waveform.copy()
        with _seed_global_generators(rng):
            for transform in self._chain:
                try:
                    augmented = transform(augmented, self.sample_rate)
                except Exception as error:
                    name = f"{_NAMESPACE}.{type(transform).__name__}"
                    raise ValueError(
                        f"{name} failed: {first_line(error)}{_install_hint(error)}"
                    ) from error
        fitted = np.zeros(len(waveform), np.float32)
        kept = augmented[: len(waveform)]
        fitted[: len(kept)] = kept
        return fitted


@contextmanager
def _seed_global_generators(rng: np.random.Generator) -> Iterator[None]:
    python_state, numpy_state = random.getstate(), np.random.get_state(legacy=False)
    random.seed(rng.bytes(16))
    np.random.seed(rng.integers(2**32, size=4, dtype=np.uint32))
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _install_hint(error: Exception) -> str:
    return f'; try: pip install "{_NAMESPACE}[extras]"' if isinstance(error, ImportError) else ""


def _list_available_classes() -> dict[str, type]:
    """Return all classes of transforms and compositions, by full name."""
    try:
        import audiomentations
        from audiomentations.core.composition import BaseCompose
        from audiomentations.core.transforms_interface import BaseWaveformTransform
    except ImportError as error:
        raise ValueError(
            f"augmentation needs audiomentations ({error}): pip install 'birdmix[augment]'"
        ) from error
    return {
        f"{_NAMESPACE}.{name}": value
        for name, value in vars(audiomentations).items()
        if isinstance(value, type) and issubclass(value, (BaseWaveformTransform, BaseCompose))
    }


def _build_list(entries: Any, where: str) -> list[Any]:
    """Build a list of transforms; ``where`` is its place in the settings, for error messages."""
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        raise ValueError(f"{where or 'transforms'} is {entries!r}, not a list of transforms")
    classes = _list_available_classes()
    return [
        _build_transform(entry, f"{where}[{index}]", classes) for index, entry in enumerate(entries)
    ]


def _build_transform(entry: Any, where: str, classes: Mapping[str, type]) -> Any:
    """Build one transform, including transforms nested in its arguments."""
    if not isinstance(entry, Mapping) or "_target_" not in entry:
        raise ValueError(f"transform {where} is {entry!r}, not a mapping with a _target_")
    target = str(entry["_target_"])
    if target not in classes:
        near = did_you_mean(f"{_NAMESPACE}.{target.rpartition('.')[2]}", classes)
        raise ValueError(f"transform {where}: _target_={target!r} is unknown{near}")
    arguments = {
        name: _build_argument(name, value, f"{where}.{name}", classes)
        for name, value in entry.items()
        if name != "_target_"
    }
    known = inspect.signature(classes[target]).parameters
    for name in arguments:
        if name not in known:
            raise ValueError(
                f"transform {where}: {target} has no argument {name!r}{did_you_mean(name, known)}"
            )
    try:
        transform = classes[target](**arguments)
    except Exception as error:
        raise ValueError(f"transform {where}: {target} failed: {_error_text(error)}") from error
    for name in _FILE_LISTS:
        if hasattr(transform, name):
            setattr(transform, name, sorted(getattr(transform, name)))
    if reason := _find_unseeded_randomness(transform):
        raise ValueError(f"transform {where}: {target} is not reproducible: {reason}")
    return transform


def _build_argument(name: str, value: Any, where: str, classes: Mapping[str, type]) -> Any:
    if name == "transforms":
        return _build_list(value, where)
    if isinstance(value, Mapping) and "_target_" in value:
        return _build_transform(value, where, classes)
    # SomeOf expects a range as a tuple, which YAML does not have.
    return tuple(value) if name == "num_transforms" and isinstance(value, list) else value


def _error_text(error: Exception) -> str:
    """Return an error's first line; for an assertion without a message, its source line."""
    if isinstance(error, AssertionError) and not str(error):
        return str(traceback.extract_tb(error.__traceback__)[-1].line)
    return first_line(error)


def _find_unseeded_randomness(transform: Any) -> str:
    """Return why a transform is not reproducible from the global generators, else an empty text."""
    name = type(transform).__name__
    if name == "RoomSimulator" and transform.use_ray_tracing:
        return "pyroomacoustics draws rays from its own generator; set use_ray_tracing: false"
    stretches = name == "TimeStretch" and transform.method == "signalsmith_stretch"
    if stretches and transform.min_rate < _MIN_STRETCH_RATE:
        return f"set min_rate to {_MIN_STRETCH_RATE} or more, or method: librosa_phase_vocoder"
    return ""
