"""A folder of test mixtures: sound files, ``mixtures.csv`` and ``mixtures.json``.

Shapes: S sources, T samples, N rows.
"""

import hashlib
import json
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from birdmix import files
from birdmix.audio.encode import write_flac
from birdmix.audio.loudness import apply_a_weighting, rms_db
from birdmix.loading.audio_store import open_store
from birdmix.loading.mixture_plan import (
    HeldOutFold,
    MixturePlan,
    MixturePlanner,
    MixtureSettings,
    check_fold,
)
from birdmix.loading.mixture_windows import MixtureWindows
from birdmix.loading.run_data import make_demo_if_missing
from birdmix.messages import first_few
from birdmix.ownership import read_file_list
from birdmix.recordings.data_root import DataRoot
from birdmix.recordings.folds import assign_folds
from birdmix.recordings.mixture_table import (
    COLUMNS,
    FORMAT,
    MANIFEST,
    TABLE,
    MixtureManifest,
    join_values,
)
from birdmix.recordings.recordings_table import Recordings, concatenate
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.source_readers import read_source
from birdmix.text import escape_formula
from birdmix.threads import OpenBar, map_in_threads

#: Kind of the folder in its list of files.
MIXTURES_KIND = "mixtures"

# Largest magnitude of a sample; 16 bits and a change of the sample rate need some room.
_PEAK = 0.99


class RenderedMixture(NamedTuple):
    """A mixture as it is written.

    Attributes:
        waveform: float32 [T].
        gains_db: Gain of each source, without the scale, in dB, at most 0, [S].
        levels_db: A-weighted level of each source in the file in dB, [S].
        snr_db: A-weighted level of each source above all else in the file, [S]; NaN if there is
            nothing else.
        bed_start_seconds: Start of the bed in its recording in seconds; NaN without a bed.
        bed_gain_db: Gain of the bed, without the scale, in dB; likewise.
        bed_level_db: A-weighted level of the bed in the file in dB; likewise.
        scale_db: Gain of the sum in dB, at most 0, so that nothing clips.
    """

    waveform: np.ndarray
    gains_db: tuple[float, ...]
    levels_db: tuple[float, ...]
    snr_db: tuple[float, ...]
    bed_start_seconds: float
    bed_gain_db: float
    bed_level_db: float
    scale_db: float


@dataclass(frozen=True)
class HeldOutData:
    """Recordings to make mixtures of.

    Attributes:
        recordings: Recordings with one label or none, then the noise recordings, N rows.
        folds: The folds to make.
        windows: Windows of all rows.
        digest: Digest of the table of the data source.
    """

    recordings: Recordings
    folds: tuple[HeldOutFold, ...]
    windows: MixtureWindows
    digest: str


def write_mixtures(
    out: Path,
    data_settings: DataSettings,
    sample_rate: int,
    settings: MixtureSettings,
    open_bar: OpenBar,
) -> dict[str, int]:
    """Write a folder of test mixtures, completely or not at all.

    Args:
        out: The folder; an earlier folder of mixtures is replaced, any other must be empty.
        data_settings: Data, folds and length of a window.
        sample_rate: Sample rate of the files in Hz, that of the log-mel.
        settings: Settings of the mixtures.
        open_bar: Opens a progress bar.

    Returns:
        Number of mixtures by set.

    Raises:
        ValueError: If the data have several labels a recording, a fold has too few classes or
            groups, or ``out`` is not empty or lies among the recordings.
    """
    _check_out(out, data_settings)
    data = _open_held_out(data_settings, sample_rate, settings, open_bar)
    plans = _plan_all(data, settings, open_bar)
    digest = hashlib.sha256()
    rows = []
    with (
        files.atomic_directory(out, MIXTURES_KIND) as partial,
        open_bar("writing mixtures") as on_progress,
    ):

        def write(plan: MixturePlan) -> RenderedMixture:
            mixture = render_mixture(plan, data.windows, settings.seed)
            write_flac(partial / _file_name(plan), mixture.waveform, sample_rate)
            return mixture

        for plan, mixture in map_in_threads(write, plans, on_progress):
            digest.update(mixture.waveform.tobytes())
            rows.append(_cells(plan, mixture, data.recordings, sample_rate))
        table = pd.DataFrame(rows, columns=COLUMNS).to_csv(index=False, lineterminator="\n")
        digest.update(table.encode("utf-8", "surrogateescape"))
        files.write_text(partial / TABLE, table)
        counts = dict(Counter(plan.set_name for plan in plans))
        manifest = MixtureManifest(
            format=FORMAT,
            seed=settings.seed,
            per_class=settings.per_class,
            sample_rate=sample_rate,
            seconds=data.windows.num_samples / sample_rate,
            labels=data.recordings.labels.codes,
            source=data_settings.source,
            root=data_settings.root,
            table=data_settings.table,
            num_folds=data_settings.num_folds,
            group_by=data_settings.group_by,
            group_pattern=data_settings.group_pattern,
            beds=None if settings.beds is None else str(settings.beds),
            recordings=data.digest,
            counts=counts,
            digest=digest.hexdigest(),
        )
        files.write_text(partial / MANIFEST, json.dumps(asdict(manifest), indent=2) + "\n")
    return counts


def _check_out(out: Path, settings: DataSettings) -> None:
    """Refuse a folder that is not empty, unless it holds mixtures only, or lies in the data."""
    remedy = "name a new folder with --out"
    files.check_replaceable_folder(out, remedy)
    listed = read_file_list(out)
    if listed is not None and listed.kind != MIXTURES_KIND:
        raise ValueError(f"--out {out}: birdmix made it for something else; {remedy}")
    root = settings.root
    if root is not None and out.resolve().is_relative_to(Path(root).resolve()):
        raise ValueError(
            f"--out {out}: it lies in data.root={root}, where mixtures would be read as "
            "recordings; name a folder elsewhere"
        )


def _open_held_out(
    settings: DataSettings, sample_rate: int, mixtures: MixtureSettings, open_bar: OpenBar
) -> HeldOutData:
    """Read the data source as training does, split it into folds, and open the recordings."""
    make_demo_if_missing(settings, open_bar)
    source = read_source(settings).recordings
    # Folds depend on how secondary labels are treated, so that they come from the first reading.
    recordings = _with_unknown_secondary_labels(source, settings)
    _check_single_labels(recordings)
    beds = _read_beds(mixtures.beds, settings, recordings)
    _split(source, recordings, beds, settings, mixtures)  # before hours of decoding
    paths = [*recordings.paths, *beds.paths]
    # Stores in memory round samples to 16 bits; the files must not depend on data.cache.
    store_settings = replace(settings, cache="none")
    with open_bar("opening recordings") as on_progress:
        store, unreadable = open_store(
            recordings.root, paths, store_settings, sample_rate, on_progress
        )
    source, recordings, beds = (
        table.take(np.array([path not in unreadable for path in table.paths], bool))
        for table in (source, recordings, beds)
    )
    table, folds = _split(source, recordings, beds, settings, mixtures)
    windows = MixtureWindows(
        store,
        table,
        sample_rate=sample_rate,
        num_samples=round(settings.segment_seconds * sample_rate),
        fill_method=settings.short,
    )
    return HeldOutData(table, folds, windows, source.digest())


def _with_unknown_secondary_labels(source: Recordings, settings: DataSettings) -> Recordings:
    """Return the recordings of a source with all secondary labels as unknown ones.

    Raises:
        ValueError: If recordings have annotated events.
    """
    if source.has_any_events:
        raise ValueError(
            "test mixtures need data with one label for each recording; these have annotated "
            "events: validate on the recordings themselves, or use data=csv with a row per span"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the first reading has warned
        soft = read_source(replace(settings, secondary="soft", secondary_value=0.5)).recordings
    columns = [soft.labels.column(code) for code in source.labels.codes]
    target = soft.targets()[:, columns]
    known = target != 0.5
    start, end = soft.numeric_column("start"), soft.numeric_column("end")
    return source.with_spans_and_labels(start, end, np.where(known, target, 0), known)


def _check_single_labels(recordings: Recordings) -> None:
    """Refuse recordings with several labels: a window may hold any of them, or none."""
    several = np.flatnonzero(np.diff(recordings.ragged_column("label")[0]) > 1)
    if len(several):
        row = int(several[0])
        codes = recordings.label_codes_of_row(row)
        raise ValueError(
            f"{recordings.paths[row]} has {len(codes)} labels ({first_few(codes)}), as have "
            f"{len(several) - 1} other recordings; test mixtures need one label for each: list "
            "them in data.exclude, or the others in the column secondary_labels"
        )


def _read_beds(folder: Path | None, settings: DataSettings, recordings: Recordings) -> Recordings:
    """Return the noise recordings of a folder, relative to the root of the data; none without."""
    if folder is None:
        return recordings.take(np.zeros(len(recordings), bool))
    root = DataRoot(folder, settings.follow_links, key="--beds")
    paths = root.list_recordings()
    if not paths:
        raise ValueError(f"--beds {folder}: no recordings in this folder")
    beds = Recordings.build(folder, recordings.labels, path=paths, codes=[()] * len(paths))
    beds = beds.with_paths_relative_to(recordings.root)
    return beds.with_groups(beds.paths)


def _split(
    source: Recordings,
    recordings: Recordings,
    beds: Recordings,
    settings: DataSettings,
    mixtures: MixtureSettings,
) -> tuple[Recordings, tuple[HeldOutFold, ...]]:
    """Return one table of all recordings, and the folds to make, checked.

    Args:
        source: The recordings as training reads them, N rows.
        recordings: The same with secondary labels as unknown ones, N rows.
        beds: Noise recordings.
        settings: Number of folds.
        mixtures: Folds and sets to make.
    """
    if any(split is not None for split in source.table["split"].to_pylist()):
        raise ValueError(
            "column 'split': mixtures are made by fold; remove the column, and set data.num_folds"
        )
    if settings.num_folds < 2:
        raise ValueError(f"data.num_folds={settings.num_folds}: it must be at least 2")
    for fold in mixtures.folds:
        if not 0 <= fold < settings.num_folds:
            raise ValueError(
                f"--fold {fold}: it must be in 0 .. {settings.num_folds - 1} (data.num_folds - 1)"
            )
    fold_of_row = assign_folds(source, settings.num_folds)
    table = concatenate([recordings, beds]) if len(beds) else recordings
    labelled = np.diff(recordings.ragged_column("label")[0]) > 0
    folds = []
    for fold in sorted(set(mixtures.folds) or range(settings.num_folds)):
        rows = np.flatnonzero(fold_of_row == fold)
        bed_rows = rows[~labelled[rows]]
        if len(beds):
            bed_rows = np.arange(len(recordings), len(table))
        folds.append(HeldOutFold(fold, table, rows, bed_rows))
        check_fold(folds[-1], mixtures.rules)
    return table, tuple(folds)


def _plan_all(data: HeldOutData, settings: MixtureSettings, open_bar: OpenBar) -> list[MixturePlan]:
    """Plan all sets of all folds; warn of classes that folds have too few windows of."""
    plans: list[MixturePlan] = []
    codes = data.recordings.labels.codes
    occurring = sorted({c for fold in data.folds for c in fold.rows_by_class()})
    few: dict[str, list[tuple[int, str]]] = defaultdict(list)
    planners = [MixturePlanner(fold, data.windows, settings) for fold in data.folds]
    searched = sorted({row for planner in planners for row in planner.class_of_row})
    with open_bar("searching recordings") as on_progress:
        for _ in map_in_threads(data.windows.search, searched, on_progress):
            pass  # the windows remember what was found
    for planner in planners:
        for name in settings.rules:
            planned = list(planner.plan(name))
            plans += planned
            uses = Counter(planner.class_of_row[s.row] for plan in planned for s in plan.sources)
            # The last mixture takes several classes, so that some may be one short.
            few[name] += [
                (uses[c], f"{codes[c]} in fold {planner.fold.fold}")
                for c in occurring
                if uses[c] < settings.per_class - 1
            ]
    for name, shortages in few.items():
        if shortages:
            fewest, where = min(shortages)
            warnings.warn(
                f"{name}: fewer than {settings.per_class} loud windows in {len(shortages)} of "
                f"{len(occurring) * len(data.folds)} classes of folds; the fewest are {fewest}, of "
                f"{where}",
                stacklevel=2,
            )
    return plans


def render_mixture(plan: MixturePlan, windows: MixtureWindows, seed: int) -> RenderedMixture:
    """Read the windows of a mixture and add them up.

    Sources are only attenuated, so that none gets a noise floor that its recording does not have:
    the source that is furthest below its place in the mixture keeps its level. A source that is
    alone keeps its level, too. Gains are multiples of 0.01 dB, as the table has them.

    Args:
        plan: The mixture.
        windows: Windows of the recordings.
        seed: Seed of all random choices.
    """
    sources = [
        windows.read_source(source.row, source.start, plan.rng(seed, "mixture fill", at))
        for at, source in enumerate(plan.sources)
    ]
    own_levels = np.array([windows.level_db(waveform) for waveform in sources])
    wanted = np.array([source.level_db for source in plan.sources])
    reference = (own_levels - wanted).min()
    gains = np.minimum(np.round(reference + wanted - own_levels, 2), 0.0) + 0.0  # never -0
    bed_start, bed_gain = np.nan, np.nan
    parts = [waveform * 10 ** (gain / 20) for waveform, gain in zip(sources, gains, strict=True)]
    if plan.bed_row is not None:
        has_label = windows.is_labelled[plan.bed_row]
        draw = windows.draw_quiet_bed if has_label else windows.draw_window_as_bed
        bed, bed_start = draw(plan.bed_row, plan.rng(seed, "mixture bed"))
        wanted_level = (own_levels + gains).min() - plan.bed_below_db
        bed_gain = float(np.round(wanted_level - windows.level_db(bed), 2))
        parts.append(bed * 10 ** (bed_gain / 20))
    total = np.sum(parts, axis=0)
    scale = _scale_without_clipping_db(total)
    weighted = [apply_a_weighting(part, windows.sample_rate) for part in parts]
    levels = [rms_db(part) + scale for part in weighted]
    return RenderedMixture(
        waveform=(total * 10 ** (scale / 20)).astype(np.float32),
        gains_db=tuple(gains.tolist()),
        levels_db=tuple(levels[: len(sources)]),
        snr_db=tuple(_levels_above_all_else_db(weighted)[: len(sources)]),
        bed_start_seconds=bed_start,
        bed_gain_db=bed_gain,
        bed_level_db=np.nan if plan.bed_row is None else levels[-1],
        scale_db=scale,
    )


def _scale_without_clipping_db(waveform: np.ndarray) -> float:
    """Return the gain, a multiple of 0.01 dB and at most 0, that leaves no sample to clip."""
    peak = float(np.abs(waveform).max())
    return float(np.floor(2000 * np.log10(_PEAK / peak))) / 100 if peak > _PEAK else 0.0


def _levels_above_all_else_db(parts: Sequence[np.ndarray]) -> list[float]:
    """Return the RMS of each part above that of the sum of the others; NaN for a single part."""
    if len(parts) == 1:
        return [np.nan]
    total = np.sum(parts, axis=0)
    return [rms_db(part) - rms_db(total - part) for part in parts]


def _file_name(plan: MixturePlan) -> str:
    return f"{plan.set_name}/fold{plan.fold}-{plan.number:04d}.flac"


def _cells(
    plan: MixturePlan, mixture: RenderedMixture, recordings: Recordings, sample_rate: int
) -> list[object]:
    """Return the cells of a mixture's row, in the order of ``COLUMNS``."""
    rows = [source.row for source in plan.sources]
    paths, groups = (recordings.table[name] for name in ("path", "group"))
    codes = [recordings.label_codes_of_row(row)[0] for row in rows]
    bed = plan.bed_row
    unknown = _unknown_codes([*rows, *([] if bed is None else [bed])], recordings)
    return [
        _file_name(plan),
        plan.set_name,
        plan.fold,
        _text(codes),
        _text([code for code in unknown if code not in codes]),
        len(rows),
        _text([paths[row].as_py() for row in rows]),
        _numbers([source.start / sample_rate for source in plan.sources], 3),
        _text([groups[row].as_py() for row in rows]),
        _numbers(mixture.gains_db),
        _numbers(mixture.levels_db),
        _numbers(mixture.snr_db),
        "" if bed is None else _text([paths[bed].as_py()]),
        _numbers([mixture.bed_start_seconds], 3),
        "" if bed is None else _text([groups[bed].as_py()]),
        _numbers([mixture.bed_gain_db]),
        _numbers([mixture.bed_level_db]),
        _numbers([mixture.scale_db]),
    ]


def _unknown_codes(rows: Sequence[int], recordings: Recordings) -> list[str]:
    """Return the codes that may be heard in recordings and are not their label, in their order.

    Among them is the label of a noise bed: the last row, if it has one.
    """
    offsets, columns = recordings.ragged_column("unknown")
    found = {int(c) for row in rows for c in columns[offsets[row] : offsets[row + 1]]}
    found |= {recordings.labels.column(code) for code in recordings.label_codes_of_row(rows[-1])}
    return [recordings.labels.codes[column] for column in sorted(found)]


def _text(values: Sequence[str]) -> str:
    return escape_formula(join_values(values))


def _numbers(values: Sequence[float], digits: int = 2) -> str:
    """Return numbers with ``;`` between; nothing for those that are NaN."""
    return ";".join("" if np.isnan(value) else f"{value:.{digits}f}" for value in values)
