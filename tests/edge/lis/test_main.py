"""The command line, as IT runs it: processes of their own."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from edge.lis.content import Order
from edge.lis.link import Outcome
from edge.lis.outbox import Outbox, State
from edge.lis.trace import monitor_path
from tests.edge.lis.reports import release

ROOT = Path(__file__).parents[3]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edge.lis", *map(str, arguments)]


def run(*arguments: object, said: str = "") -> subprocess.CompletedProcess[str]:
    """Run the program; `said` is its standard input."""
    return subprocess.run(
        command(*arguments), cwd=ROOT, input=said, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def database(tmp_path: Path) -> Path:
    release(tmp_path / "c.sqlite", "S-SECRET", "S-2")
    return tmp_path / "c.sqlite"


def test_status_tells_what_waits_and_no_identifier(database: Path) -> None:
    done = run("status", "--database", database)
    assert done.returncode == 4
    assert "     1 (specimen hidden) version 1 final: waiting" in done.stdout
    assert "2 waiting since" in done.stdout
    assert "no program sends now" in done.stdout
    assert "SECRET" not in done.stdout


def test_status_tells_times_by_the_local_clock_and_names_its_zone(database: Path) -> None:
    with Outbox(database) as box:
        changed = datetime.fromisoformat(box.entry(1).changed)
    done = subprocess.run(
        command("status", "--database", database),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "TZ": "EST5"},
    )
    local = changed - timedelta(hours=5)
    assert f"waiting {local:%Y-%m-%d %H:%M:%S} EST" in done.stdout


def test_status_of_one_message_tells_every_attempt(database: Path) -> None:
    with Outbox(database) as box:
        box.attempted(1, "no answer", state=State.WAITING, wire="> <ENQ>\n")
    done = run("status", 1, "--database", database)
    assert "no answer" in done.stdout
    assert "> <ENQ>" in done.stdout


def test_what_others_said_is_for_a_terminal_alone(database: Path) -> None:
    said = f"{Outcome.REFUSED.value} (AE Patient MUELLER \x1b[31m)"
    with Outbox(database) as box:
        box.attempted(1, said, state=State.REFUSED)
    done = run("status", "--database", database)
    assert f"; {Outcome.REFUSED.value}\n" in done.stdout
    assert "MUELLER" not in run("status", 1, "--database", database).stdout
    with Outbox(database) as box:
        box.attempted(2, Outcome.RECEIVED.value, state=State.RECEIVED)
        box.resend(2)
        box.cancel(2, "wrong slide")
    assert "; received by the LIS before, not sent again\n" in run("status", "--database", database).stdout


def test_cancel_and_resend(database: Path) -> None:
    assert run("cancel", 1, "--reason", "wrong slide", "--database", database).returncode == 0
    with Outbox(database) as box:
        assert box.entry(1).reason == "cancelled: wrong slide"
    assert run("resend", 1, "--database", database).returncode == 0
    with Outbox(database) as box:
        assert box.entry(1).state is State.WAITING


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resend", 9], "message 9 is not in the outbox"),
        (["cancel", 1, "--reason", " "], "needs a reason"),
        (["send"], "no way to the LIS"),
        (["query"], "error: no way to the LIS"),
        (["test"], "no way to the LIS"),
        (["send", "--serial", "x", "--lis-listen", "y:1"], "one way to the LIS expected"),
        (["status", "--config", "nowhere.toml"], "nowhere.toml"),
        (["send", "--serial", "/dev/x", "--lis-mapping", "nowhere"], "--lis-mapping is a file"),
        (["send", "--lis-listen", "5000"], "lis_listen"),
        (["send", "--serial", "socket://["], "socket://HOST:PORT expected"),
        (["send", "--serial", "/dev/x", "--serial-baud", 10**20], "serial_baud"),
        (["resend", 10**30], "is not in the outbox"),
        (["query", "--serial", "socket://h:1", "--lis-protocol", "oru"], "lis_protocol = astm"),
        (["query", "--serial", "socket://h:1"], "specimen identifier must be 1 to 64"),
    ],
)
def test_an_error_is_one_clear_line(database: Path, arguments: list[object], message: str) -> None:
    done = run(*arguments, "--database", database)
    assert done.returncode == 1
    assert done.stderr.startswith("error:")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_specimen_in_another_character_set_is_told(database: Path) -> None:
    done = subprocess.run(
        command("query", "--serial", "socket://h:1", "--database", database),
        cwd=ROOT,
        input=b"S\xe9-1\n",
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert (done.returncode, b"another character set" in done.stderr) == (1, True)
    assert b"Traceback" not in done.stderr


def test_a_status_of_endless_many_messages_lists_all(database: Path) -> None:
    assert "S-" not in (done := run("status", "--limit", 10**30, "--database", database)).stderr
    assert "2 waiting" in done.stdout


def test_send_tells_what_the_lis_refused(database: Path, tmp_path: Path) -> None:
    with Outbox(database) as box:
        box.attempted(1, Outcome.REFUSED.value, state=State.REFUSED)
    done = run("send", "--lis-folder", tmp_path, "--database", database)
    assert (done.returncode, "nothing waits; refused: 1" in done.stdout) == (4, True)


def test_a_second_monitor_takes_nothing_from_the_first(database: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as first:
        first.bind(str(monitor_path(database)))
        done = run("monitor", "--database", database)
        assert (done.returncode, "another monitor" in done.stderr) == (1, True)
        assert monitor_path(database).exists()


def test_a_monitor_that_cannot_listen_is_told(database: Path) -> None:
    monitor_path(database).mkdir()
    done = run("monitor", "--database", database)
    assert (done.returncode, "directory" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["resend", 1],
        ["cancel", 1, "--reason", "x"],
        ["query", "--serial", "socket://127.0.0.1:9"],
    ],
)
def test_a_mistyped_database_is_not_made(tmp_path: Path, arguments: list[object]) -> None:
    done = run(*arguments, "--database", tmp_path / "none.sqlite")
    assert (done.returncode, "no such file" in done.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_the_counters_own_settings_file_is_read(database: Path, tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(f'demo = true\ndatabase = "{database}"\nlis_folder = "{tmp_path / "out"}"\n')
    (tmp_path / "out").mkdir()
    done = run("send", "--config", file)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 2


class Simulator:
    """`simulate` in a process of its own."""

    def __init__(self, tmp_path: Path, *arguments: object) -> None:
        self.store, self.out = tmp_path / "store.jsonl", (tmp_path / "out.txt").open("w+")
        self.process = subprocess.Popen(
            command("simulate", "--store", self.store, *arguments), cwd=ROOT, stdout=self.out
        )
        end_s = time.monotonic() + 30
        while "connect to" not in (text := (tmp_path / "out.txt").read_text()):
            assert time.monotonic() < end_s
            time.sleep(0.05)
        self.line = text.split("connect to ")[1].split()[0]

    def messages(self) -> list[list[str]]:
        return [json.loads(line)["records"] for line in self.store.read_text().splitlines()]

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(10) == 0
        self.out.close()


def test_simulate_test_send_query_and_monitor(database: Path, tmp_path: Path) -> None:
    simulator = Simulator(tmp_path)
    way = ("--serial", simulator.line, "--database", database)
    tested = run("test", *way)
    assert tested.returncode == 0, tested.stdout
    assert "the connection works" in tested.stdout
    with subprocess.Popen(
        command("monitor", "--database", database), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as monitor:
        assert monitor.stdout is not None
        monitor.stdout.readline()
        sent = run("send", *way)
        assert sent.returncode == 0, sent.stderr
        asked = run("query", *way, said="S-77\n")
        assert asked.stdout.endswith("ordered: DIFF\n")
        time.sleep(0.5)
        monitor.send_signal(signal.SIGINT)
        shown = monitor.communicate(timeout=10)[0]
    simulator.end()
    messages = simulator.messages()
    assert [m[0].split("|")[11] for m in messages] == ["D", "P", "P", "P"]
    assert [m[2].split("|")[2] for m in messages[1:3]] == ["S-SECRET", "S-2"]
    assert "> <ENQ>" in shown
    assert "< <ACK>" in shown
    assert "26511-6" in shown
    assert "SECRET" not in shown + sent.stdout + asked.stdout
    assert run("status", "--database", database).returncode == 0


def test_a_simulator_that_cannot_listen_says_so_and_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("simulate", "--lis-listen", place)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"error: {place} cannot be listened on" in done.stderr


@pytest.mark.parametrize("protocol", ["astm", "oru", "oul"])
def test_simulate_over_tcp(database: Path, tmp_path: Path, protocol: str) -> None:
    from tests.edge.lis.test_peers import free_port

    port = free_port()
    simulator = Simulator(tmp_path, "--lis-listen", f"127.0.0.1:{port}", "--lis-protocol", protocol)
    way = ("--serial", f"socket://127.0.0.1:{port}", "--lis-protocol", protocol, "--database", database)
    assert run("send", *way).returncode == 0
    simulator.end()
    assert len(simulator.messages()) == 2


def test_ctrl_c_ends_send_without_a_traceback(database: Path) -> None:
    with subprocess.Popen(
        command("send", "--serial", "/dev/none", "--database", database),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert "no device /dev/none" in program.stdout.readline()
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=15)
    assert program.returncode == 130
    assert errors == ""


def test_ctrl_c_ends_test_while_nothing_answers() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command("test", "--serial", os.ttyname(theirs)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert any("ENQ is sent" in line for line in program.stdout)
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=15)
    os.close(ours)
    os.close(theirs)
    assert (program.returncode, errors) == (130, "stopped\n")


def test_nothing_heavy_is_imported() -> None:
    program = "import sys, edge.lis.__main__; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded & {"hl7apy", "starlette", "tensorflow", "ai_edge_litert", "cv2"} == set()


def test_a_query_that_only_an_old_order_answers_is_given_up_and_does_not_go_out_later(database: Path) -> None:
    with Outbox(database) as box:
        box.keep_orders([Order("S-9", ("WBC",))], patient=False)
    ask = command("query", "--serial", "/dev/none", "--database", database)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(ask, cwd=ROOT, text=True, **pipes) as asking:
        assert asking.stdin is not None
        assert asking.stdout is not None
        asking.stdin.write("S-9\n")
        asking.stdin.flush()
        assert any("no device /dev/none" in line for line in asking.stdout)
        asking.send_signal(signal.SIGINT)
        said = asking.communicate(timeout=15)[0]
    assert asking.returncode == 130
    assert "no order came; the query: no device /dev/none" in said
    with Outbox(database) as box:
        assert box.entry(3).state is State.CANCELLED


def test_status_tells_when_the_line_failed(database: Path) -> None:
    with Outbox(database) as box:
        box.set_line("no device /dev/none")
        failed = datetime.fromisoformat(box.line().changed).astimezone()
    done = run("status", "--database", database)
    assert f"line, {failed:%Y-%m-%d %H:%M:%S %Z}: no device /dev/none" in done.stdout
