"""Builders: make the objects of a training run from its settings and data."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from birdmix.audio.augment import AugmentationChain
from birdmix.augment import build_augment_stages
from birdmix.config.schema import Config
from birdmix.console import warn
from birdmix.experiments.run_directory import register_run_output_files
from birdmix.experiments.warm_start import check_weights_exist, load_initial_weights
from birdmix.frontend.log_mel import LogMel
from birdmix.labels import Labels
from birdmix.loading.loader import make_loader
from birdmix.loading.row_streams import RowStream, Substitution
from birdmix.loading.row_weights import (
    compute_draws_per_epoch,
    compute_pool_weights,
    find_primary_classes,
)
from birdmix.loading.run_data import RunData
from birdmix.loading.sampler import PoolShare, SegmentAndPoolBatchSampler, SegmentBatchSampler
from birdmix.loading.segment_dataset import SegmentAndPoolDataset, SegmentDataset
from birdmix.loading.window_dataset import WindowDataset, split_event_rows_into_windows
from birdmix.messages import did_you_mean, first_few
from birdmix.mix import MixStages, MixStats, build_mix_stages
from birdmix.model.classifier import (
    Classifier,
    compile_backbone,
    is_bypassed,
    synchronise_batch_norms,
    to_channels_last_memory,
)
from birdmix.model.hidden_mix import FEATURES, INPUT, POOLED
from birdmix.model.losses import build_loss, check_frame_weight
from birdmix.model.optimizers import build_optimizer, build_weight_average, freeze
from birdmix.recordings.data_splits import SOUNDSCAPES
from birdmix.recordings.recordings_table import Recordings
from birdmix.recordings.settings import SOURCES_WITH_SPLITS, DataSettings
from birdmix.training.checkpoint import CheckpointSchedule
from birdmix.training.checkpoint_state import restore_run
from birdmix.training.distributed_processes import Processes, single_cpu_process
from birdmix.training.loggers import check_loggers_installed
from birdmix.training.metrics_log import MetricsLog
from birdmix.training.phase_timer import PhaseTimer
from birdmix.training.run_position import RunPosition
from birdmix.training.stop_requests import StopRequests
from birdmix.training.training_run import TrainingRun
from birdmix.training.training_step import TrainingStep
from birdmix.training.validation import ValidationSet, check_monitor_name, choose_monitor


def check_buildable(config: Config) -> None:
    """Check and build what needs no data, so that wrong settings fail before recordings are opened.

    Raises:
        ValueError: If settings do not fit together, those of an augmentation, the network or the
            optimizer are invalid, or a file of weights or a logger's package does not exist.
    """
    check_loggers_installed(config.loggers)
    _check_mix_fits_data(config)
    check_frame_weight(config.loss, has_frames=config.model.has_frame_logits)
    _check_monitor(config)
    if config.resume is None:
        check_weights_exist(config)
    with torch.device("meta"):  # shapes only, no values
        settings = replace(config.model, pretrained=False, weights=None)
        model = Classifier(settings, 2, input_size=_input_size(config))
        _check_hidden_layers(config, model)
        freeze(model, config.optim.freeze)
        build_optimizer(model, config.optim)
    try:
        AugmentationChain(config.data.augment, config.frontend.log_mel.sample_rate)
    except ValueError as error:
        raise ValueError(f"data.augment: {error}") from error


def _check_mix_fits_data(config: Config) -> None:
    """Check the pools of the mix, that something is mixed if it must, and the batch size."""
    stages = build_mix_stages(config.mix, config.frontend.log_mel.sample_rate)
    _check_pools(config, stages)
    if config.mix.clean_weight and not stages.operator_names:
        raise ValueError(
            f"mix.clean_weight={config.mix.clean_weight}: nothing is mixed, so the unmixed batch "
            "would be computed twice; set a probability such as mix.mixup_prob, or "
            "mix.clean_weight=0"
        )
    if config.data.batch_size < stages.min_batch_size:
        raise ValueError(
            f"data.batch_size={config.data.batch_size}: the mix joins {stages.min_batch_size} "
            "examples of a batch; raise it"
        )


def _check_pools(config: Config, stages: MixStages) -> None:
    """Check that the mix names pools that exist and can do what it asks, and that all are used."""
    data, pools = config.data, config.data.pools
    if config.mix.partner_pool is not None:
        _check_pool_name(config, "mix.partner_pool", config.mix.partner_pool)
        _check_pool_labels(config, "mix", [config.mix.partner_pool], partners=config.mix.partners)
    for number, injector in enumerate(config.mix.injectors):
        key, names = f"mix.injectors[{number}]", [injector.pool] if injector.pool else list(pools)
        if not names:
            raise ValueError(f"{key}: there is no pool to inject from; name one in data.pools")
        for name in names:
            _check_pool_name(config, f"{key}.pool", name)
        _check_pool_labels(
            config,
            key,
            names,
            partners=injector.partners,
            label_sum=injector.label_sum,
            label_cap=injector.label_cap,
        )
    used = {*stages.min_pool_sizes(pools), *data.batch_quotas}
    if data.substitution.pool is not None and data.substitution.prob:
        used.add(data.substitution.pool)
    unused = [name for name in pools if name not in used]
    if unused:
        raise ValueError(
            f"data.pools.{unused[0]}: nothing uses this pool; name it in mix.injectors, "
            "mix.partner_pool, data.batch_shares or data.substitution, with a probability above "
            "0, or remove it"
        )
    _check_pool_sizes(config)


def _check_pool_name(config: Config, key: str, name: str) -> None:
    if name not in config.data.pools:
        raise ValueError(
            f"{key}: there is no pool '{name}'{did_you_mean(name, config.data.pools)}; pools are "
            "named in data.pools"
        )


def _check_pool_labels(
    config: Config,
    key: str,
    names: list[str],
    *,
    partners: str,
    label_sum: float | None = None,
    label_cap: float | None = None,
) -> None:
    """Check that pools have labels, if a mix needs any."""
    if any(config.data.pool_source(name) != "background" for name in names):
        return
    needs = {
        "label_sum": label_sum,
        "label_cap": label_cap,
        "partners": partners if partners == "common_class" else None,
    }
    for setting, value in needs.items():
        if value is not None:
            raise ValueError(
                f"{key}.{setting}={value}: recordings of the pool '{names[0]}' "
                f"(source=background) have no labels; remove {setting}"
            )


def _check_pool_sizes(config: Config, num_processes: int = 1) -> None:
    """Check that each process's share of a batch has as many segments of a pool as a mix joins."""
    min_sizes = build_mix_stages(config.mix).min_pool_sizes(config.data.pools)
    for name, min_size in min_sizes.items():
        size, needed = config.data.pool_size(name), min_size * num_processes
        if size < needed:
            processes = "" if num_processes == 1 else f" of {num_processes} processes"
            raise ValueError(
                f"data.pools.{name}.size={size}: the mix in a batch{processes} needs {needed} "
                "segments of this pool; raise it"
            )


def mixed_pool_sizes(config: Config) -> dict[str, int]:
    """Return the segments to mix in per batch of all processes, by pool that the mix draws from."""
    used = build_mix_stages(config.mix).min_pool_sizes(config.data.pools)
    return {name: config.data.pool_size(name) for name in config.data.pools if name in used}


def _check_hidden_layers(config: Config, model: Classifier) -> None:
    """Check that the network has the layers of ``mix.hidden.layers``, if they are mixed."""
    stages = build_mix_stages(config.mix)
    for layer in stages.hidden_layers if stages.hidden else ():
        if layer not in model.hidden_layers:
            raise ValueError(
                f"mix.hidden.layers: {config.model.backbone} has no layer "
                f"{layer!r}{did_you_mean(layer, model.hidden_layers)}"
            )
        if layer not in model.layout.stages:
            continue
        if config.trainer.compile:
            raise ValueError(
                f"mix.hidden.layers: {layer!r} is inside the backbone, which trainer.compile=true "
                f"compiles as a whole; use {INPUT}, {FEATURES} or {POOLED}, or "
                "trainer.compile=false"
            )
        if is_bypassed(model, layer, _input_size(config)):
            raise ValueError(
                f"mix.hidden.layers: {layer!r} of {config.model.backbone} is bypassed by a skip "
                f"connection, which would not be mixed; use another stage, {INPUT}, {FEATURES} or "
                f"{POOLED}"
            )


def _check_monitor(config: Config) -> None:
    """Check the monitored metric as far as the configuration alone decides it."""
    settings, data = config.validation, config.data
    if settings.monitor is not None:
        check_monitor_name(settings.monitor)
    elif data.fold is None and data.source not in SOURCES_WITH_SPLITS:
        _refuse_selection_of_epochs(config)


def _refuse_selection_of_epochs(config: Config) -> None:
    """Refuse settings that select epochs by a metric, for a run without one."""
    if config.validation.patience or config.checkpoint.best_k:
        raise ValueError(
            "validation.patience and checkpoint.best_k need a validation set; hold out a "
            "fold with data.fold=0, or set validation.monitor=train_loss"
        )


def build_training_run(
    config: Config,
    data: RunData,
    run: Path,
    processes: Processes,
    state: dict | None = None,
    stops: StopRequests | None = None,
) -> TrainingRun:
    """Build everything that the training loop uses, and open ``metrics.csv`` for it.

    Args:
        config: The run's settings.
        data: The run's data.
        run: Run directory.
        processes: The processes of the run.
        state: Checkpoint to resume from; None starts a new run.
        stops: Stop requests; None makes them.

    Raises:
        ValueError: If settings and data do not fit together, a checkpoint does not fit them, or
            the run directory has files that birdmix did not write.
    """
    fabric = processes.fabric
    position = RunPosition(**state["position"]) if state else RunPosition()
    digests = _check_same_recordings(data, processes)
    batches = build_batch_sampler(config, data, position, processes)
    if batches.substitution is not None and not batches.substitution.fits_any_row:
        warn(
            f"data.substitution: no window of the pool '{config.data.substitution.pool}' has the "
            "class of a training recording, so none is replaced"
        )
    validation = build_validation_sets(config, data, processes)
    monitor = choose_monitor(validation, config.validation.monitor)
    if monitor is None:
        _refuse_selection_of_epochs(config)
    timer = PhaseTimer(fabric.device)
    torch.manual_seed(config.seed)
    model = build_model(config, data.labels, fabric.device, is_new=state is None)
    freeze(model, config.optim.freeze)
    optimizer = build_optimizer(model, config.optim)
    wrapped, optimizer = fabric.setup(model, optimizer)
    step = replace(
        build_training_step(config, wrapped, data.train, fabric.device), end_phase=timer.end_phase
    )
    training = TrainingRun(
        processes=processes,
        model=model,
        step=step,
        optimizer=optimizer,
        average=build_weight_average(model, config.optim.ema_decay)
        if config.optim.ema_decay
        else None,
        batches=build_training_loader(config, data, batches, config.data.num_workers),
        batches_per_epoch=batches.batches_per_epoch,
        recording_paths=_paths_by_batch(data, batches),
        data={
            "labels": ";".join(data.labels.codes),
            "recordings": "+".join(digests),
        },
        validation=validation,
        monitor=monitor,
        patience=config.validation.patience,
        metrics_log=None,
        mix_stats=MixStats(step.mix_stages.operator_names, step.mix_stages.counted_layers),
        timer=timer,
        stop_requests=stops or StopRequests(config.trainer.max_time),
        checkpoint_schedule=CheckpointSchedule(config.checkpoint),
        seed=config.seed,
        run_dir=run,
        optim=config.optim,
        trainer=config.trainer,
    )
    if state:
        restore_run(training, state, other_data=config.resume_force)
    if processes.is_first:  # last, since it truncates the file to the length in the checkpoint
        register_run_output_files(run, is_resumed=state is not None)
        training.metrics_log = MetricsLog(run, position.log_bytes)
    return training


def _check_same_recordings(data: RunData, processes: Processes) -> list[str]:
    """Return the digest of each table of recordings, training data first.

    Raises:
        ValueError: If processes read different recordings.
    """
    digests = processes.gather(data.digests)
    others = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
    if others:
        raise ValueError(
            f"processes {first_few([str(rank) for rank in others], 5)} read other recordings than "
            "process 0; check for missing or unreadable files on their machines"
        )
    return digests[0]


def build_model(
    config: Config, labels: Labels, device: torch.device, *, is_new: bool = True
) -> Classifier:
    """Build the classifier.

    Args:
        config: The run's settings.
        labels: Label set, one class per label.
        device: Device to train on.
        is_new: True loads the initial weights that the settings name; False if a checkpoint
            provides the weights.

    Raises:
        ValueError: If these weights cannot be loaded, or the device does not support a setting of
            ``trainer``.
    """
    settings = config.model if is_new else replace(config.model, pretrained=False, weights=None)
    softmax = config.loss.is_softmax
    model = Classifier(settings, len(labels), input_size=_input_size(config), softmax=softmax)
    if is_new and config.init_from is not None:
        load_initial_weights(model, config, labels)
    if config.trainer.channels_last:
        model = to_channels_last_memory(model)
    if config.trainer.sync_batch_norm:
        if device.type != "cuda":
            raise ValueError("trainer.sync_batch_norm=true needs GPUs; remove it on other devices")
        model = synchronise_batch_norms(model)
    return compile_backbone(model) if config.trainer.compile else model


def _input_size(config: Config) -> tuple[int, int]:
    """Return the mel bins M and frames F of a segment's log-mel."""
    log_mel = config.frontend.log_mel
    return log_mel.n_mels, log_mel.samples_to_num_frames(
        log_mel.seconds_to_num_samples(config.data.segment_seconds)
    )


def build_training_step(
    config: Config, classifier: torch.nn.Module, train: Recordings, device: torch.device
) -> TrainingStep:
    """Build the training step: mixing, log-mel, masking, classifier and loss.

    Args:
        config: The run's settings.
        classifier: The classifier, as Fabric wraps it.
        train: Training recordings; the loss may be weighted by their label counts.
        device: Device to train on.

    Raises:
        ValueError: If the loss does not fit the head or the recordings.
    """
    has_frame_logits = config.model.has_frame_logits
    loss = build_loss(config.loss, train.label_target_sums(), len(train), has_frame_logits)
    return TrainingStep(
        mix_stages=build_mix_stages(config.mix, config.frontend.log_mel.sample_rate),
        log_mel=LogMel(config.frontend.log_mel).to(device),
        masking=config.frontend.masking,
        attenuation=config.frontend.attenuation,
        classifier=classifier,
        loss=loss.to(device),
        augment_stages=build_augment_stages(config.augment, config.frontend.log_mel),
    )


def build_segment_dataset(config: Config, data: RunData) -> SegmentDataset:
    """Build the data set of the segments of batches: training recordings and rows of pools."""
    log_mel = config.frontend.log_mel
    return SegmentDataset(
        data.batch_rows,
        data.store,
        log_mel.seconds_to_num_samples(config.data.segment_seconds),
        log_mel.sample_rate,
        config.seed,
        config.data,
    )


def build_training_loader(
    config: Config, data: RunData, batches: SegmentBatchSampler, num_workers: int
) -> DataLoader:
    """Build the loader of training batches, each with the pool segments to mix in.

    Args:
        config: The run's settings.
        data: The run's data.
        batches: The batches of this process.
        num_workers: Number of worker processes; 0 loads in this process.
    """
    segments = build_segment_dataset(config, data)
    sizes = mixed_pool_sizes(config)
    if not sizes:
        return make_loader(segments, batches, num_workers)
    settings = DataSettings(min_overlap_seconds=config.data.min_overlap_seconds)
    datasets = {name: segments.with_options(settings, f"pool segment {name}") for name in sizes}
    shares = {
        name: PoolShare(_make_row_stream(config, data, name, "pool"), size)
        for name, size in sizes.items()
    }
    return make_loader(
        SegmentAndPoolDataset(segments, datasets),
        SegmentAndPoolBatchSampler(batches, shares),
        num_workers,
    )


def _make_row_stream(config: Config, data: RunData, pool: str, use: str) -> RowStream:
    """Make the stream of a pool's rows for one use of the pool, which its random keys name."""
    weights = compute_pool_weights(data.pools[pool], config.data, pool)
    return RowStream(weights, config.seed, f"{use} {pool}", data.first_rows[pool])


def _make_substitution(config: Config, data: RunData) -> Substitution | None:
    """Make the replacement of training rows; None if none are replaced."""
    settings = config.data.substitution
    if settings.pool is None or not settings.prob:
        return None
    pool = data.pools[settings.pool]
    return Substitution(
        find_primary_classes(data.train),
        find_primary_classes(pool),
        compute_pool_weights(pool, config.data, settings.pool),
        first_row=data.first_rows[settings.pool],
        prob=settings.prob,
        seed=config.seed,
    )


def build_batch_sampler(
    config: Config, data: RunData, position: RunPosition, processes: Processes
) -> SegmentBatchSampler:
    """Build the sequence of batches of this process, from a position in the run on.

    Args:
        config: The run's settings.
        data: The run's data.
        position: Position of the first batch in the run.
        processes: The processes of the run.

    Raises:
        ValueError: If a batch is too small for the mix, or a pool for the processes.
    """
    _check_pool_sizes(config, processes.size)
    batches = SegmentBatchSampler(
        compute_draws_per_epoch(data.train, config.data),
        config.data.batch_size,
        seed=config.seed,
        num_epochs=config.trainer.max_epochs,
        drop_last=config.data.drop_last,
        start=(position.epoch, position.batch),
        rank=processes.rank,
        num_processes=processes.size,
        pool_shares=[
            PoolShare(_make_row_stream(config, data, name, "batch share"), size)
            for name, size in config.data.batch_quotas.items()
        ],
        substitution=_make_substitution(config, data),
    )
    num_sources = build_mix_stages(config.mix, config.frontend.log_mel.sample_rate).min_batch_size
    if batches.smallest_share < num_sources:
        share = "a batch" if processes.size == 1 else f"one of {processes.size} shares of a batch"
        raise ValueError(
            f"the mix joins {num_sources} examples, but {share} may hold only "
            f"{batches.smallest_share}; raise data.batch_size or set data.drop_last=true"
        )
    return batches


def num_optimizer_steps(config: Config, data: RunData) -> int:
    """Return the number of optimizer steps of a run in one process, without early stopping.

    Args:
        config: The run's settings.
        data: The run's data.
    """
    batches = build_batch_sampler(config, data, RunPosition(), single_cpu_process())
    steps_per_epoch = -(-batches.batches_per_epoch // config.trainer.accumulate)
    return steps_per_epoch * config.trainer.max_epochs


def build_validation_sets(
    config: Config, data: RunData, processes: Processes
) -> list[ValidationSet]:
    """Build the validation sets; each process gets its share of the batches.

    Args:
        config: The run's settings.
        data: The run's data.
        processes: The processes of the run.

    Raises:
        ValueError: If no window of the held-out recordings has a known label.
    """
    rate = config.frontend.log_mel.sample_rate
    num_samples = config.frontend.log_mel.seconds_to_num_samples(config.data.segment_seconds)
    validation_sets = []
    for name, recordings in data.validation.items():
        overlap = config.data.min_overlap_seconds
        rows = split_event_rows_into_windows(recordings, data.store, num_samples, rate, overlap)
        windows = WindowDataset(
            rows,
            data.store,
            num_samples,
            rate,
            config.validation.max_windows,
            with_context=name == SOUNDSCAPES,
        )
        if not windows.keys:
            raise ValueError(
                f"no window of the {len(recordings)} recordings held out has a known label; set "
                "data.annotated, hold out another fold (data.fold), or none (data.fold=null)"
            )
        batches = windows.split_keys_into_batches(max(config.data.batch_size // processes.size, 1))
        share = batches[processes.rank :: processes.size]
        loaded = make_loader(windows, share, config.data.num_workers)
        validation_sets.append(
            ValidationSet(name, windows.truth, windows.known, loaded, len(batches), rows)
        )
    return validation_sets


def _paths_by_batch(data: RunData, batches: SegmentBatchSampler) -> Callable[[int, int], list[str]]:
    """Return a function of (epoch, batch) that returns the paths of the recordings in a batch."""

    def paths(epoch: int, batch: int) -> list[str]:
        rows = batches.rows_of_batch(epoch, batch)
        return list(dict.fromkeys(data.batch_rows.take(rows).paths))

    return paths
