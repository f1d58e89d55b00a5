"""The state of a run in a checkpoint: collecting and restoring it, with checks that it fits."""

import warnings
from dataclasses import asdict
from typing import Any

import torch

from birdmix.messages import first_few, first_line
from birdmix.mix import MixStats
from birdmix.training.run_position import RunPosition
from birdmix.training.training_run import TrainingRun


def collect_state(run: TrainingRun) -> dict[str, Any]:
    """Return the content of a checkpoint; must be called in all processes at the same time."""
    return {
        "position": asdict(run.position),
        "data": run.data,
        "column_sources": _column_sources(run),
        "environment": _environment(run),
        "model": run.model.state_dict(),
        "average": None if run.average is None else run.average.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "precision": run.fabric.strategy.precision.state_dict(),
        "mix_stats": run.processes.gather(run.mix_stats.state_dict()),
    }


def restore_run(run: TrainingRun, state: dict[str, Any], other_data: bool = False) -> None:
    """Restore a run from a checkpoint.

    Args:
        run: A run at its start, changed in place.
        state: Content of the checkpoint, from ``collect_state``.
        other_data: Whether to resume even if the recordings changed since the checkpoint.

    Raises:
        ValueError: If the label set or the columns of ``metrics.csv`` changed, the recordings
            changed and ``other_data`` is not set, or the weights are those of another model.
    """
    _check_labels(run, state["data"])
    if state["data"].get("recordings") != run.data["recordings"] and not other_data:
        raise ValueError(
            f"{run.run_dir}: the recordings changed since the checkpoint; restore them, start a "
            "new run, or resume anyway with resume_force=true"
        )
    if state["column_sources"] != _column_sources(run):
        raise ValueError(
            f"{run.run_dir}: mix operators or validation sets changed, which would change the "
            f"columns of metrics.csv ({state['column_sources']} -> {_column_sources(run)}); start "
            "a new run"
        )
    try:
        run.model.load_state_dict(state["model"])
        if run.average is not None and state["average"] is not None:
            run.average.load_state_dict(state["average"])
        elif run.average is not None:  # the checkpoint has no average
            run.average.module.load_state_dict(state["model"])
        run.optimizer.load_state_dict(state["optimizer"])
        if state["precision"]:  # without it, the gradient scaler starts from its defaults
            run.fabric.strategy.precision.load_state_dict(state["precision"])
        run.mix_stats.load_state_dict(_mix_stats_state(run, state["mix_stats"]), run.fabric.device)
    except (RuntimeError, ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        raise ValueError(
            f"{run.run_dir}: its checkpoint does not fit this model or optimizer "
            f"({first_line(error)}); restore their settings, or start a new run"
        ) from error
    run.position = RunPosition(**state["position"])
    _warn_if_environment_changed(run, state["environment"])


def _check_labels(run: TrainingRun, data: dict[str, Any]) -> None:
    """Refuse another label set, even if forced: the classifier has an output for each class.

    Raises:
        ValueError: If it changed, with the classes that were added and removed.
    """
    saved, current = (str(each.get("labels", "")) for each in (data, run.data))
    if saved == current:
        return
    old, new = saved.split(";"), current.split(";")
    changes = [
        f"{len(codes)} {change}: {first_few(codes)}"
        for change, codes in (
            ("added", [code for code in new if code not in old]),
            ("removed", [code for code in old if code not in new]),
        )
        if codes
    ]
    raise ValueError(
        f"{run.run_dir}: the label set changed since the checkpoint, {len(old)} -> {len(new)} "
        f"classes ({'; '.join(changes) or 'in another order'}); restore it, or start a new run "
        f"from these weights with init_from={run.run_dir}"
    )


def _column_sources(run: TrainingRun) -> list[str]:
    """Return the names that the columns of ``metrics.csv`` depend on."""
    stats = run.mix_stats
    names = [validation.name for validation in run.validation]
    return [*stats.operator_names, *stats.hidden_layers, *names]


def _mix_stats_state(run: TrainingRun, states: list[dict[str, Any]]) -> dict[str, Any]:
    """Return this process's mix statistics; all, for rank 0, if the number of processes changed."""
    if len(states) == run.processes.size:
        return states[run.processes.rank]
    merged = MixStats.merge(states)
    if not run.processes.is_first:
        merged.reset()
    return merged.state_dict()


def _environment(run: TrainingRun) -> dict[str, Any]:
    """Return what floating-point results depend on besides the configuration."""
    return {
        "processes": run.processes.size,
        "threads": torch.get_num_threads(),
        "device": run.fabric.device.type,
        "torch": str(torch.__version__),
    }


def _warn_if_environment_changed(run: TrainingRun, saved: dict[str, Any]) -> None:
    """Warn if the environment is not that of the checkpoint, with the changes."""
    current = _environment(run)
    changes = [
        f"{name} {saved.get(name)} -> {current[name]}"
        for name in current
        if saved.get(name) != current[name]
    ]
    if changes:
        warnings.warn(
            "the environment changed since the checkpoint; the result may differ from that of an "
            f"uninterrupted run: {', '.join(changes)}",
            stacklevel=2,
        )
