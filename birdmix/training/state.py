"""What a checkpoint holds of a run, and how a run goes back to one."""

import warnings
from dataclasses import asdict
from typing import Any

import torch

from birdmix.mix import Audit
from birdmix.suggest import first_few, first_line
from birdmix.training.position import Position
from birdmix.training.run import Training


def state_of(run: Training) -> dict[str, Any]:
    """Return everything that a checkpoint holds; all processes are to ask for it together."""
    return {
        "position": asdict(run.position),
        "data": run.data,
        "figures": _figures(run),
        "made_on": _machine(run),
        "model": run.model.state_dict(),
        "average": None if run.average is None else run.average.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "precision": run.fabric.strategy.precision.state_dict(),
        "audit": run.processes.gather(run.audit.state_dict()),
    }


def restore(run: Training, state: dict[str, Any], other_data: bool = False) -> None:
    """Go back to a checkpoint.

    Args:
        run: A run at its start.
        state: What ``state_of`` returned.
        other_data: Whether to go on though the data are not those of the checkpoint.

    Raises:
        ValueError: If the label set changed, or the recordings and ``other_data`` is not set, or
            the weights are those of another model.
    """
    _check_labels(run, state["data"])
    if state["data"].get("recordings") != run.data["recordings"] and not other_data:
        raise ValueError(
            f"{run.run_dir}: the recordings changed since the checkpoint; put them back, start a "
            "new run, or go on nevertheless with resume_force=true"
        )
    if state["figures"] != _figures(run):
        raise ValueError(
            f"{run.run_dir}: other slots of the mix or sets to validate on would give metrics.csv "
            f"other columns ({state['figures']} -> {_figures(run)}); start a new run"
        )
    try:
        run.model.load_state_dict(state["model"])
        if run.average is not None and state["average"] is not None:
            run.average.load_state_dict(state["average"])
        elif run.average is not None:  # it was off until now
            run.average.module.load_state_dict(state["model"])
        run.optimizer.load_state_dict(state["optimizer"])
        if state["precision"]:  # a scaler that was not there starts afresh
            run.fabric.strategy.precision.load_state_dict(state["precision"])
        run.audit.load_state_dict(_books(run, state["audit"]), run.fabric.device)
    except (RuntimeError, ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        raise ValueError(
            f"{run.run_dir}: its checkpoint does not fit this model or optimizer "
            f"({first_line(error)}); leave them as they were, or start a new run"
        ) from error
    run.position = Position(**state["position"])
    _warn_of_another_machine(run, state["made_on"])


def _check_labels(run: Training, data: dict[str, Any]) -> None:
    """Refuse another label set, forced or not: the classifier has an output for each class.

    Raises:
        ValueError: If it changed; it names what is new and what is gone.
    """
    before, now = (str(each.get("labels", "")) for each in (data, run.data))
    if before == now:
        return
    old, new = before.split(";"), now.split(";")
    parts = [
        f"{len(codes)} {what}: {first_few(codes)}"
        for what, codes in (
            ("new", [code for code in new if code not in old]),
            ("gone", [code for code in old if code not in new]),
        )
        if codes
    ]
    raise ValueError(
        f"{run.run_dir}: the label set changed since the checkpoint, {len(old)} -> {len(new)} "
        f"classes ({'; '.join(parts) or 'in another order'}); put it back, or start a new run from "
        f"these weights with init_from={run.run_dir}"
    )


def _figures(run: Training) -> list[str]:
    """Return what the columns of the metrics file depend on."""
    return [*run.audit.slots, *(each.name for each in run.validation)]


def _books(run: Training, books: list[dict[str, Any]]) -> dict[str, Any]:
    """Return this process's books, or all of them for the first if there were more or fewer."""
    if len(books) == run.processes.size:
        return books[run.processes.rank]
    merged = Audit.merged(books)
    if not run.processes.is_first:
        merged.restart()
    return merged.state_dict()


def _machine(run: Training) -> dict[str, Any]:
    """Return what float results depend on besides the configuration."""
    return {
        "processes": run.processes.size,
        "threads": torch.get_num_threads(),
        "device": run.fabric.device.type,
        "torch": str(torch.__version__),
    }


def _warn_of_another_machine(run: Training, made_on: dict[str, Any]) -> None:
    here = _machine(run)
    changed = [
        f"{name} {made_on.get(name)} -> {here[name]}"
        for name in here
        if made_on.get(name) != here[name]
    ]
    if changed:
        warnings.warn(
            "this is not where the checkpoint was made; the result may differ from that of an "
            f"uninterrupted run: {', '.join(changed)}",
            stacklevel=2,
        )
