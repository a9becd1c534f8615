import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from edge.errors import UserError
from training import engine
from training.engine import progress, run_tasks


def square(number: int) -> tuple[int, int]:
    """Return the square and the process; later numbers are done sooner."""
    time.sleep(0.1 / (1 + number))
    if number == 13:
        raise ValueError("unlucky")
    if number == 14:
        raise UserError("cells.csv: no such file")
    return number**2, os.getpid()


def die(number: int) -> int:
    os._exit(number)


def ended(group: int, within_s: float) -> bool:
    """Return whether no process of the group is left in time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_tasks_run_in_processes_of_their_own_and_keep_their_order(capfd: pytest.CaptureFixture[str]) -> None:
    done: list[int] = []
    answers = run_tasks(square, [3, 1, 2, 3], workers=2, on_done=lambda task, answer: done.append(task))
    assert [answer for answer, _ in answers] == [9, 1, 4, 9]
    assert os.getpid() not in {process for _, process in answers}
    assert sorted(done) == [1, 2, 3, 3]
    told = capfd.readouterr()
    assert told.err.splitlines()[0] == "0 of 4 tasks done"
    assert told.err.splitlines()[-1] == "4 of 4 tasks done"
    assert told.out == ""


def test_no_tasks_need_no_processes() -> None:
    assert run_tasks(square, []) == []


@pytest.mark.parametrize(
    ("task", "message"),
    [(13, "fold 13 failed: ValueError: unlucky; the same command"), (14, "fold 14: cells.csv: no such file")],
)
def test_a_failed_task_is_named_and_what_was_done_is_kept(
    task: int, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    done: list[int] = []
    with pytest.raises(UserError, match=message):
        run_tasks(
            square,
            [1, task],
            workers=1,
            on_done=lambda task, answer: done.append(task),
            name=lambda number: f"fold {number}",
        )
    assert done == [1]
    assert "Traceback" not in capfd.readouterr().err


def test_no_workers_is_refused() -> None:
    with pytest.raises(UserError, match="--workers 0: at least one"):
        run_tasks(square, [3], workers=0)


def test_a_process_that_dies_is_told() -> None:
    with pytest.raises(UserError, match=r"task 3: its process died, .* fewer --workers"):
        run_tasks(die, [3], name=lambda number: f"task {number}")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense://x", "127.0.0.1:9", "tcp://"])
def test_a_cluster_that_does_not_answer_is_told_within_seconds(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.engine._CONNECT_S", 1.0)
    begin = time.monotonic()
    with pytest.raises(UserError, match=f"cluster {address}: .*dask scheduler"):
        run_tasks(square, [1], cluster=address)
    assert time.monotonic() - begin < 5


def test_a_cluster_that_answers_too_late_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(address: str, timeout: float) -> None:
        raise TimeoutError

    monkeypatch.setattr("distributed.Client", late)
    with pytest.raises(UserError, match="cluster tcp://there:8786: no answer within 10 s; start one with"):
        run_tasks(square, [1], cluster="tcp://there:8786")


def test_a_cluster_by_its_address_does_the_tasks() -> None:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=0,
        host="127.0.0.1",
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
    ) as cluster:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("training.engine._CONNECT_S", 0.5)
            with pytest.raises(UserError, match="no worker; start one with: dask worker"):
                run_tasks(square, [5], cluster=cluster.scheduler_address)
        cluster.scale(1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("training.engine._CONNECT_S", 60.0)  # a busy machine starts a worker slowly
            [(answer, process)] = run_tasks(square, [5], cluster=cluster.scheduler_address)
    assert answer == 25
    assert process != os.getpid()


def test_a_cluster_that_goes_away_is_told() -> None:
    class Lost:
        """A future whose scheduler is gone, as distributed leaves it."""

        def cancelled(self) -> bool:
            return True

        def exception(self) -> None:
            return None

    with pytest.raises(UserError, match="fold 1: the connection to the cluster was lost"):
        engine._raise_failure("fold 1", Lost())


def test_ctrl_c_is_not_lost_in_a_finalizer() -> None:
    class Finalized:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)  # the signal is handled here, where what is raised is lost

    with pytest.raises(KeyboardInterrupt):
        run_tasks(str, [1, 2, 3], workers=1, on_done=lambda task, result: Finalized() and None)


def test_ctrl_c_ends_all_processes_and_keeps_what_was_done(tmp_path: Path) -> None:
    script = tmp_path / "interrupted.py"
    script.write_text(
        textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from training.engine import run_tasks

        def work(name):
            Path(name).write_text("done")
            if "slow" in name:
                time.sleep(60)

        if __name__ == "__main__":
            try:
                run_tasks(work, sys.argv[1:], workers=2)
            except KeyboardInterrupt:
                print("stopped")
                sys.exit(130)
        """)
    )
    quick, slow = tmp_path / "quick", tmp_path / "slow"
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(script), str(quick), str(slow)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (quick.exists() and slow.exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output == "stopped\n"
    assert "Traceback" not in errors
    assert quick.read_text() == "done"
    assert ended(process.pid, within_s=5)


@pytest.mark.parametrize(
    ("done", "elapsed_s", "line"),
    [
        (0, 0.0, "0 of 5 tasks done"),
        (1, 61.0, "1 of 5 tasks done, about 4 min 04 s left"),
        (2, 3600.0, "2 of 5 tasks done, about 1 h 30 min left"),
        (5, 60.0, "5 of 5 tasks done"),
    ],
)
def test_progress_tells_how_long_it_may_take(done: int, elapsed_s: float, line: str) -> None:
    assert progress(done, 5, elapsed_s) == line
