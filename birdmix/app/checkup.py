"""``birdmix doctor``: a data set is looked through, and what is wrong with it is shown and kept."""

from collections import defaultdict
from pathlib import Path

from rich.table import Table

from birdmix.app.configure import compose_config
from birdmix.app.console import console, progress, say, warnings_as_lines
from birdmix.files import write_text
from birdmix.inference.csv_files import table as csv_table
from birdmix.ownership import OutputFiles
from birdmix.partials import remove_partials
from birdmix.recordings.doctor import Diagnosis, examine_data, examine_folder
from birdmix.recordings.findings import Finding
from birdmix.recordings.readers import excluded_of
from birdmix.recordings.settings import DataSettings

#: Findings of one kind that are shown; ``doctor.csv`` has them all.
_SHOWN = 3


def check_up(target: list[str], out: Path) -> bool:
    """Look through a folder or a run's data, and write ``doctor.csv`` and ``exclude.txt``.

    Args:
        target: A folder; or overrides of ``data``, as ``train.py`` takes them.
        out: Folder of the two files.

    Returns:
        Whether nothing is wrong.

    Raises:
        ValueError: If it cannot be looked through at all.
    """
    is_folder = len(target) == 1 and ("=" not in target[0] or Path(target[0]).is_dir())
    settings = DataSettings() if is_folder else compose_config(target).data
    excluded = excluded_of(settings)

    def is_read(file: Path) -> bool:
        """Return whether a file is ``data.exclude``, all of whose lines are written again."""
        return settings.exclude is not None and file.samefile(settings.exclude)

    names = ("doctor.csv", "exclude.txt")
    files = OutputFiles(out, names, remedy="name another folder for --out", allows=is_read)
    files.check()
    with warnings_as_lines(), progress("decoding") as on_progress:
        if is_folder:
            diagnosis = examine_folder(Path(target[0]), on_progress)
        else:
            diagnosis = examine_data(settings, on_progress)
    _show(diagnosis)
    files.claim()
    remove_partials(out)
    _write(diagnosis, out, excluded)
    return not diagnosis.findings


def _show(diagnosis: Diagnosis) -> None:
    hours = diagnosis.seconds / 3600
    say(f"decoded {diagnosis.num_recordings} recordings, {hours:.2f} h of sound")
    if not diagnosis.findings:
        say("nothing is wrong with them")
        return
    by_problem: dict[str, list[Finding]] = defaultdict(list)
    for finding in diagnosis.findings:
        by_problem[finding.problem].append(finding)
    table = Table("problem", "number", "where", "what", show_lines=False)
    for problem, found in sorted(by_problem.items(), key=lambda item: -len(item[1])):
        for finding in found[:_SHOWN]:
            first = finding is found[0]
            number = str(len(found)) if first else ""
            table.add_row(problem if first else "", number, finding.path, finding.detail)
        if len(found) > _SHOWN:
            table.add_row("", "", f"and {len(found) - _SHOWN} more", "")
    console.print(table, markup=False)


def _write(diagnosis: Diagnosis, out: Path, excluded: list[str]) -> None:
    """Write all findings; and what is better left out, with what is left out already."""
    with csv_table(out / "doctor.csv", Finding._fields) as writer:
        writer.writerows(diagnosis.findings)
    say(f"wrote {out / 'doctor.csv'} ({len(diagnosis.findings)} findings)")
    if diagnosis.exclude:
        paths = sorted({*excluded, *diagnosis.exclude})
        write_text(out / "exclude.txt", "".join(f"{path}\n" for path in paths))
        say(
            f"wrote {out / 'exclude.txt'} ({len(paths)} recordings better left out): "
            f"data.exclude={out / 'exclude.txt'}"
        )
