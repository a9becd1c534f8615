"""Many independent tasks on all cores of this machine, or on a Dask cluster by its address.

A cluster is what `dask scheduler` and `dask worker` started. Its workers need this package, and the
data and the output folder under the same paths; it is trusted, since whoever reaches a scheduler's
port runs code on its workers.
"""

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from edge.errors import UserError

if TYPE_CHECKING:
    from distributed import Client, Future

T = TypeVar("T")
R = TypeVar("R")

_POLL_S = 0.1
"""Between two looks at what has ended."""
_CONNECT_S = 10.0
"""How long a cluster may take to answer, and then to show a worker."""


def run_tasks(
    function: Callable[[T], R],
    tasks: Sequence[T],
    *,
    cluster: str | None = None,
    workers: int | None = None,
    on_done: Callable[[T, R], None] | None = None,
    name: Callable[[T], str] = str,
) -> list[R]:
    """Return `function` of every task, in their order; shows progress on stderr.

    Ctrl-C or a failed task ends the others: what a finished task wrote stays. On a cluster, a task that
    already runs there runs to its end.

    Args:
        function: importable by the workers, as everything that a task holds.
        tasks: sent to the workers one by one.
        cluster: address of a Dask scheduler (tcp://host:8786); None starts processes here.
        workers: processes here, half the cores if None; a cluster has its own number.
        on_done: called here with each task and its result as it ends, in the order of ending.
        name: what an error calls a task.

    Raises:
        UserError: the cluster does not answer, or a task failed.
    """
    if not tasks:
        return []
    with _connect(cluster, workers, len(tasks)) as client:
        futures = [client.submit(function, task, pure=False) for task in tasks]
        try:
            for number in _ended(futures):
                _raise_failure(name(tasks[number]), futures[number])
                if on_done is not None:
                    on_done(tasks[number], futures[number].result())
            return [future.result() for future in futures]
        finally:
            client.cancel([future for future in futures if not future.done()])


def _ended(futures: Sequence["Future[Any]"]) -> Iterator[int]:
    """Yield the index of each task that has ended, well or not, and tell how long the others may take."""
    from distributed import as_completed

    index = {future.key: number for number, future in enumerate(futures)}
    begin, done = time.monotonic(), 0
    _tell(progress(0, len(futures), 0.0))
    completed = as_completed(futures)
    with _interruptible() as check:
        while done < len(futures):
            check()
            for future in completed.next_batch(block=False):
                yield index[future.key]
                check()
                done += 1
                _tell(progress(done, len(futures), time.monotonic() - begin), last=done == len(futures))
            time.sleep(_POLL_S)


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Yield a check that raises KeyboardInterrupt once Ctrl-C was pressed; a second one acts at once.

    Python raises it wherever the main thread is: in a finalizer of a library it would be lost, and the tasks
    run on.
    """
    pressed = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        pressed.set()
        signal.signal(number, before)

    def check() -> None:
        if pressed.is_set():
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # where no signal arrives
        yield check
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


def progress(done: int, total: int, elapsed_s: float) -> str:
    """Return one line of progress, with the remaining time once a task is done."""
    line = f"{done} of {total} tasks done"
    if not 0 < done < total:
        return line
    left = round(elapsed_s / done * (total - done))
    hours, minutes, seconds = left // 3600, left // 60 % 60, left % 60
    clock = f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"
    return f"{line}, about {clock} left"


def _tell(line: str, *, last: bool = False) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="\n" if last else "", file=sys.stderr, flush=True)
    else:
        print(line, file=sys.stderr, flush=True)


def _raise_failure(task: str, future: "Future[Any]") -> None:
    """Raise the UserError that tells why a task has no result; return where it has one."""
    from distributed import KilledWorker

    again = "the same command goes on with what is not done"
    if future.cancelled():
        raise UserError(f"{task}: the connection to the cluster was lost; {again}")
    failure = future.exception()
    if isinstance(failure, UserError):
        raise UserError(f"{task}: {failure}") from failure
    if isinstance(failure, KilledWorker):
        raise UserError(f"{task}: its process died, most likely for want of memory; use fewer --workers")
    if failure is not None:
        raise UserError(f"{task} failed: {type(failure).__name__}: {failure}; {again}") from failure


@contextmanager
def _connect(cluster: str | None, workers: int | None, tasks: int) -> Iterator["Client"]:
    """Open a client of the cluster, or of processes here that end with it."""
    try:
        from distributed import Client
    except ImportError:
        raise UserError("dask.distributed is missing; pip install 'wbc-differential[training]'") from None
    if cluster is None:
        with _processes(workers, tasks) as local, Client(local) as client:
            client.run(_be_quiet)
            yield client
        return
    # A lost scheduler is told in one line, by us.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    _tell(f"connecting to {cluster}, for at most {_CONNECT_S:g} s", last=True)
    try:
        client = Client(cluster, timeout=_CONNECT_S)
    except (OSError, ValueError, TypeError, AssertionError) as error:  # distributed's words for a bad address
        reason = str(error) or f"no answer within {_CONNECT_S:g} s"  # a TimeoutError has no words
        raise UserError(f"cluster {cluster}: {reason}; start one with: dask scheduler") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=_CONNECT_S)
        except TimeoutError:
            raise UserError(f"cluster {cluster}: it has no worker; start one with: dask worker") from None
        yield client


def _processes(workers: int | None, tasks: int) -> Any:
    """Start worker processes of one task at a time; nothing listens beyond this machine.

    They share memory and cores evenly: one that takes more than its part of memory is ended.
    """
    from dask.system import CPU_COUNT
    from distributed import LocalCluster

    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: at least one is needed")
    count = min(tasks, workers or max(1, CPU_COUNT // 2))
    threads = str(max(1, CPU_COUNT // count))
    return LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,
        # The scheduler's status port cannot be switched off, but it need not be the well-known one.
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0", "allowed_failures": 0},
        silence_logs=logging.ERROR,
        env={"OMP_NUM_THREADS": threads, "TF_NUM_INTRAOP_THREADS": threads},
    )


# A coroutine runs in a worker's main thread, where alone signals can be set.
async def _be_quiet() -> None:
    """Leave Ctrl-C, which reaches every process of the terminal, and failures to who started the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("distributed.worker").setLevel(logging.CRITICAL)
