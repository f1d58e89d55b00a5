"""Worker processes: a parallel map for functions that hold the interpreter's lock.

They are started as commands, not by ``multiprocessing``: its ``spawn`` and ``forkserver`` run the
caller's ``__main__`` again, its ``fork`` copies locks that other threads hold, and its daemons may
start no processes. So a script needs no ``__main__`` guard.
"""

import contextlib
import pickle
import queue
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from birdmix.messages import first_line

Item = TypeVar("Item")
Result = TypeVar("Result")

# What a worker runs. An interrupt is for the parent, which ends its workers.
_COMMAND = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); sys.path[:] = {path!r}; "
    "from birdmix.worker_processes import _serve; _serve()"
)


def map_in_processes(
    work: Callable[[Item], Result], items: Sequence[Item], num_processes: int
) -> Iterator[Result]:
    """Apply a function to items in processes; yield the results in order.

    The processes end when the iteration does, and by themselves after the item in work if this
    process is killed.

    Args:
        work: The function: pickled, so a function of a module of birdmix, or a ``partial`` of one.
            Its errors are raised here.
        items: The items, pickled.
        num_processes: Number of processes.

    Raises:
        OSError: If processes cannot be started, or one is killed.
    """
    idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    # Workers end first: else an interrupt would wait for the items in work.
    with ThreadPoolExecutor(num_processes) as threads, contextlib.ExitStack() as workers:
        for _ in range(num_processes):
            idle.put(workers.enter_context(_Worker(work)))

        def run(item: Item) -> Result:
            worker = idle.get()
            try:
                return worker.run(item)
            finally:
                idle.put(worker)

        yield from threads.map(run, items)


class _Worker:
    """A process that applies a function to one item after the other.

    Args:
        work: The function.
    """

    def __init__(self, work: Callable[[Any], Any]) -> None:
        command = [sys.executable, "-c", _COMMAND.format(path=sys.path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._work: Callable[[Any], Any] | None = work

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, item: Any) -> Any:
        """Return the result of an item, or raise its error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            pickle.dump((self._work, item), self._process.stdin)
            self._process.stdin.flush()
            result, error = pickle.load(self._process.stdout)
        except (OSError, EOFError) as lost:
            status = self._process.wait()
            hint = "; it may have been killed for memory" if status < 0 else ""
            raise ChildProcessError(f"a worker process ended with status {status}{hint}") from lost
        if error is not None:
            raise error
        return result


def _serve() -> None:
    """Answer each function and item on the standard input, until the parent ends or closes it."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what the function prints is no answer
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            work, item = pickle.load(requests)
            try:
                answer = pickle.dumps((work(item), None))
            except Exception as error:
                answer = _pickle_error(error)
            answers.write(answer)
            answers.flush()


def _pickle_error(error: Exception) -> bytes:
    """Return the answer that raises an error: the error or, if it cannot be sent, its text."""
    try:
        answer = pickle.dumps((None, error))
        pickle.loads(answer)
    except Exception:
        return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {first_line(error)}")))
    return answer
