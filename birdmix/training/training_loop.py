"""The training loop on Fabric, resumable at any optimizer step.

The loop has no random state. The content of a batch and its mixing are functions of seed, epoch,
batch and process (``random_keys``), and torch's own generators (dropout, drop path) are seeded from
the same before every batch. A checkpoint therefore only needs weights, optimizer, average and
position.
"""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from birdmix.loading.batch import Batch
from birdmix.loading.loader import end_workers
from birdmix.metrics.validation_metrics import compute_metrics
from birdmix.mix import MixStats
from birdmix.model.optimizers import set_frozen_to_eval
from birdmix.training.async_scalar import AsyncScalar
from birdmix.training.checkpoint_state import collect_state
from birdmix.training.device_batches import DeviceBatches
from birdmix.training.out_of_memory import run_or_suggest_batch_size
from birdmix.training.run_position import RunPosition
from birdmix.training.stop_requests import EXIT_TIME_LIMIT, RunStopped
from birdmix.training.training_run import TrainingRun
from birdmix.training.validation import evaluate

# Actions that a process requests at a safe point; larger values are exit statuses to stop with.
_CONTINUE, _SAVE = 0, 1


def fit(run: TrainingRun) -> None:
    """Train from ``run.position`` to the last epoch, with checkpoints.

    Args:
        run: The run, changed in place.

    Raises:
        RunStopped: If a stop was requested; the run is saved.
        ValueError: If the loss or the weights are not finite, or memory is exhausted.
    """
    batches = DeviceBatches(iter(run.batches), run.fabric)
    try:
        with run.stop_requests, run.processes.shorten_lost_process_errors():
            while not run.is_done:
                run.step.classifier.train()
                set_frozen_to_eval(run.model)
                while run.position.batch < run.batches_per_epoch:
                    optimizer_step(run, batches)
                    _save_or_stop(run)
                _end_epoch(run)
                _save_or_stop(run, epoch_ended=True)
            if run.stop_requests.signal_status:  # received while the last checkpoint was written
                raise RunStopped(run.stop_requests.signal_status, str(run.position), run.run_dir)
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"{error}; lower data.batch_size, and raise trainer.accumulate by the same factor for "
            "optimizer steps of the same size"
        ) from error
    finally:
        for loader in (run.batches, *(validation.batches for validation in run.validation)):
            end_workers(loader)


def optimizer_step(run: TrainingRun, batches: DeviceBatches) -> None:
    """Accumulate the gradients of ``trainer.accumulate`` batches, and update the weights.

    Args:
        run: The run; its position advances.
        batches: Its batches from that position on.
    """
    position = run.position
    count = min(run.trainer.accumulate, run.batches_per_epoch - position.batch)
    for index in range(position.batch, position.batch + count):
        batches.load()
        run.timer.end_phase("loading")
        batch = batches.take()
        run.timer.end_phase("transfer")
        is_last = index == position.batch + count - 1
        wrapped: Any = run.step.classifier  # by fabric, in a private type
        with run.fabric.no_backward_sync(wrapped, enabled=not is_last):
            loss = _backward(run, batch, index, 1 / count)
        run.losses.append((index, AsyncScalar(loss)))
        _add_losses(run, num_pending=1)
        run.timer.end_phase("model")
        batches.load_ahead()
        run.timer.end_phase("loading")
        for hook in run.hooks:
            hook.on_batch(position, batch.context.batch_size * run.processes.size)
    rate = run.optim.learning_rate(position.step, run.total_steps)
    for group in run.optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)  # by layer_decay
    if run.trainer.clip is not None:
        run.fabric.clip_gradients(
            run.step.classifier,
            run.optimizer,
            max_norm=run.trainer.clip,
            error_if_nonfinite=False,  # a check would wait for the device; done before saving
        )
    run.optimizer.step()
    run.optimizer.zero_grad()
    if run.average is not None:
        run.average.update_parameters(run.model)
    position.batch += count
    position.step += 1
    run.timer.end_phase("model")


def _backward(run: TrainingRun, batch: Batch, index: int, factor: float) -> Tensor:
    """Backpropagate a batch's loss, times ``factor``; return the loss over all processes."""
    keys = run.batch_random_keys(run.position.epoch, index)

    def work(batch: Batch) -> Tensor:
        torch.manual_seed(keys.torch_seed("torch"))
        views = run.step(batch, keys, run.mix_stats)
        loss, batch_loss = run.processes.combine_losses(views)
        run.fabric.backward(loss * factor)
        return batch_loss

    def trial(batch: Batch) -> None:
        step = replace(run.step, classifier=run.model)
        run.optimizer.zero_grad()
        run.model.eval()  # no communication: neither of batch norms nor of gradients
        with run.fabric.autocast():
            views = step(batch, keys, run.mix_stats.new())
        loss, _ = run.processes.as_single_process().combine_losses(views)
        torch.autograd.grad(loss, [p for p in run.model.parameters() if p.requires_grad])

    min_size = run.step.mix_stages.min_batch_size
    return run_or_suggest_batch_size(
        work, batch, trial, run.processes.size, run.trainer.accumulate, min_size
    )


def _add_losses(run: TrainingRun, num_pending: int = 0) -> None:
    """Add losses to the epoch's sum, except for the last ones, which a GPU may still compute."""
    while len(run.losses) > num_pending:
        batch, loss = run.losses.popleft()
        value = float(loss)
        if not math.isfinite(value):
            raise _divergence_error(run, f"the loss is {value}", batch)
        run.position.loss_sum += value


def _check_finite(run: TrainingRun) -> None:
    """Check that all losses and weights are finite, before they are saved or evaluated."""
    _add_losses(run)
    if not torch.stack([weight.isfinite().all() for weight in run.model.parameters()]).all():
        raise _divergence_error(run, "weights became infinite or nan", run.position.batch - 1)


def _divergence_error(run: TrainingRun, problem: str, batch: int) -> ValueError:
    """Return the error for a loss or weights that are not finite, with the batch's recordings."""
    recordings = run.recording_paths(run.position.epoch, batch)
    return ValueError(
        f"{problem} in epoch {run.position.epoch + 1}, batch {batch + 1}; lower optim.lr, use "
        "trainer.precision=32-true, or check the recordings of that batch; the last checkpoint is "
        "unchanged:" + "".join(f"\n  {path}" for path in recordings)
    )


def _save_or_stop(run: TrainingRun, epoch_ended: bool = False) -> None:
    """Save a checkpoint if one is due, and stop on request, at a safe point of the loop.

    All processes do the same.
    """
    # Only rank 0 writes, so only rank 0 knows the duration.
    is_cheap = run.processes.is_first and run.checkpoint_schedule.is_saving_cheap()
    is_due = run.checkpoint_schedule.is_due(run.position.step) or (
        epoch_ended and (run.is_done or is_cheap)
    )
    action = run.processes.maximum(
        run.stop_requests.exit_status() or (_SAVE if is_due else _CONTINUE)
    )
    if action == _CONTINUE:
        return
    if not epoch_ended:
        _check_finite(run)
    run.checkpoint_schedule.save(
        run.run_dir, collect_state(run), run.position.step, run.processes.is_first
    )
    run.timer.end_phase("saving")
    if action > _SAVE and not (run.is_done and action == EXIT_TIME_LIMIT):
        raise RunStopped(action, str(run.position), run.run_dir)


def _end_epoch(run: TrainingRun) -> None:
    """Validate, log the metrics, and advance to the next epoch."""
    _check_finite(run)
    done = run.position
    metrics = {
        "epoch": done.epoch + 1,
        "step": done.step,
        "lr": max(group["lr"] for group in run.optimizer.param_groups),
        "train_loss": done.loss_sum / run.batches_per_epoch,
    }
    for hook in run.hooks:
        hook.before_validation()
    for validation in run.validation:
        result = evaluate(
            run.processes,
            run.eval_model,
            run.step.log_mel,
            validation,
            after_batch=partial(_finish_validation_batch, run),
        )
        metrics |= compute_metrics(result)
    run.timer.end_phase("validation")
    metrics |= MixStats.merge(run.processes.gather(run.mix_stats.state_dict())).compute()
    run.mix_stats.reset()
    monitored = metrics.get(run.monitor, math.nan) if run.monitor else math.nan
    run.position = RunPosition(
        epoch=done.epoch + 1,
        step=done.step,
        log_bytes=run.metrics_log.append(metrics) if run.metrics_log else 0,
        monitored=[*done.monitored, monitored],
    )
    seconds = run.timer.read_and_reset()
    for hook in run.hooks:
        hook.on_epoch(metrics, seconds)
    run.timer.end_phase("saving")


def _finish_validation_batch(run: TrainingRun) -> None:
    """Measure the time of a batch of validation, then save or stop."""
    run.timer.end_phase("validation")
    _save_or_stop(run)
