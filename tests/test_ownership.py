"""Ownership: only what birdmix wrote is replaced or removed, whatever ended it before."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from birdmix import partials
from birdmix.files import (
    atomic_directory,
    atomic_path,
    check_replaceable,
    remove_folder,
    removed_if_empty,
    walk,
    write_text,
)
from birdmix.ownership import (
    CLIPS,
    LIST,
    OutputFiles,
    read_list,
    why_foreign_file,
    why_foreign_folder,
)
from birdmix.partials import is_partial, partial_of, remove_partials


@pytest.fixture
def claimed(tmp_path: Path) -> Path:
    """A folder with a list, into which ``table.csv`` was written."""
    OutputFiles(tmp_path, ("table.csv",)).claim()
    write_text(tmp_path / "table.csv", "a,b\n1,2\n")
    return tmp_path


def made(folder: Path, *names: str, kind: str = "raven") -> Path:
    with atomic_directory(folder, kind) as partial:
        for name in names:
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_text(name)
    return folder


def contents(folder: Path) -> dict[str, str]:
    found = sorted(folder.rglob("*"))
    return {
        file.relative_to(folder).as_posix(): file.read_text()
        for file in found
        if file.is_file() and file.name != LIST
    }


# ---------------------------------------------------------------- files


def test_a_file_that_birdmix_did_not_write_is_never_replaced(tmp_path: Path):
    (tmp_path / "table.csv").write_text("a user's")
    with pytest.raises(ValueError, match=r"table\.csv: birdmix did not write it, so it is not"):
        write_text(tmp_path / "table.csv", "new")
    with pytest.raises(ValueError, match="move it away, or take another --out"):
        OutputFiles(tmp_path, ("table.csv",), remedy="take another --out").claim()
    assert contents(tmp_path) == {"table.csv": "a user's"}


def test_a_file_that_birdmix_wrote_is_replaced(claimed: Path):
    for text in ("c\n", "d\n"):
        OutputFiles(claimed, ("table.csv",)).claim()
        write_text(claimed / "table.csv", text)
    assert contents(claimed) == {"table.csv": "d\n"}


def test_a_file_that_was_changed_since_is_not_replaced(claimed: Path):
    (claimed / "table.csv").write_text("a,b\n1,3\n")  # as long as before
    os.utime(claimed / "table.csv", ns=(0, 0))
    with pytest.raises(ValueError, match="it was changed since birdmix wrote it"):
        write_text(claimed / "table.csv", "new")
    assert contents(claimed) == {"table.csv": "a,b\n1,3\n"}


def test_a_copy_of_a_folder_is_birdmixs_whatever_its_times(claimed: Path, tmp_path_factory):
    copy = tmp_path_factory.mktemp("copy") / "out"
    shutil.copytree(claimed, copy, copy_function=shutil.copyfile)
    os.utime(copy / "table.csv", ns=(0, 0))
    write_text(copy / "table.csv", "new")
    assert contents(copy) == {"table.csv": "new"}


def test_a_file_that_comes_while_another_is_written_stays(claimed: Path):
    with (
        pytest.raises(ValueError, match="changed since"),
        atomic_path(claimed / "table.csv") as new,
    ):
        new.write_text("new")
        (claimed / "table.csv").write_text("a user's")
    assert contents(claimed) == {"table.csv": "a user's"}


def test_a_link_in_the_place_of_a_file_is_neither_followed_nor_replaced(claimed: Path):
    (claimed / "thesis.txt").write_text("a user's")
    (claimed / "table.csv").unlink()
    (claimed / "table.csv").symlink_to("thesis.txt")
    with pytest.raises(ValueError, match=r"it is a symbolic link to thesis\.txt"):
        write_text(claimed / "table.csv", "new")
    assert contents(claimed)["thesis.txt"] == "a user's"


def test_a_folder_in_the_place_of_a_file_is_refused_before_any_work(tmp_path: Path):
    (tmp_path / "table.csv").mkdir()
    with pytest.raises(ValueError, match="table.csv: it is no file"):
        OutputFiles(tmp_path, ("table.csv",)).check()


def test_a_file_that_changes_all_the_time_is_birdmixs_whatever_it_holds(tmp_path: Path):
    files_of = OutputFiles(tmp_path, changing=("log.csv",))
    files_of.claim()
    (tmp_path / "log.csv").write_text("1\n")
    (tmp_path / "log.csv").write_text("1\n2\n")
    files_of.check()
    assert why_foreign_file(tmp_path / "log.csv") is None


def test_a_log_of_somebody_else_is_refused(tmp_path: Path):
    (tmp_path / "log.csv").write_text("a user's")
    with pytest.raises(ValueError, match=r"log\.csv: birdmix did not write it"):
        OutputFiles(tmp_path, changing=("log.csv",)).claim()
    assert [each.name for each in tmp_path.iterdir()] == ["log.csv"]


def test_a_check_writes_nothing(tmp_path: Path):
    OutputFiles(tmp_path / "new", ("table.csv",)).check()
    assert not list(tmp_path.iterdir())


def test_names_that_are_no_utf8_are_listed(tmp_path: Path):
    name = os.fsdecode(b"\xff.csv")
    OutputFiles(tmp_path, (name,)).claim()
    for text in ("one", "two"):
        write_text(tmp_path / name, text)
    assert (tmp_path / name).read_text() == "two"


def test_a_list_that_was_torn_or_damaged_keeps_its_other_lines(claimed: Path):
    with (claimed / LIST).open("ab") as stream:
        stream.write(b'{"name": "x.csv", "size": \n[1]\n3\n{"name": "y", "size": "z"}\n\xff\n{"na')
    assert why_foreign_file(claimed / "table.csv") is None
    write_text(claimed / "table.csv", "new")
    write_text(claimed / "table.csv", "newer")
    assert contents(claimed) == {"table.csv": "newer"}


# ---------------------------------------------------------------- folders


def test_a_folder_of_birdmix_is_replaced_as_a_whole(tmp_path: Path):
    made(tmp_path / "raven", "old.txt", "a/b.txt")
    made(tmp_path / "raven", "new.txt")
    assert contents(tmp_path) == {"raven/new.txt": "new.txt"}


@pytest.mark.parametrize(
    ("deed", "why"),
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
def test_a_folder_with_anything_of_a_users_is_not_replaced(
    tmp_path: Path, deed: Callable[[Path], object], why: str
):
    folder = made(tmp_path / "raven", "a/x.txt")
    deed(folder)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=why):
        made(folder, "new.txt")
    assert contents(tmp_path) == before
    assert not remove_folder(folder) and contents(tmp_path) == before
    assert not [name for name in os.listdir(tmp_path) if is_partial(name)]


def test_what_systems_leave_in_folders_does_not_keep_them(tmp_path: Path):
    folder = made(tmp_path / "raven", "x.txt")
    for name in (".DS_Store", "._x.txt", "Thumbs.db", "desktop.ini"):
        (folder / name).touch()
    made(folder, "new.txt")
    assert contents(folder) == {"new.txt": "new.txt"}


def test_what_a_user_puts_there_meanwhile_is_kept(tmp_path: Path):
    folder = made(tmp_path / "raven", "x.txt")
    with pytest.raises(ValueError, match="holds b.wav"), atomic_directory(folder):
        (folder / "b.wav").write_text("mine")
    assert contents(tmp_path) == {"raven/x.txt": "x.txt", "raven/b.wav": "mine"}


def test_a_link_to_a_folder_stands_for_that_folder(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    made(tmp_path / "link", "old.txt")
    made(tmp_path / "link", "new.txt")
    assert (tmp_path / "link").is_symlink() and contents(tmp_path / "real") == {
        "new.txt": "new.txt"
    }
    (tmp_path / "real" / "b.wav").write_text("mine")
    with pytest.raises(ValueError, match=r"link: it holds b\.wav"):
        made(tmp_path / "link", "newer.txt")
    assert not remove_folder(tmp_path / "link")
    (tmp_path / "nowhere").symlink_to("absent")
    with pytest.raises(ValueError, match="a symbolic link to absent, which is no folder"):
        check_replaceable(tmp_path / "nowhere")


def test_a_folder_that_cannot_be_moved_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path / "raven")
    with pytest.raises(OSError, match="it is a mount point; name a folder in it"):
        check_replaceable(tmp_path / "raven")


def test_files_do_not_go_into_a_folder_that_is_replaced_as_a_whole(tmp_path: Path):
    folder = made(tmp_path / "kit", "x.txt", kind="kit")
    with pytest.raises(ValueError, match=r"kit: birdmix made this folder \(kit\) and replaces it"):
        OutputFiles(folder, ("table.csv",)).check()


def test_a_file_that_is_rewritten_in_a_folder_of_birdmix_stays_birdmixs(tmp_path: Path):
    folder = made(tmp_path / "bundle", "bundle.json")
    write_text(folder / "bundle.json", "thresholds")
    write_text(folder / "network.onnx", "export")
    assert why_foreign_folder(folder) is None
    assert remove_folder(folder) and not list(tmp_path.iterdir())


def test_a_folder_that_is_removed_while_it_is_made_ends_in_an_error(tmp_path: Path):
    with (
        pytest.raises(OSError, match="it was removed while birdmix wrote into it"),
        atomic_directory(tmp_path / "clips") as partial,
    ):
        shutil.rmtree(partial)
        write_text(partial / "robin" / "x.flac", "the parents come back")
    assert not list(tmp_path.iterdir())


def test_a_failed_writing_leaves_no_new_folder_and_keeps_those_of_a_user(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    for path in (tmp_path / "mine/new/newer/x", tmp_path / "mine/x"):
        for writing in (atomic_path, atomic_directory):
            with pytest.raises(RuntimeError), writing(path):
                raise RuntimeError
    with pytest.raises(RuntimeError), removed_if_empty([tmp_path / "absent"]):
        raise RuntimeError
    assert [each.name for each in tmp_path.rglob("*")] == ["mine"]


def test_clips_that_birdmix_cut_are_no_recordings_but_where_they_are_asked_for(tmp_path: Path):
    (tmp_path / "a.wav").touch()
    made(tmp_path / "check", "robin/x.flac", kind=CLIPS)
    with pytest.warns(UserWarning, match="check: left out, since birdmix cut these clips"):
        assert list(walk(tmp_path)) == ["a.wav"]
    assert list(walk(tmp_path / "check")) == ["robin/x.flac"]
    assert list(walk(tmp_path / "check/robin")) == ["x.flac"]


# ---------------------------------------------------------------- kills

CHILD = """
import os, sys
from birdmix.files import atomic_directory, write_text
from birdmix.ownership import OutputFiles
from birdmix.partials import remove_partials
from pathlib import Path
left = int(sys.argv[2])
def counted(function):
    def call(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), 9)
        done = function(*args, **kwargs)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), 9)
        return done
    return call
import birdmix.ownership
os.replace, os.mkdir = counted(os.replace), counted(os.mkdir)
birdmix.ownership._append = counted(birdmix.ownership._append)
out = Path(sys.argv[1]) / "out"
OutputFiles(out, ("table.csv",), ("log.csv",)).claim()
remove_partials(out)
with (out / "log.csv").open("a") as log:
    log.write("x")
write_text(out / "table.csv", sys.argv[3])
with atomic_directory(out / "raven", "raven") as partial:
    (partial / "x.txt").write_text(sys.argv[3])
print("done")
"""


def test_killed_between_any_two_steps_the_next_call_goes_on(tmp_path: Path):
    def child(last_step: int, text: str) -> subprocess.CompletedProcess:
        call = [sys.executable, "-c", CHILD, str(tmp_path), str(last_step), text]
        return subprocess.run(call, capture_output=True, text=True)

    assert child(0, "first").returncode == 0
    for step in range(1, 40):
        killed = child(step, f"killed {step}")
        if killed.stdout:
            break
        assert killed.returncode == -signal.SIGKILL
        if step % 3 == 0:  # else several are killed one after another
            again = child(0, f"again {step}")
            assert again.returncode == 0, again.stderr
            written = contents(tmp_path / "out")
            del written["log.csv"]
            assert set(written.values()) == {f"again {step}"}
    assert step > 10  # there are that many steps


def test_only_what_killed_processes_left_is_removed(tmp_path: Path):
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    name = partial_of(tmp_path / "table.csv").name
    of_dead = name.replace(f"-{os.getpid()}-", f"-{int(dead.stdout)}-")
    elsewhere = name.replace(partials._host(), "00000000")
    users = [".x.partial.csv", ".a.12-34.partial.wav", "x.partial", ".b.99.outgoing"]
    for each in (name, of_dead, elsewhere, *users):
        (tmp_path / each).touch()
    remove_partials(tmp_path)
    assert set(os.listdir(tmp_path)) == {name, elsewhere, *users}
    os.utime(tmp_path / elsewhere, (0, 0))
    remove_partials(tmp_path)
    assert set(os.listdir(tmp_path)) == {name, *users}
    remove_partials(tmp_path, of=tmp_path / "other.csv", is_only_writer=True)
    assert set(os.listdir(tmp_path)) == {name, *users}
    remove_partials(tmp_path, of=tmp_path / "table.csv", is_only_writer=True)
    assert set(os.listdir(tmp_path)) == set(users)


def test_a_link_that_is_named_like_a_partial_file_is_left_alone(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "mine").touch()
    link = partial_of(tmp_path / "x")
    link.symlink_to("real")
    remove_partials(tmp_path, is_only_writer=True)
    assert link.is_symlink() and (tmp_path / "real" / "mine").exists()


def test_names_of_partial_files_fit_any_file_system(tmp_path: Path):
    with atomic_path(tmp_path / f"{'ä' * 125}.csv") as partial:
        assert len(os.fsencode(partial.name)) <= 255 and is_partial(partial.name)
        partial.touch()


def test_two_processes_may_write_into_one_folder(claimed: Path):
    """Each appends to the list; nothing that the other appended is lost."""
    with atomic_path(claimed / "table.csv") as partial:
        OutputFiles(claimed, ("other.csv",)).claim()
        write_text(claimed / "other.csv", "other")
        partial.write_text("mine")
    listed = read_list(claimed)
    assert listed is not None and {*listed.versions} == {"table.csv", "other.csv"}
    for name in ("table.csv", "other.csv"):
        write_text(claimed / name, "again")
    assert why_foreign_file(claimed / "other.csv") is None
