"""`birdmix predict`: what is heard goes into a journal, and tables are made of it."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from birdmix import __version__
from birdmix.app.console import listening_progress, say
from birdmix.app.findings import Findings, Output
from birdmix.app.parts import Part
from birdmix.audio.clock import recorded_at
from birdmix.audio.sound_file import DECODER
from birdmix.bundle.manifest import digest
from birdmix.files import remove_partials, write_text
from birdmix.inference.engine import open_engine
from birdmix.inference.journal import Entry, Journal
from birdmix.inference.listen import Listening, listen, recordings_in
from birdmix.inference.listener import Listener
from birdmix.inference.settings import ListenSettings
from birdmix.inference.tables import write_failed
from birdmix.suggest import first_few

# Which package an engine comes in.
_PACKAGE = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}


def predict(
    folder: Path,
    bundles: Sequence[Path],
    out: Path,
    engine: str,
    settings: ListenSettings,
    output: Output,
) -> None:
    """Hear what is new in a folder, and write the tables of all that was heard there."""
    part = Part.of_process()
    out = part.folder(out)
    found = recordings_in(folder)
    paths = part.deal(found)
    with Listener([open_engine(bundle, engine) for bundle in bundles], settings) as listener:
        _tell(listener, bundles)
        if part.count > 1:
            say(f"part {part.number + 1} of {part.count}: {len(paths)} of {len(found)} recordings")
        way = _way(folder, bundles, listener)
        num_models = len(bundles) if settings.combine == "rank" else 1
        with Journal(out / "journal.sqlite", way, num_models * len(listener.labels)) as journal:
            findings = Findings(journal, folder, listener, output)
            _tell_journal(journal)
            books = _hear(listener, folder, paths, journal)
            remove_partials(out)
            counts = findings.write(out)
        write_failed(out / "failed.csv", books.failed)
    _write_run(out, part, way, settings, output, books, counts)
    _tell_end(out, books, counts)


def _hear(listener: Listener, folder: Path, paths: list[str], journal: Journal) -> Listening:
    """Hear what the journal does not know, and let it forget what is no longer there."""
    known, stands = journal.known(), {path: _stands(folder / path) for path in paths}
    journal.forget([path for path in known if path not in stands])
    new = [path for path in paths if known.get(path) != stands[path]]
    if len(new) < len(paths):
        say(f"{len(paths) - len(new)} of {len(paths)} recordings were heard before")
    books = Listening()
    with listening_progress("listening") as on_progress:
        heard = listen(listener, folder, new, on_progress=on_progress, listening=books)
        for each in heard:
            moment = recorded_at(folder / each.path)
            told = None if moment is None else moment.isoformat()
            about = (*stands[each.path], each.seconds, told, each.warning)
            journal.keep(Entry(each.path, *about, each.score))
    return books


def _stands(path: Path) -> tuple[int, int]:
    """Return a file's size and when it was last written, in nanoseconds."""
    try:
        stat = os.stat(path)
    except OSError:  # it is told when it is to be heard
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


def _way(folder: Path, bundles: Sequence[Path], listener: Listener) -> dict[str, str]:
    """Return all that what is heard depends on."""
    way = {"folder": str(folder.resolve()), "birdmix": __version__, "decoder": DECODER}
    for number, (bundle, engine) in enumerate(zip(bundles, listener.engines, strict=True), 1):
        kind = engine.name.split()[0]
        way[f"bundle {number}"] = digest(bundle, kind)
        way[f"engine {number}"] = f"{engine.name} ({_PACKAGE[kind]} {version(_PACKAGE[kind])})"
    settings = asdict(listener.settings) | {"window": listener.window, "step": listener.step}
    return way | {name: str(value) for name, value in settings.items()}


def _tell(listener: Listener, bundles: Sequence[Path]) -> None:
    """Say who listens, and which species only some of them know."""
    names = sorted({engine.name for engine in listener.engines})
    rows = f"rows of {listener.window:g} s every {listener.step:g} s"
    say(f"{len(listener.labels)} species, {rows}, {len(bundles)} bundle(s), {', '.join(names)}")
    for bundle, engine in zip(bundles, listener.engines, strict=True):
        lacking = [c for c in listener.labels.codes if c not in engine.manifest.labels]
        if lacking:
            say(
                f"{bundle} does not know {len(lacking)} of them, the others speak for it: "
                f"{first_few(lacking, 10)}"
            )


def _tell_journal(journal: Journal) -> None:
    if journal.damaged:
        say(f"{journal.file} was damaged; starting afresh")
    if journal.changed:
        was = ", ".join(f"{key} (was {value or '-'})" for key, value in journal.changed.items())
        say(f"starting afresh, since what is heard depends on {was}")


def _write_run(
    out: Path,
    part: Part,
    way: dict[str, str],
    settings: ListenSettings,
    output: Output,
    books: Listening,
    counts: dict[str, int],
) -> None:
    heard_now = books.done - len(books.failed)
    content: dict[str, Any] = {
        "folder": way["folder"],
        "channel": settings.channel,
        "part": asdict(part),
        "heard_with": way,
        "options": asdict(output),
        "counts": counts | {"heard_now": heard_now, "failed": len(books.failed)},
        "hours_heard_now": round(books.seconds / 3600, 4),
        "seconds_taken": round(time.monotonic() - books.began, 1),
        "times_real_time": round(books.rate, 1),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(out / "run.json", json.dumps(content, indent=2, default=str) + "\n")


def _tell_end(out: Path, books: Listening, counts: dict[str, int]) -> None:
    if books.num_files:
        _tell_heard(books)
    if counts["undated"]:
        say(f"{counts['undated']} recordings do not say when they began: not in activity.csv")
    say(f"wrote {out}: {counts['detections']} detections in {counts['recordings']} recordings")


def _tell_heard(books: Listening) -> None:
    say(
        f"heard {books.done - len(books.failed)} of {books.num_files} recordings, "
        f"{books.seconds / 3600:.2f} h of audio, {books.rate:.0f} x real time, "
        f"{len(books.failed)} failed"
    )
