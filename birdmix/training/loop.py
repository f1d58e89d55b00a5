"""The loop: explicit, on Fabric, resumable at any optimizer step.

Nothing here has a random state. What a batch holds and how it is mixed are functions of the seed,
the epoch, the batch and the process (``keys``); torch's own generators (dropout, drop path) are
seeded from the same before every batch. So a resumed run only needs weights, optimizer, average and
position.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from birdmix.batch import Batch
from birdmix.loading.loader import end_workers
from birdmix.mix import Audit
from birdmix.model.optimizers import lr_factor, rest_frozen
from birdmix.training.memory import within_memory
from birdmix.training.position import Position
from birdmix.training.readback import Readback
from birdmix.training.run import Training
from birdmix.training.state import state_of
from birdmix.training.stops import TIME_IS_OVER, Stopped
from birdmix.training.validate import judge

# What a process may wish for at a safe point; larger wishes are exit statuses.
_GO_ON, _SAVE = 0, 1


def fit(run: Training) -> None:
    """Train from ``run.position`` to the last epoch, saving on the way.

    Raises:
        Stopped: If an end was asked for; the run was saved then.
        ValueError: If the loss or the weights stopped being numbers, or memory did not suffice.
    """
    batches = iter(run.batches)
    try:
        with run.stops, run.processes.together():
            while not run.is_done:
                run.step.classifier.train()
                rest_frozen(run.model)
                while run.position.batch < run.batches_per_epoch:
                    _optimizer_step(run, batches)
                    _safe_point(run)
                _end_epoch(run)
                _safe_point(run, epoch_ended=True)
            if run.stops.signal_status:  # it came while the last checkpoint was written
                raise Stopped(run.stops.signal_status, str(run.position), run.run_dir)
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"{error}; lower data.batch_size, and raise trainer.accumulate as much for optimizer "
            "steps as large as these"
        ) from error
    finally:
        for each in (run.batches, *(validation.batches for validation in run.validation)):
            end_workers(each)


def _optimizer_step(run: Training, batches: Iterator[Batch]) -> None:
    """Accumulate the gradients of some batches and take one step."""
    position = run.position
    count = min(run.trainer.accumulate, run.batches_per_epoch - position.batch)
    for index in range(position.batch, position.batch + count):
        batch = next(batches)
        run.clock.mark("loading")
        batch = run.fabric.to_device(batch)
        run.clock.mark("transfer")
        is_last = index == position.batch + count - 1
        wrapped: Any = run.step.classifier  # by fabric, whose type of it is private
        with run.fabric.no_backward_sync(wrapped, enabled=not is_last):
            loss = _backward(run, batch, index, 1 / count)
        run.losses.append((index, Readback(loss)))
        _look_at_losses(run, waiting=1)
        run.clock.mark("model")
        for hook in run.hooks:
            hook.on_batch(position, len(batch.x) * run.processes.size)
    rate = run.optim.lr * lr_factor(position.step, run.num_steps, run.optim)
    for group in run.optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)  # by layer_decay
    if run.trainer.clip is not None:
        run.fabric.clip_gradients(
            run.step.classifier,
            run.optimizer,
            max_norm=run.trainer.clip,
            error_if_nonfinite=False,  # asking would wait for the device; saving asks
        )
    run.optimizer.step()
    run.optimizer.zero_grad()
    if run.average is not None:
        run.average.update_parameters(run.model)
    position.batch += count
    position.step += 1
    run.clock.mark("model")


def _backward(run: Training, batch: Batch, index: int, share: float) -> Tensor:
    """Add a batch's gradients to those of its step, and return its loss over all processes."""
    keys = run.keys(run.position.epoch, index)

    def work(batch: Batch) -> Tensor:
        torch.manual_seed(keys.integer("torch"))
        loss, weight = run.step(batch, keys, run.audit)
        loss, whole = run.processes.share_loss(loss, weight)
        run.fabric.backward(loss * share)
        return whole

    def trial(batch: Batch) -> None:
        step = replace(run.step, classifier=run.model)
        run.optimizer.zero_grad()
        run.model.eval()  # no word to other processes: neither from batch norms nor from gradients
        with run.fabric.autocast():
            loss, _ = step(batch, keys, Audit(run.audit.slots))
        torch.autograd.grad(loss, [each for each in run.model.parameters() if each.requires_grad])

    smallest = run.step.stages.num_batch_sources
    return within_memory(work, batch, trial, run.processes.size, run.trainer.accumulate, smallest)


def _look_at_losses(run: Training, waiting: int = 0) -> None:
    """Add the losses to the epoch's sum, but for the last ones, which a GPU may still work on."""
    while len(run.losses) > waiting:
        batch, loss = run.losses.popleft()
        value = float(loss)
        if not math.isfinite(value):
            raise _diverged(run, f"the loss is {value}", batch)
        run.position.loss_sum += value


def _check_numbers(run: Training) -> None:
    """Look at every loss, and at every weight: what is no number must not be saved or judged."""
    _look_at_losses(run)
    if not torch.stack([each.isfinite().all() for each in run.model.parameters()]).all():
        raise _diverged(run, "weights became infinite or nan", run.position.batch - 1)


def _diverged(run: Training, what: str, batch: int) -> ValueError:
    """Make the error of a run whose numbers are none any more, with the recordings of a batch."""
    recordings = run.recordings_of(run.position.epoch, batch)
    return ValueError(
        f"{what} in epoch {run.position.epoch + 1}, batch {batch + 1}; lower optim.lr, use "
        "trainer.precision=32-true, or look at that batch's recordings; the last checkpoint stands "
        "as it was:" + "".join(f"\n  {path}" for path in recordings)
    )


def _safe_point(run: Training, epoch_ended: bool = False) -> None:
    """Save if it is time to, and end if somebody asked for it; all processes agree on both."""
    cheap = run.processes.is_first and run.saves.cheap()  # the others do not know what it costs
    due = run.saves.due(run.position.step) or (epoch_ended and (run.is_done or cheap))
    wish = run.processes.agree(run.stops.status() or (_SAVE if due else _GO_ON))
    if wish == _GO_ON:
        return
    if not epoch_ended:
        _check_numbers(run)
    run.saves.save(run.run_dir, state_of(run), run.position.step, run.processes.is_first)
    run.clock.mark("saving")
    if wish > _SAVE and not (run.is_done and wish == TIME_IS_OVER):
        raise Stopped(wish, str(run.position), run.run_dir)


def _end_epoch(run: Training) -> None:
    """Validate, tell, and move on to the next epoch."""
    _check_numbers(run)
    done = run.position
    metrics = {
        "epoch": done.epoch + 1,
        "step": done.step,
        "lr": max(group["lr"] for group in run.optimizer.param_groups),
        "train_loss": done.loss_sum / run.batches_per_epoch,
    }
    for hook in run.hooks:
        hook.on_validation()
    for each in run.validation:
        metrics |= judge(
            run.processes,
            run.judged_model,
            run.step.log_mel,
            each,
            between=partial(_between_windows, run),
        ).metrics()
    run.clock.mark("validation")
    metrics |= Audit.merged(run.processes.gather(run.audit.state_dict())).report()
    run.audit.restart()
    monitored = metrics.get(run.monitor, math.nan) if run.monitor else math.nan
    run.position = Position(
        epoch=done.epoch + 1,
        step=done.step,
        log_bytes=run.log.append(metrics) if run.log else 0,
        monitored=[*done.monitored, monitored],
    )
    seconds = run.clock.lap()
    for hook in run.hooks:
        hook.on_epoch(metrics, seconds)
    run.clock.mark("saving")


def _between_windows(run: Training) -> None:
    run.clock.mark("validation")
    _safe_point(run)
