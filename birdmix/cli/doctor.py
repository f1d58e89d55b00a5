"""``birdmix doctor``: checks of recordings and their tables."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdmix.cli.config_options import ConfigDir
from birdmix.user_errors import one_line_errors

if TYPE_CHECKING:
    from birdmix.recordings.data_diagnosis import Diagnosis
    from birdmix.recordings.data_findings import Finding

# Findings of each problem that are printed; doctor.csv has all.
_NUM_PRINTED = 3


def doctor(
    target: Annotated[
        list[str],
        typer.Argument(
            help="Folder of recordings; or overrides of data, for example data=csv data.table=FILE."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for doctor.csv and exclude.txt.")] = Path(),
    config_dir: ConfigDir = None,
) -> None:
    """Decode all recordings, check their tables, and report problems.

    Exit status: 0 if there are none; 1 if there are some; 2 if the check could not run.
    """
    with one_line_errors():
        diagnosis = _examine(target, out, config_dir)
    raise typer.Exit(1 if diagnosis.findings else 0)


def _examine(target: list[str], out: Path, config_dir: Path | None) -> "Diagnosis":
    """Examine a folder or a run's data, and write ``doctor.csv`` and ``exclude.txt``.

    Args:
        target: A folder; or overrides of ``data``, as ``birdmix train`` takes them.
        out: Folder of the two files.
        config_dir: Folder of the user's own YAML.

    Raises:
        ValueError: If the data cannot be read at all.
    """
    from birdmix.config.composition import compose_config
    from birdmix.config.conf_folders import config_dir_overrides
    from birdmix.console import open_progress_bar, warnings_as_lines
    from birdmix.ownership import OutputFiles
    from birdmix.partial_files import remove_partials
    from birdmix.recordings.data_diagnosis import examine_data, examine_folder
    from birdmix.recordings.settings import DataSettings
    from birdmix.recordings.source_readers import read_exclude_list

    is_folder = len(target) == 1 and ("=" not in target[0] or Path(target[0]).is_dir())
    overrides = [*config_dir_overrides(config_dir), *target]
    settings = DataSettings() if is_folder else compose_config(overrides).data
    excluded = read_exclude_list(settings)

    def is_exclude_list(file: Path) -> bool:
        """Return whether a file is ``data.exclude``, whose lines the new file keeps."""
        return settings.exclude is not None and file.samefile(settings.exclude)

    names = ("doctor.csv", "exclude.txt")
    remedy = "name another folder for --out"
    files = OutputFiles(out, names, remedy=remedy, may_replace=is_exclude_list)
    files.check()
    with warnings_as_lines(), open_progress_bar("decoding") as on_progress:
        if is_folder:
            diagnosis = examine_folder(Path(target[0]), on_progress)
        else:
            diagnosis = examine_data(settings, on_progress)
    _log(diagnosis)
    files.register()
    remove_partials(out)
    _write(diagnosis, out, excluded)
    return diagnosis


def _log(diagnosis: "Diagnosis") -> None:
    """Print the number of recordings and a table of findings."""
    from birdmix.console import log_line, log_table

    hours = diagnosis.seconds / 3600
    log_line(f"decoded {diagnosis.num_recordings} recordings, {hours:.2f} h of audio")
    if diagnosis.findings:
        log_table(("problem", "number", "path", "detail"), _table_rows(diagnosis))
    else:
        log_line("no problems found")


def _table_rows(diagnosis: "Diagnosis") -> Iterator[tuple[str, str, str, str]]:
    """Yield the printed findings of each problem, the most frequent problem first."""
    by_problem: dict[str, list[Finding]] = defaultdict(list)
    for finding in diagnosis.findings:
        by_problem[finding.problem].append(finding)
    for problem, findings in sorted(by_problem.items(), key=lambda item: -len(item[1])):
        for finding in findings[:_NUM_PRINTED]:
            is_first = finding is findings[0]
            number = str(len(findings)) if is_first else ""
            yield problem if is_first else "", number, finding.path, finding.detail
        if len(findings) > _NUM_PRINTED:
            yield "", "", f"and {len(findings) - _NUM_PRINTED} more", ""


def _write(diagnosis: "Diagnosis", out: Path, excluded: list[str]) -> None:
    """Write ``doctor.csv``, and ``exclude.txt`` with the recordings excluded before and now."""
    from birdmix.console import log_line
    from birdmix.files import write_text
    from birdmix.inference.output.table_writer import open_csv
    from birdmix.recordings.data_findings import Finding

    with open_csv(out / "doctor.csv", Finding._fields) as writer:
        writer.writerows(diagnosis.findings)
    log_line(f"wrote {out / 'doctor.csv'} ({len(diagnosis.findings)} findings)")
    if diagnosis.exclude:
        paths = sorted({*excluded, *diagnosis.exclude})
        write_text(out / "exclude.txt", "".join(f"{path}\n" for path in paths))
        log_line(
            f"wrote {out / 'exclude.txt'} ({len(paths)} recordings to exclude): "
            f"data.exclude={out / 'exclude.txt'}"
        )
