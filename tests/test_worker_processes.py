"""Worker processes: results in order, errors of the function, and no process left over."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from birdmix.worker_processes import map_in_processes

#: A script without a ``__main__`` guard.
SCRIPT = """
from functools import partial
from birdmix.worker_processes import map_in_processes
for process in map_in_processes(eval, ["__import__('os').getpid()"], 1):
    print(process, flush=True)
    {rest}
"""


def run_script(folder: Path, rest: str) -> subprocess.Popen:
    file = folder / "script.py"
    file.write_text(SCRIPT.format(rest=rest))
    return subprocess.Popen([sys.executable, file], stdout=subprocess.PIPE, text=True)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_results_of_processes_are_in_the_order_of_the_items():
    delays = (0.2, 0.0, 0.1, 0.0)
    code = "(__import__('time').sleep({}), __import__('os').getpid())"
    results = list(map_in_processes(eval, [code.format(delay) for delay in delays], 2))
    assert len({process for _, process in results}) == 2
    assert os.getpid() not in {process for _, process in results}
    assert list(map_in_processes(partial(pow, 2), range(5), 2)) == [1, 2, 4, 8, 16]


def test_an_error_of_the_function_is_raised_here_and_the_processes_end():
    processes = map_in_processes(eval, ["__import__('os').getpid()", "int('x')"], 1)
    process = next(processes)
    with pytest.raises(ValueError, match="invalid literal for int"):
        next(processes)
    assert not is_running(process)


def test_a_process_that_is_killed_gives_an_error_with_its_status():
    with pytest.raises(ChildProcessError, match="ended with status 3$"):
        list(map_in_processes(os._exit, [3], 1))
    with pytest.raises(ChildProcessError, match="ended with status -9; .* for memory"):
        list(map_in_processes(eval, ["__import__('os').kill(__import__('os').getpid(), 9)"], 1))


def test_a_result_that_cannot_be_sent_is_an_error_that_says_so():
    with pytest.raises((RuntimeError, TypeError), match="pickle"):
        list(map_in_processes(eval, ["__import__('threading').Lock()"], 1))


def test_stopping_does_not_wait_for_the_items_in_work():
    started_at = time.monotonic()
    processes = map_in_processes(eval, ["1", "__import__('time').sleep(20)"], 2)
    assert next(processes) == 1
    processes.close()
    assert time.monotonic() - started_at < 15


def test_what_the_function_prints_is_no_result():
    assert list(map_in_processes(print, ["not a pickle"], 1)) == [None]


def test_a_script_needs_no_main_guard(tmp_path: Path):
    script = run_script(tmp_path, "pass")
    output, _ = script.communicate(timeout=60)
    assert script.returncode == 0
    assert len(output.split()) == 1  # the script ran once


def test_processes_end_if_the_one_that_started_them_is_killed(tmp_path: Path):
    script = run_script(tmp_path, "__import__('time').sleep(60)")
    assert script.stdout is not None
    process = int(script.stdout.readline())
    assert is_running(process)
    script.send_signal(signal.SIGKILL)
    script.communicate()
    deadline = time.monotonic() + 20
    while is_running(process) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(process)
