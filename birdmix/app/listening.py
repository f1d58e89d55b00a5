"""`birdmix predict`: what is heard goes into a journal, and tables are made of it."""

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from birdmix import __version__
from birdmix.app.console import heard_line, listening_progress, say
from birdmix.app.errors import interrupted_in_a_line
from birdmix.app.findings import Findings, Output
from birdmix.app.outputs import JOURNAL, Outputs
from birdmix.app.parts import Part
from birdmix.audio.listing import unread_line
from birdmix.audio.sound_file import DECODER
from birdmix.bundle.manifest import digest
from birdmix.files import write_text
from birdmix.inference.engine import ENGINES, EXPORTED, open_engine
from birdmix.inference.journal import Entry, Journal, way_of
from birdmix.inference.listen import Listening, listen
from birdmix.inference.listener import Listener
from birdmix.inference.settings import ListenSettings
from birdmix.inference.tables import write_failed
from birdmix.inference.targets import find_targets
from birdmix.partials import remove_partials
from birdmix.suggest import first_few

# Reasons of failures that are said; failed.csv has all.
_SAID = 3


def predict(
    targets: Sequence[Path],
    bundles: Sequence[Path],
    out: Path,
    engine: str,
    settings: ListenSettings,
    output: Output,
    part: Part,
) -> bool:
    """Predict what is new in folders and files, and write the tables of all that was predicted.

    Returns:
        Whether anything could be heard.
    """
    out = part.folder(out)
    outputs = Outputs.of(out, output.scores, output.formats)
    folder, found, unread = find_targets(targets)
    paths = part.deal(found)
    dealt = set(part.deal(path for path, _ in unread))
    unread = [each for each in unread if each.path in dealt]
    kinds = _kinds(engine, len(bundles), way_of(out / JOURNAL))
    engines = [open_engine(bundle, kind) for bundle, kind in zip(bundles, kinds, strict=True)]
    with Listener(engines, settings) as listener:
        # All is checked before the journal is touched.
        findings = Findings(folder, paths, listener, output)
        _tell(listener, bundles)
        if part.count > 1:
            say(f"part {part.number} of {part.count}: {len(paths)} of {len(found)} recordings")
        way = _way(bundles, listener)
        unknown = listener.unknown_columns()
        outputs.claim()
        with Journal(
            out / JOURNAL, way, len(unknown), unknown=unknown, num_rows=listener.num_rows
        ) as journal:
            _tell_journal(journal)
            with interrupted_in_a_line(
                lambda: "what was heard is kept, and the same command goes on"
            ):
                books = _hear(listener, folder, paths, journal)
            journal.check_in_place()
            remove_partials(out, is_only_writer=True)
            outputs.report_changed()
            write_failed(out / "failed.csv", sorted([*books.failed, *unread]))
            counts, odd = findings.write(out, journal, outputs)
            counts["unread"] = len(unread)
            _write_run(out, folder, part, way, findings, books, counts)
            journal.check_in_place()
    _tell_end(out, books, counts)
    for line in odd:
        warnings.warn(f"{line}; {out / 'recordings.csv'} has all", stacklevel=2)
    if unread:
        warnings.warn(f"{unread_line(unread)}; {out / 'failed.csv'} has all", stacklevel=2)
    return bool(counts["recordings"] or not paths)


def _kinds(engine: str, num_bundles: int, before: dict[str, str]) -> list[str]:
    """Return each bundle's kind of engine: what has begun with one goes on with it."""
    if engine != "auto":
        return [engine] * num_bundles
    kinds = [
        before.get(f"engine {number + 1}", "").partition(" ")[0] for number in range(num_bundles)
    ]
    return [kind if kind in ENGINES else engine for kind in kinds]


def _hear(listener: Listener, folder: Path, paths: list[str], journal: Journal) -> Listening:
    """Hear what the journal does not know."""
    known, stands = journal.known(), {path: _stands(folder / path) for path in paths}
    new = [path for path in paths if known.get(path) != stands[path]]
    if len(new) < len(paths):
        say(f"{len(paths) - len(new)} of {len(paths)} recordings were heard before")
    gone = sorted(known.keys() - stands.keys())
    if gone:
        say(
            f"{len(gone)} recordings heard before are no longer here, and not in the tables: "
            f"{first_few(gone)}"
        )
    books = Listening()
    with listening_progress("listening") as on_progress:
        heard = listen(listener, folder, new, on_progress=on_progress, listening=books)
        for each in heard:
            told = None if each.recorded_at is None else each.recorded_at.isoformat()
            about = (*stands[each.path], each.seconds, told, each.warning)
            journal.keep(Entry(each.path, *about, each.score))
            del each  # the next scores need its memory
    return books


def _stands(path: Path) -> tuple[int, int]:
    """Return a file's size and when it was last written, in nanoseconds."""
    try:
        stat = os.stat(path)
    except OSError:  # it is told when it is to be heard
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


def _way(bundles: Sequence[Path], listener: Listener) -> dict[str, str]:
    """Return all that what is heard depends on."""
    way = {"birdmix": __version__, "decoder": DECODER}
    for number, (bundle, engine) in enumerate(zip(bundles, listener.engines, strict=True), 1):
        kind = engine.name.split()[0]
        way[f"bundle {number}"] = digest(bundle, kind)
        package = EXPORTED.get(kind, kind)
        way[f"engine {number}"] = f"{engine.name} ({package} {version(package)})"
    settings = asdict(listener.settings) | {"window": listener.window, "step": listener.step}
    if len(bundles) == 1:
        del settings["combine"]
    if settings.get("combine") != "power":
        del settings["power"]
    return way | {name: str(value) for name, value in settings.items()}


def _tell(listener: Listener, bundles: Sequence[Path]) -> None:
    """Say who listens, and which species only some of them know."""
    names = sorted({engine.name for engine in listener.engines})
    rows = f"rows of {listener.window:g} s every {listener.step:g} s"
    bundle = "1 bundle" if len(bundles) == 1 else f"{len(bundles)} bundles"
    say(f"{len(listener.labels)} species, {rows}, {bundle}, {', '.join(names)}")
    for folder, engine in zip(bundles, listener.engines, strict=True):
        lacking = [c for c in listener.labels.codes if c not in engine.manifest.labels]
        if lacking:
            say(
                f"{folder} does not know {len(lacking)} of them, the others speak for it: "
                f"{first_few(lacking, 10)}"
            )


def _tell_journal(journal: Journal) -> None:
    if journal.changed:
        was = ", ".join(f"{key} (was {value or '-'})" for key, value in journal.changed.items())
        before = f"; before: {journal.aside}" if journal.aside is not None else ""
        say(f"starting afresh, since what is heard depends on {was}{before}")
    elif journal.aside is not None:
        say(f"{journal.file} was damaged; starting afresh, the damaged one is {journal.aside}")
    if journal.dropped:
        wrong = [f"{path} ({fault})" for path, fault in journal.dropped.items()]
        say(
            f"{journal.file}: {len(wrong)} recordings have damaged entries and are predicted "
            f"again: {first_few(wrong)}"
        )


def _write_run(
    out: Path,
    folder: Path,
    part: Part,
    way: dict[str, str],
    findings: Findings,
    books: Listening,
    counts: dict[str, int],
) -> None:
    """Write ``run.json``: with what, by which options, how fast, and what came of it."""
    heard_now = books.done - len(books.failed)
    content = {
        "folder": str(folder.resolve()),
        "channel": findings.listener.settings.channel,
        "part": asdict(part),
        "heard_with": way,
        "options": asdict(findings.output),
        "thresholds": findings.told_thresholds(),
        "counts": counts | {"heard_now": heard_now, "failed": len(books.failed)},
        "hours_heard_now": round(books.seconds / 3600, 4),
        "times_real_time": round(books.rate, 1) if heard_now else None,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(out / "run.json", json.dumps(content, indent=2, default=str) + "\n")


def _tell_end(out: Path, books: Listening, counts: dict[str, int]) -> None:
    if books.num_files:
        say(heard_line(books))
    for path, reason in books.failed[:_SAID]:
        say(f"  {path}: {reason}")
    if len(books.failed) > _SAID:
        say(f"  and {len(books.failed) - _SAID} more: {out / 'failed.csv'}")
    if counts["undated"]:
        say(f"{counts['undated']} recordings do not say when they began: not in activity.csv")
    say(f"wrote {out}: {counts['detections']} detections in {counts['recordings']} recordings")
