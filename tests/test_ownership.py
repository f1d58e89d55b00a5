"""File lists: only files that birdmix wrote are replaced or removed, also after kills."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from birdmix import partial_files
from birdmix.files import (
    atomic_directory,
    atomic_path,
    check_replaceable_folder,
    remove_empty_on_error,
    remove_folder_if_owned,
    walk_files,
    write_text,
)
from birdmix.ownership import (
    CLIPS_KIND,
    LIST,
    OutputFiles,
    foreign_file_reason,
    foreign_folder_reason,
    read_file_list,
)
from birdmix.partial_files import is_partial, partial_path, remove_partials


@pytest.fixture
def listed_folder(tmp_path: Path) -> Path:
    """A folder with a file list and ``table.csv``, written by birdmix."""
    OutputFiles(tmp_path, ("table.csv",)).register()
    write_text(tmp_path / "table.csv", "a,b\n1,2\n")
    return tmp_path


def write_folder(folder: Path, *names: str, kind: str = "raven") -> Path:
    with atomic_directory(folder, kind) as partial:
        for name in names:
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_text(name)
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): file.read_text()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != LIST
    }


# ---------------------------------------------------------------- files


def test_a_file_that_birdmix_did_not_write_is_never_replaced(tmp_path: Path):
    (tmp_path / "table.csv").write_text("a user's")
    with pytest.raises(ValueError, match=r"table\.csv: birdmix did not write it, so it is not"):
        write_text(tmp_path / "table.csv", "new")
    with pytest.raises(ValueError, match="move it away, or use another --out"):
        OutputFiles(tmp_path, ("table.csv",), remedy="use another --out").register()
    assert contents(tmp_path) == {"table.csv": "a user's"}


def test_a_file_that_birdmix_wrote_is_replaced(listed_folder: Path):
    for text in ("c\n", "d\n"):
        OutputFiles(listed_folder, ("table.csv",)).register()
        write_text(listed_folder / "table.csv", text)
    assert contents(listed_folder) == {"table.csv": "d\n"}


def test_a_file_that_was_changed_by_another_program_is_not_replaced(listed_folder: Path):
    (listed_folder / "table.csv").write_text("a,b\n1,3\n")  # as long as before
    os.utime(listed_folder / "table.csv", ns=(0, 0))
    with pytest.raises(ValueError, match="it was changed after birdmix wrote it"):
        write_text(listed_folder / "table.csv", "new")
    assert contents(listed_folder) == {"table.csv": "a,b\n1,3\n"}


def test_a_copy_of_a_folder_belongs_to_birdmix_with_any_modification_times(
    listed_folder: Path, tmp_path_factory
):
    copy = tmp_path_factory.mktemp("copy") / "out"
    shutil.copytree(listed_folder, copy, copy_function=shutil.copyfile)
    os.utime(copy / "table.csv", ns=(0, 0))
    write_text(copy / "table.csv", "new")
    assert contents(copy) == {"table.csv": "new"}


def test_a_file_that_is_changed_during_a_write_is_kept(listed_folder: Path):
    with (
        pytest.raises(ValueError, match="changed after"),
        atomic_path(listed_folder / "table.csv") as new,
    ):
        new.write_text("new")
        (listed_folder / "table.csv").write_text("a user's")
    assert contents(listed_folder) == {"table.csv": "a user's"}


def test_a_link_with_the_name_of_a_file_is_neither_followed_nor_replaced(listed_folder: Path):
    (listed_folder / "thesis.txt").write_text("a user's")
    (listed_folder / "table.csv").unlink()
    (listed_folder / "table.csv").symlink_to("thesis.txt")
    with pytest.raises(ValueError, match=r"it is a symbolic link to thesis\.txt"):
        write_text(listed_folder / "table.csv", "new")
    assert contents(listed_folder)["thesis.txt"] == "a user's"


def test_a_folder_with_the_name_of_a_file_is_refused_before_any_work(tmp_path: Path):
    (tmp_path / "table.csv").mkdir()
    with pytest.raises(ValueError, match="table.csv: it is not a file"):
        OutputFiles(tmp_path, ("table.csv",)).check()


def test_a_continuously_updated_file_belongs_to_birdmix_with_any_content(tmp_path: Path):
    output = OutputFiles(tmp_path, live_names=("log.csv",))
    output.register()
    (tmp_path / "log.csv").write_text("1\n")
    (tmp_path / "log.csv").write_text("1\n2\n")
    output.check()
    assert foreign_file_reason(tmp_path / "log.csv") is None


def test_an_existing_log_of_the_user_is_refused(tmp_path: Path):
    (tmp_path / "log.csv").write_text("a user's")
    with pytest.raises(ValueError, match=r"log\.csv: birdmix did not write it"):
        OutputFiles(tmp_path, live_names=("log.csv",)).register()
    assert [each.name for each in tmp_path.iterdir()] == ["log.csv"]


def test_a_check_writes_nothing(tmp_path: Path):
    OutputFiles(tmp_path / "new", ("table.csv",)).check()
    assert not list(tmp_path.iterdir())


def test_names_that_are_not_utf8_are_listed(tmp_path: Path):
    name = os.fsdecode(b"\xff.csv")
    OutputFiles(tmp_path, (name,)).register()
    for text in ("one", "two"):
        write_text(tmp_path / name, text)
    assert (tmp_path / name).read_text() == "two"


def test_incomplete_and_damaged_lines_of_a_list_are_ignored(listed_folder: Path):
    with (listed_folder / LIST).open("ab") as stream:
        stream.write(b'{"name": "x.csv", "size": \n[1]\n3\n{"name": "y", "size": "z"}\n\xff\n{"na')
    assert foreign_file_reason(listed_folder / "table.csv") is None
    write_text(listed_folder / "table.csv", "new")
    write_text(listed_folder / "table.csv", "newer")
    assert contents(listed_folder) == {"table.csv": "newer"}


# ---------------------------------------------------------------- folders


def test_a_folder_of_birdmix_is_replaced_as_a_whole(tmp_path: Path):
    write_folder(tmp_path / "raven", "old.txt", "a/b.txt")
    write_folder(tmp_path / "raven", "new.txt")
    assert contents(tmp_path) == {"raven/new.txt": "new.txt"}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda folder: (folder / "b.wav").write_text("mine"), "holds b.wav, which birdmix did"),
        (lambda folder: (folder / "a/n").write_text("mine"), "holds a/n, which birdmix did not"),
        (lambda folder: (folder / ".git").write_text("mine"), "holds .git, which birdmix did not"),
        (
            lambda folder: (folder / "a/x.txt").write_text("mine"),
            "holds a/x.txt, which was changed",
        ),
        (lambda folder: (folder / "l").symlink_to("/"), "holds l, which birdmix did not write"),
        (lambda folder: (folder / LIST).unlink(), "holds a/x.txt, which birdmix did not write"),
    ],
)
def test_a_folder_with_a_file_of_the_user_is_not_replaced(
    tmp_path: Path, change: Callable[[Path], object], why: str
):
    folder = write_folder(tmp_path / "raven", "a/x.txt")
    change(folder)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=why):
        write_folder(folder, "new.txt")
    assert contents(tmp_path) == before
    assert not remove_folder_if_owned(folder) and contents(tmp_path) == before
    assert not [name for name in os.listdir(tmp_path) if is_partial(name)]


def test_files_of_operating_systems_do_not_prevent_replacement(tmp_path: Path):
    folder = write_folder(tmp_path / "raven", "x.txt")
    for name in (".DS_Store", "._x.txt", "Thumbs.db", "desktop.ini"):
        (folder / name).touch()
    write_folder(folder, "new.txt")
    assert contents(folder) == {"new.txt": "new.txt"}


def test_a_file_that_the_user_adds_meanwhile_is_kept(tmp_path: Path):
    folder = write_folder(tmp_path / "raven", "x.txt")
    with pytest.raises(ValueError, match="holds b.wav"), atomic_directory(folder):
        (folder / "b.wav").write_text("mine")
    assert contents(tmp_path) == {"raven/x.txt": "x.txt", "raven/b.wav": "mine"}


def test_a_link_to_a_folder_is_resolved(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write_folder(tmp_path / "link", "old.txt")
    write_folder(tmp_path / "link", "new.txt")
    assert (tmp_path / "link").is_symlink() and contents(tmp_path / "real") == {
        "new.txt": "new.txt"
    }
    (tmp_path / "real" / "b.wav").write_text("mine")
    with pytest.raises(ValueError, match=r"link: it holds b\.wav"):
        write_folder(tmp_path / "link", "newer.txt")
    assert not remove_folder_if_owned(tmp_path / "link")
    (tmp_path / "nowhere").symlink_to("absent")
    with pytest.raises(ValueError, match="a symbolic link to absent, which is not a folder"):
        check_replaceable_folder(tmp_path / "nowhere")


def test_a_folder_that_cannot_be_moved_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path / "raven")
    with pytest.raises(OSError, match="it is a mount point; name a folder in it"):
        check_replaceable_folder(tmp_path / "raven")


def test_files_are_not_written_to_a_folder_that_is_replaced_as_a_whole(tmp_path: Path):
    folder = write_folder(tmp_path / "kit", "x.txt", kind="kit")
    with pytest.raises(ValueError, match=r"kit: birdmix made this folder \(kit\) and replaces it"):
        OutputFiles(folder, ("table.csv",)).check()


def test_a_file_that_is_rewritten_in_a_folder_of_birdmix_belongs_to_birdmix(tmp_path: Path):
    folder = write_folder(tmp_path / "bundle", "bundle.json")
    write_text(folder / "bundle.json", "thresholds")
    write_text(folder / "network.onnx", "export")
    assert foreign_folder_reason(folder) is None
    assert remove_folder_if_owned(folder) and not list(tmp_path.iterdir())


def test_a_folder_that_is_removed_while_it_is_written_is_an_error(tmp_path: Path):
    with (
        pytest.raises(OSError, match="it was removed while birdmix wrote into it"),
        atomic_directory(tmp_path / "clips") as partial,
    ):
        shutil.rmtree(partial)
        write_text(partial / "robin" / "x.flac", "its parents are made again")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_no_new_folder_and_keeps_those_of_the_user(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    for path in (tmp_path / "mine/new/newer/x", tmp_path / "mine/x"):
        for writing in (atomic_path, atomic_directory):
            with pytest.raises(RuntimeError), writing(path):
                raise RuntimeError
    with pytest.raises(RuntimeError), remove_empty_on_error([tmp_path / "absent"]):
        raise RuntimeError
    assert [each.name for each in tmp_path.rglob("*")] == ["mine"]


def test_clips_made_by_birdmix_are_recordings_only_if_their_folder_is_named(tmp_path: Path):
    (tmp_path / "a.wav").touch()
    write_folder(tmp_path / "check", "robin/x.flac", kind=CLIPS_KIND)
    with pytest.warns(UserWarning, match="check: skipped, since it holds clips that birdmix made"):
        assert list(walk_files(tmp_path)) == ["a.wav"]
    assert list(walk_files(tmp_path / "check")) == ["robin/x.flac"]
    assert list(walk_files(tmp_path / "check/robin")) == ["x.flac"]


# ---------------------------------------------------------------- kills

CHILD = """
import os, sys
from birdmix.files import atomic_directory, write_text
from birdmix.ownership import OutputFiles
from birdmix.partial_files import remove_partials
from pathlib import Path
num_left = int(sys.argv[2])
def count_calls(function):
    def call(*args, **kwargs):
        global num_left
        num_left -= 1
        if num_left == 0:
            os.kill(os.getpid(), 9)
        result = function(*args, **kwargs)
        num_left -= 1
        if num_left == 0:
            os.kill(os.getpid(), 9)
        return result
    return call
import birdmix.ownership
os.replace, os.mkdir = count_calls(os.replace), count_calls(os.mkdir)
birdmix.ownership._append = count_calls(birdmix.ownership._append)
out = Path(sys.argv[1]) / "out"
OutputFiles(out, ("table.csv",), ("log.csv",)).register()
remove_partials(out)
with (out / "log.csv").open("a") as log:
    log.write("x")
write_text(out / "table.csv", sys.argv[3])
with atomic_directory(out / "raven", "raven") as partial:
    (partial / "x.txt").write_text(sys.argv[3])
print("done")
"""


def test_after_a_kill_between_any_two_steps_the_next_call_succeeds(tmp_path: Path):
    def child(last_step: int, text: str) -> subprocess.CompletedProcess:
        call = [sys.executable, "-c", CHILD, str(tmp_path), str(last_step), text]
        return subprocess.run(call, capture_output=True, text=True)

    assert child(0, "first").returncode == 0
    for step in range(1, 40):
        killed = child(step, f"killed {step}")
        if killed.stdout:
            break
        assert killed.returncode == -signal.SIGKILL
        if step % 3 == 0:  # otherwise several are killed one after another
            again = child(0, f"again {step}")
            assert again.returncode == 0, again.stderr
            written = contents(tmp_path / "out")
            del written["log.csv"]
            assert set(written.values()) == {f"again {step}"}
    assert step > 10  # there are more than ten steps


def test_only_partial_files_of_killed_processes_are_removed(tmp_path: Path):
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    name = partial_path(tmp_path / "table.csv").name
    of_dead = name.replace(f"-{os.getpid()}-", f"-{int(dead.stdout)}-")
    elsewhere = name.replace(partial_files._host(), "00000000")
    users = [".x.partial.csv", ".a.12-34.partial.wav", "x.partial", ".b.99.outgoing"]
    for each in (name, of_dead, elsewhere, *users):
        (tmp_path / each).touch()
    remove_partials(tmp_path)
    assert set(os.listdir(tmp_path)) == {name, elsewhere, *users}
    os.utime(tmp_path / elsewhere, (0, 0))
    remove_partials(tmp_path)
    assert set(os.listdir(tmp_path)) == {name, *users}
    remove_partials(tmp_path, target=tmp_path / "other.csv", is_only_writer=True)
    assert set(os.listdir(tmp_path)) == {name, *users}
    remove_partials(tmp_path, target=tmp_path / "table.csv", is_only_writer=True)
    assert set(os.listdir(tmp_path)) == set(users)


def test_a_link_with_the_name_of_a_partial_file_is_kept(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "mine").touch()
    link = partial_path(tmp_path / "x")
    link.symlink_to("real")
    remove_partials(tmp_path, is_only_writer=True)
    assert link.is_symlink() and (tmp_path / "real" / "mine").exists()


def test_names_of_partial_files_fit_any_file_system(tmp_path: Path):
    with atomic_path(tmp_path / f"{'ä' * 125}.csv") as partial:
        assert len(os.fsencode(partial.name)) <= 255 and is_partial(partial.name)
        partial.touch()


def test_two_processes_may_write_to_one_folder(listed_folder: Path):
    """Each appends to the list; the lines of the other are kept."""
    with atomic_path(listed_folder / "table.csv") as partial:
        OutputFiles(listed_folder, ("other.csv",)).register()
        write_text(listed_folder / "other.csv", "other")
        partial.write_text("mine")
    listed = read_file_list(listed_folder)
    assert listed is not None and {*listed.versions} == {"table.csv", "other.csv"}
    for name in ("table.csv", "other.csv"):
        write_text(listed_folder / name, "again")
    assert foreign_file_reason(listed_folder / "other.csv") is None
