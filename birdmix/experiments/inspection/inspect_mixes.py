"""Inspection of a run's mixes: draws its batches, and writes a page to see and hear them."""

import itertools
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from birdmix.config.resume_policy import flatten_settings
from birdmix.config.schema import Config
from birdmix.console import open_progress_bar, warn
from birdmix.experiments.builders import check_buildable
from birdmix.experiments.inspection.batch_replay import BatchReplay, ReplayedBatch
from birdmix.experiments.inspection.distribution_views import distribution_views
from birdmix.experiments.inspection.example_views import BatchViews
from birdmix.experiments.inspection.inspected_run import (
    earlier_settings,
    parse_position,
    read_inspected_config,
)
from birdmix.experiments.inspection.mix_observations import MixObservations
from birdmix.experiments.inspection.source_tracing import TracedOperator, trace_operators
from birdmix.files import write_text
from birdmix.loading.run_data import open_data
from birdmix.mix.operators.inject import InjectSettings
from birdmix.mix.settings import MixSettings
from birdmix.ownership import OutputFiles
from birdmix.report.inspection_page import (
    ExampleView,
    HistogramView,
    InspectionPage,
    check_page_size,
    render_inspection_page,
)
from birdmix.training.distributed_processes import connect_processes

# Without a position, so many examples of a batch are shown: several batches tell more than one.
_EXAMPLES_OF_A_BATCH = 4

_NOTE = (
    "Sources are as loud as in the mix, gains and time shifts included. All sounds of an example "
    "are played with one common gain, so that none is clipped. A log-mel is bright where it is "
    "loud, on a scale of its own. The gain of a source is the factor of its sound, level matching "
    "included. SNR is the level of a source in the waveform mix against everything else in it, "
    "measured. A part is a source's part of the mix; the label share is what it brings of its "
    "label, before the labels are joined. Log-mels and features are blended behind the sound: such "
    "a mix has no sound of its own, and the waveforms from before it are played."
)


@dataclass(frozen=True)
class InspectionOptions:
    """Options of an inspection.

    Attributes:
        out: The page to write.
        at: Position in the run, EPOCH:BATCH from 1; None is the beginning.
        num_examples: Most examples to show.
        num_batches: Batches of which the distributions are.
        num_processes: Processes of the run.
        rank: The process whose share of each batch is shown, from 0.

    Raises:
        ValueError: If there is no such process.
    """

    out: Path
    at: str | None = None
    num_examples: int = 12
    num_batches: int = 200
    num_processes: int = 1
    rank: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.num_processes:
            raise ValueError(
                f"--rank={self.rank}: a run of {self.num_processes} processes has ranks 0 to "
                f"{self.num_processes - 1}; set --processes"
            )


def inspect_mixes(overrides: Sequence[str], options: InspectionOptions) -> str:
    """Draw the batches of a run, and write the page; return a line on what it holds.

    Args:
        overrides: Overrides as for ``birdmix train``, and ``run=RUN_DIR`` for those of a run.
        options: Options.

    Raises:
        ValueError: If settings, data or the position are wrong, or the page would be too large.
    """
    config = read_inspected_config(overrides)
    check_buildable(config)
    start = parse_position(options.at or "1:1", config.trainer.max_epochs)
    out = OutputFiles(options.out.parent, (options.out.name,), remedy="name another file")
    out.check()
    processes = connect_processes(config.trainer)
    processes = replace(processes, rank=options.rank, size=options.num_processes)
    data = open_data(config.data, config.frontend.log_mel.sample_rate, open_progress_bar)
    replay = BatchReplay.of_run(config, data, processes)
    if start[1] >= replay.batches_per_epoch:
        raise ValueError(f"--at={options.at}: an epoch has batches 1 to {replay.batches_per_epoch}")
    for name in earlier_settings(overrides):
        warn(f"the run was resumed with other settings; name its file {name} for those before")
    examples, observations = _look_at_batches(replay, start, options)
    page = _describe_inspection(overrides, options, replay, start, examples, observations)
    html = render_inspection_page(page)
    out.register()
    write_text(options.out, html)
    promises = _describe_promises(page.histograms).rstrip(".")
    return f"{len(examples)} examples, {observations.num_batches} batches; {promises}"


def _look_at_batches(
    replay: BatchReplay, start: tuple[int, int], options: InspectionOptions
) -> tuple[list[ExampleView], MixObservations]:
    """Draw batches from a position on; return views of examples, and what was done in all of them.

    With ``--at`` the examples are those of that batch, else those of the first mixed batches.
    """
    config = replay.config
    observations = MixObservations.of_stages(replay.step.mix_stages, config.mix.min_snr_db)
    examples: list[ExampleView] = []
    first = start[0] * replay.batches_per_epoch + start[1]
    total = min(options.num_batches, replay.num_batches - first)
    with (
        open_progress_bar("drawing batches") as on_progress,
        closing(replay.replay(start)) as batches,  # ends the loader's processes
    ):
        for number, replayed in enumerate(itertools.islice(batches, total)):
            traced = trace_operators(replayed.applied, replayed.batch.examples.x.shape[1])
            observations.add(replayed, traced)
            is_last_chance = number == total - 1 and not examples
            if options.at is not None:
                is_shown, limit = number == 0, options.num_examples
            else:
                is_shown, limit = replayed.is_mixed or is_last_chance, _EXAMPLES_OF_A_BATCH
            limit = min(limit, options.num_examples - len(examples))
            if is_shown and limit:
                examples += _view_examples(replay, replayed, traced, limit)
                _check_expected_size(examples, options.num_examples)
            on_progress(number + 1, total)
    return examples, observations


def _view_examples(
    replay: BatchReplay, replayed: ReplayedBatch, traced: Sequence[TracedOperator], limit: int
) -> list[ExampleView]:
    """Return views of the first mixed examples of a batch; of its first ones if none is mixed."""
    views = BatchViews.of_batch(replay, replayed, traced)
    chosen = views.mixed_examples or range(len(replayed.batch.examples.x))
    return [views.view(example) for example in chosen[:limit]]


def _check_expected_size(examples: Sequence[ExampleView], num_examples: int) -> None:
    """Check the size of the page that all examples will make, before more batches are drawn."""
    num_bytes = sum(example.num_bytes for example in examples)
    if len(examples) >= min(_EXAMPLES_OF_A_BATCH, num_examples):
        check_page_size(num_bytes // len(examples) * num_examples, num_examples)


def _describe_inspection(
    overrides: Sequence[str],
    options: InspectionOptions,
    replay: BatchReplay,
    start: tuple[int, int],
    examples: list[ExampleView],
    observations: MixObservations,
) -> InspectionPage:
    """Return the contents of the page."""
    config, data = replay.config, replay.data
    runs = [override for override in overrides if override.startswith("run=")]
    first = f"{start[0] + 1}:{start[1] + 1}"
    share = ""
    if options.num_processes > 1:
        share = f", the share of process {options.rank} of 0 to {options.num_processes - 1}"
    histograms = distribution_views(observations)
    nothing = "" if replay.step.mix_stages.operator_names else "; these settings mix nothing"
    if options.at is not None:
        shown = f"{len(examples)} examples of batch {first}{nothing}."
        if examples and examples[0].steps == ["not mixed"]:
            shown += " None of its examples was mixed."
    else:
        shown = (
            f"{len(examples)} examples of the first mixed batches, up to {_EXAMPLES_OF_A_BATCH} of "
            f"each; --at EPOCH:BATCH shows those of one batch{nothing}."
        )
    return InspectionPage(
        title=f"Mixes of {runs[0].removeprefix('run=')}" if runs else "Mixes of a run",
        summary=[
            f"{len(data.train)} recordings of {len(data.labels)} classes; "
            f"{config.trainer.max_epochs} epochs of {replay.batches_per_epoch} batches of "
            f"{config.data.batch_size} segments of {config.data.segment_seconds:g} s; "
            f"seed {config.seed}{share}.",
            "Epochs and batches are counted from 1, as in metrics.csv and in messages: 2:14 is "
            "batch 14 of epoch 2.",
            *_augmentation_lines(config),
        ],
        settings=_changed_mix_settings(config),
        note=_NOTE,
        examples=examples,
        examples_note=shown,
        histograms=histograms,
        histograms_note=(
            f"{observations.num_batches} batches with {observations.num_examples:,} examples, from "
            f"{first} on. Bars are what was observed, lines what the settings promise. "
            "A promise counts as broken if chance explains it in under 1 of 1,000 comparisons: "
            + _describe_promises(histograms)
        ),
        log_mel=config.frontend.log_mel,
        seconds=config.data.segment_seconds,
    )


def _augmentation_lines(config: Config) -> list[str]:
    """Return a line on what else was done to the examples, if anything was."""
    names = [name for name, each in vars(config.augment).items() if getattr(each, "prob", 0)]
    lines = []
    if config.data.augment:
        lines.append("Recordings are augmented before the mix (data.augment), sources, too.")
    if names:
        lines.append(
            f"Mixes are augmented ({', '.join(names)}): gains and levels are those before it."
        )
    return lines


def _changed_mix_settings(config: Config) -> list[str]:
    """Return the settings of the mix that differ from those of no mix, ``key=value`` each."""
    defaults = dict(flatten_settings(MixSettings(), "mix."))
    return [
        f"{key}={_setting_text(value)}"
        for key, value in flatten_settings(config.mix, "mix.")
        if defaults.get(key) != value
    ]


def _setting_text(value: object) -> str:
    """Return a value as in an override; of an injector, what differs from the defaults."""
    if isinstance(value, InjectSettings):
        unset = InjectSettings(prob=0.0)
        changed = {name: each for name, each in vars(value).items() if each != getattr(unset, name)}
        return "{" + ", ".join(f"{name}: {_setting_text(changed[name])}" for name in changed) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_setting_text, value)) + "]"
    return "null" if value is None else str(value)


def _describe_promises(histograms: Sequence[HistogramView]) -> str:
    """Return how many promises of the settings are kept, and which are not."""
    broken = [view.name for view in histograms if view.is_broken]
    num_promises = sum(bool(view.verdict) for view in histograms)
    line = f"{num_promises - len(broken)} of {num_promises} promises of the settings are kept"
    return f"{line}; look at {'; '.join(broken)}." if broken else f"{line}."
