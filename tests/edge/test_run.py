"""The program as a person runs it: a process of its own, real files, a real model."""

import csv
import http.client
import json
import os
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

from edge.demo import DemoSource
from edge.lis.outbox import Outbox
from tests.edge.lis.receiver import Lis, Receiver

ROOT = Path(__file__).parents[2]
CONTROLLED = (
    "import fcntl, os, signal, sys, termios; signal.signal(signal.SIGHUP, signal.SIG_DFL); "
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
"""Makes its standard input its terminal, which may be closed, and becomes the program named after it."""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edge.run", *map(str, arguments)]


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run headless in `folder`'s database, result in `folder`/out.json."""
    fixed = ("--headless", "--json", folder / "out.json", "--database", folder / "counts.sqlite")
    return subprocess.run(
        command(*arguments, *fixed), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def result(folder: Path) -> dict:
    return json.loads((folder / "out.json").read_text())


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 150 frames of the demo as a video file."""
    path = tmp_path_factory.mktemp("film") / "demo.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 15, (640, 480))
    source = DemoSource(pace=False)
    for frame, _ in zip(source.frames(), range(150), strict=False):
        writer.write(cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


@pytest.fixture
def crops(shared_data: Path, tmp_path: Path) -> Path:
    """Four real images of each of the study's classes, named by class."""
    folder = tmp_path / "crops"
    folder.mkdir()
    with (shared_data / "cells.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["split"] == "validation"]
    for name in ("basophil", "eosinophil", "lymphocyte", "monocyte", "neutrophil"):
        for number, row in enumerate([r for r in rows if r["class"] == name][:4]):
            shutil.copy(shared_data / "cells" / row["file"], folder / f"{name}-{number}.jpg")
    return folder


def test_real_images_are_counted(crops: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--images", crops, "--specimen", "S-1")
    assert done.returncode == 0, done.stderr
    found = result(tmp_path)
    assert set(found) >= {
        "specimen",
        "model",
        "frames",
        "fields",
        "counts",
        "total",
        "per_100",
        "differential",
    }
    assert (found["specimen"], found["frames"], found["fields"], found["complete"]) == ("S-1", 20, 20, True)
    middle = {}
    for cell in found["cells"]:
        x, y, width, height = cell["box"]
        image = cv2.imread(str(crops / cell["source"]))
        if abs(x + width / 2 - image.shape[1] / 2) < 60 and abs(y + height / 2 - image.shape[0] / 2) < 60:
            middle[cell["source"]] = cell["class"]
    assert len(middle) == 20
    assert sum(source.startswith(name) for source, name in middle.items()) >= 18
    assert sum(c["count"] for c in found["differential"].values()) == found["total"]
    assert "Research Use Only" in done.stdout
    again = run(tmp_path, "--images", crops, "--specimen", "S-1")
    assert again.returncode == 0
    assert "nothing new: this specimen's images were read before" in again.stdout
    assert result(tmp_path) == found
    (crops / "letter.png").write_text("Dear colleague")
    assert "nothing new" not in run(tmp_path, "--images", crops, "--specimen", "S-1").stdout


def test_bad_images_are_skipped_counted_and_shown(crops: Path, tmp_path: Path) -> None:
    whole = (crops / "basophil-0.jpg").read_bytes()
    (crops / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (crops / "empty.png").write_bytes(b"")
    (crops / "letter.png").write_text("Dear colleague")
    cv2.imwrite(str(crops / "pixel.png"), np.zeros((1, 1, 3), np.uint8))
    done = run(tmp_path, "--images", crops)
    assert done.returncode == 3
    told = "empty: no data; not a PNG, JPEG, TIFF, BMP or WebP image; 1 x 1 pixels: too small to show a cell"
    assert done.stderr == f"skipped frames: 4 ({told}; and others); see 'skipped' in the result\n"
    skipped = {s["source"]: s["reason"] for s in result(tmp_path)["skipped"]}
    assert set(skipped) == {"truncated.jpg", "empty.png", "letter.png", "pixel.png"}
    assert all(skipped.values())
    assert result(tmp_path)["frames"] == 20


def test_a_film_is_counted_and_counting_it_again_adds_nothing(film: Path, tmp_path: Path) -> None:
    assert run(tmp_path, "--video", film, "--specimen", "S").returncode == 0
    first = result(tmp_path)
    assert first["counts"]
    assert len(first["cells"]) >= 4
    assert run(tmp_path, "--video", film, "--specimen", "S").returncode == 0
    assert result(tmp_path)["cells"] == first["cells"]


def test_a_film_has_a_map(film: Path, tmp_path: Path) -> None:
    assert run(tmp_path, "--video", film, "--map", tmp_path / "map.png", "--um-per-px", 0.144).returncode == 0
    found = result(tmp_path)
    assert found["gated"] == {}
    assert found["map"]["fields"] == found["fields"]
    assert found["map"]["mm2"] > 640 * 480 * 0.144e-3**2
    picture = cv2.imread(str(tmp_path / "map.png"))
    assert picture is not None
    assert picture.shape[1] > picture.shape[0]


def test_the_demo_is_counted_as_it_was_drawn(film: Path, tmp_path: Path) -> None:
    assert run(tmp_path, "--video", film).returncode == 0
    drawn = DemoSource(pace=False)
    met = []
    for cell in result(tmp_path)["cells"]:
        x, y, width, height = cell["box"]
        left, top = drawn.path[cell["source"]]
        place = np.array([left + x + width / 2, top + y + height / 2])
        nearest = min(drawn.truth, key=lambda c: float(np.hypot(*(place - (c.x, c.y)))))
        assert np.hypot(*(place - (nearest.x, nearest.y))) < nearest.diameter_px / 2
        assert cell["class"] == nearest.name
        met.append(nearest)
    assert len(set(met)) == len(met) >= 4


def test_the_target_stops_the_count(film: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "--video", film, "--target", 2)
    assert done.returncode == 0, done.stderr
    assert result(tmp_path)["total"] == 2
    assert result(tmp_path)["frames"] < 150


def test_a_film_that_breaks_off_is_an_error_and_keeps_its_count(film: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.avi"
    content = film.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    done = run(tmp_path, "--video", broken)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, "nor do OpenCV and FFmpeg tell it in their way"
    assert done.stderr.startswith("error:")
    assert not result(tmp_path)["complete"]
    assert result(tmp_path)["frames"] > 20


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_keeps_the_count_and_the_specimen_goes_on(
    film: Path, tmp_path: Path, number: signal.Signals
) -> None:
    arguments = ("--video", film, "--specimen", "S", "--headless", "--database", tmp_path / "counts.sqlite")
    # Where the tests were started with nohup, the instrument would ignore SIGHUP as they do.
    ours = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with subprocess.Popen(
        command(*arguments, "--json", tmp_path / "out.json"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        signal.signal(signal.SIGHUP, ours)
        cells = 0
        deadline = time.monotonic() + 30
        while cells == 0 and time.monotonic() < deadline:
            cells = stored_cells(tmp_path / "counts.sqlite")
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert errors == b"stopped before the end; the same --specimen goes on\n", "its name is in no log"
    stopped = result(tmp_path)
    assert not stopped["complete"]
    assert len(stopped["cells"]) >= cells > 0
    assert run(tmp_path, "--video", film, "--specimen", "S").returncode == 0
    assert result(tmp_path)["cells"][: len(stopped["cells"])] == stopped["cells"]


def test_a_name_that_was_made_up_is_told(film: Path, tmp_path: Path) -> None:
    arguments = ("--video", film, "--headless", "--database", tmp_path / "counts.sqlite")
    with subprocess.Popen(
        command(*arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while not stored_cells(tmp_path / "counts.sqlite") and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        lines, errors = process.communicate(timeout=20)
    with sqlite3.connect(tmp_path / "counts.sqlite") as db:
        (specimen,) = db.execute("SELECT name FROM specimen").fetchone()
    assert lines.startswith(f"specimen {specimen}, by date and time; --specimen names it\n")
    assert errors == f"stopped before the end; --specimen '{specimen}' goes on\n"


def test_the_terminal_says_that_the_page_stays_when_the_input_has_ended(film: Path, tmp_path: Path) -> None:
    arguments = ("--video", film, "--target", 1, "--port", 0, "--database", tmp_path / "c.sqlite")
    with subprocess.Popen(
        command(*arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        watch = threading.Timer(60, process.kill)
        watch.start()
        assert any(line == "the page stays open; Ctrl-C ends\n" for line in process.stdout)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        watch.cancel()


def stored_cells(path: Path) -> int:
    try:
        with sqlite3.connect(path) as db:
            return int(db.execute("SELECT count(*) FROM cell").fetchone()[0])
    except sqlite3.Error:
        return 0


def test_a_killed_count_goes_on_without_a_double(film: Path, tmp_path: Path) -> None:
    arguments = ("--video", film, "--specimen", "S", "--headless", "--database", tmp_path / "counts.sqlite")
    with subprocess.Popen(command(*arguments), cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 30
        while stored_cells(tmp_path / "counts.sqlite") == 0 and time.monotonic() < deadline:
            pass
        process.send_signal(signal.SIGKILL)
    assert run(tmp_path, "--video", film, "--specimen", "S").returncode == 0
    resumed = {c["number"]: c["slide"] for c in result(tmp_path)["cells"]}
    assert run(tmp_path, "--video", film, "--specimen", "whole").returncode == 0
    whole = result(tmp_path)["cells"]
    assert sorted(resumed) == list(range(1, len(whole) + 1))


def test_images_do_not_go_on_where_a_film_stopped(film: Path, crops: Path, tmp_path: Path) -> None:
    assert run(tmp_path, "--video", film, "--specimen", "S", "--target", 1).returncode == 0
    done = run(tmp_path, "--images", crops, "--specimen", "S")
    assert done.returncode == 1
    assert "begin another specimen" in done.stderr


def test_frames_of_another_size_add_nothing_to_a_specimen(film: Path, tmp_path: Path) -> None:
    assert run(tmp_path, "--video", film, "--specimen", "S").returncode == 0
    first = result(tmp_path)
    small = tmp_path / "small.avi"
    writer = cv2.VideoWriter(str(small), cv2.VideoWriter.fourcc(*"MJPG"), 15, (480, 360))
    capture = cv2.VideoCapture(str(film))
    while (read := capture.read())[0]:
        writer.write(cv2.resize(read[1], (480, 360)))
    writer.release()
    assert run(tmp_path, "--video", small, "--specimen", "S").returncode == 0
    assert result(tmp_path)["cells"] == first["cells"]
    assert result(tmp_path)["lost_frames"] == 150


@pytest.mark.parametrize("wait_s", [0.05, 0.3])
def test_a_signal_while_it_starts_leaves_no_traceback(tmp_path: Path, wait_s: float) -> None:
    arguments = ("--demo", "--headless", "--database", tmp_path / "counts.sqlite")
    with subprocess.Popen(
        command(*arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        time.sleep(wait_s)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)
    assert b"Traceback" not in errors


@pytest.fixture
def lis(tmp_path: Path) -> Iterator[Lis]:
    """A standard-keeping receiver on a serial line."""
    made = Lis(tmp_path / "line", Receiver())
    made.plug()
    yield made
    made.pull()


@pytest.mark.parametrize(
    ("arguments", "told"), [(["--imges", "x"], "--imges"), (["--target", "many"], "--target")]
)
def test_a_mistyped_option_is_told_in_one_line(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = run(tmp_path, "--demo", *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert told in line


def test_what_is_set_in_vain_is_told(film: Path, tmp_path: Path) -> None:
    vain = ["--wbc", 7.2, "--width", 640, "--serial-baud", 19200, "--lis-trace"]
    done = run(tmp_path, "--video", film, "--target", 1, *vain)
    assert done.returncode == 0
    assert done.stderr.splitlines()[:4] == [
        "note: serial_baud: of use with a serial line alone",
        "note: lis_trace: of use with a way to the LIS alone",
        "note: wbc: of use with a headless count into the LIS alone",
        "note: width: of use with a camera alone",
    ]


def test_where_nobody_can_read_a_word_the_result_is_sent_all_the_same(film: Path, tmp_path: Path) -> None:
    way, database = tmp_path / "lis", tmp_path / "counts.sqlite"
    way.mkdir()
    arguments = ("--video", film, "--width", 640, "--target", 2, "--headless", "--lis-folder", way)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command(*arguments, "--database", database),
            cwd=ROOT,
            stdout=full,
            stderr=full,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0
    assert len(list(way.iterdir())) == 1


def test_a_terminal_that_is_closed_ends_the_count_as_a_signal_does(tmp_path: Path) -> None:
    database = tmp_path / "counts.sqlite"
    arguments = ("--demo", "--headless", "--database", database, "--json", tmp_path / "out.json")
    near, far = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", CONTROLLED, *command(*arguments)],
        cwd=ROOT,
        stdin=far,
        stdout=far,
        stderr=far,
        start_new_session=True,
    ) as process:
        os.close(far)
        deadline = time.monotonic() + 30
        while stored_cells(database) == 0 and time.monotonic() < deadline:
            select.select([near], [], [], 0.1)
            os.read(near, 65536)
        os.close(near)
        assert process.wait(20) == 128 + signal.SIGHUP
    assert not result(tmp_path)["complete"]


def test_a_headless_count_ends_by_sending(film: Path, tmp_path: Path, lis: Lis) -> None:
    done = run(
        tmp_path,
        "--video",
        film,
        "--serial",
        tmp_path / "line",
        "--specimen",
        "S-SECRET",
        "--operator",
        "Dr A",
        "--target",
        2,
    )
    assert done.returncode == 0, done.stderr
    (message,) = lis.receiver.messages
    assert lis.receiver.specimens == ["S-SECRET"]
    found = result(tmp_path)
    rows = [r.split(b"|") for r in message if r.startswith(b"R|")]
    sent = {r[2].split(b"^")[3].decode(): r[3].decode() for r in rows}
    assert sent["CELLS"] == str(found["total"])
    assert sent["NEUT%"] == f"{found['differential']['neutrophil']['percent']:.1f}"
    assert {r[8] for r in rows} == {b"P" if found["review"] else b"F"}
    assert {r[10] for r in rows} == {b"Dr A"}
    assert "message 1: received by the LIS" in done.stdout
    assert "note:" not in done.stderr
    assert "SECRET" not in done.stdout + done.stderr


@pytest.mark.parametrize("target", [(), ("--target", 500)])
def test_a_count_of_too_few_cells_is_not_final(
    film: Path, tmp_path: Path, lis: Lis, target: tuple[object, ...]
) -> None:
    sure = ("--review-below", 0)
    done = run(tmp_path, "--video", film, "--serial", tmp_path / "line", *sure, *target)
    assert done.returncode == 0, done.stderr
    (message,) = lis.receiver.messages
    assert {r.split(b"|")[8] for r in message if r.startswith(b"R|")} == {b"P"}
    needed = target[1] if target else 100
    assert f"preliminary (fewer than the {needed} cells of a final result); waiting" in done.stdout
    said = f"Few cells were counted: {result(tmp_path)['total']}"
    assert any(said.encode() in r for r in message)


def test_counted_again_nothing_is_sent_again(film: Path, tmp_path: Path, lis: Lis) -> None:
    for _ in range(2):
        done = run(tmp_path, "--video", film, "--serial", tmp_path / "line", "--specimen", "S", "--target", 2)
        assert done.returncode == 0, done.stderr
    assert "message 1 was released before, unchanged, and has arrived" in done.stdout
    assert len(lis.receiver.messages) == 1
    assert lis.receiver.repeats == 0


def test_what_cannot_be_sent_waits_and_is_told(film: Path, tmp_path: Path) -> None:
    arguments = ("--video", film, "--target", 1, "--serial", "/dev/ttyNone", "--lis-wait-s", 1)
    done = run(tmp_path, *arguments)
    assert done.returncode == 4
    assert "no device /dev/ttyNone" in done.stdout
    assert "the result is kept in the outbox (message 1, waiting: no device /dev/ttyNone" in done.stderr
    with Outbox(tmp_path / "counts.sqlite") as box:
        assert box.line().waiting == 1


def test_the_words_of_a_lis_that_refuses_are_in_no_log(film: Path, tmp_path: Path) -> None:
    def refuse() -> None:
        with server.accept()[0] as connection:
            number = connection.recv(65536).split(b"|")[9]
            words = b"MSH|^~\\&|L\rMSA|AE|" + number + b"|specimen S-SECRET is unknown\r"
            connection.sendall(b"\x0b" + words + b"\x1c\r")
            connection.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=refuse, daemon=True).start()
        way = ("--serial", f"socket://127.0.0.1:{server.getsockname()[1]}", "--lis-protocol", "oru")
        done = run(
            tmp_path, "--video", film, "--target", 1, *way, "--specimen", "S-SECRET", "--lis-wait-s", 2
        )
    assert (done.returncode, "message 1, waiting: the LIS refused the message)" in done.stderr) == (4, True)
    assert "message 1: the LIS refused the message" in done.stdout
    assert "SECRET" not in done.stdout + done.stderr
    with Outbox(tmp_path / "counts.sqlite") as box:
        assert "S-SECRET is unknown" in box.entry(1).reason


def test_a_count_that_is_broken_off_is_not_released(film: Path, tmp_path: Path, lis: Lis) -> None:
    broken = tmp_path / "broken.avi"
    content = film.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    assert run(tmp_path, "--video", broken, "--serial", tmp_path / "line").returncode == 1
    assert lis.receiver.messages == []


def test_the_page_releases_a_paused_count(film: Path, tmp_path: Path, lis: Lis) -> None:
    arguments = (
        "--demo",
        "--port",
        0,
        "--database",
        tmp_path / "c.sqlite",
        "--specimen",
        "S",
        "--serial",
        tmp_path / "line",
    )
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command(*arguments),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        address = next(line for line in process.stdout if "//" in line).split("//")[1].strip()
        threading.Thread(target=process.stdout.read, daemon=True).start()
        with httpx.Client(base_url=f"http://{address}", timeout=20) as http:
            deadline = time.monotonic() + 60
            state: dict = {}
            while state.get("total", 0) == 0 and time.monotonic() < deadline:
                answer = http.get("/state")
                state = answer.json() if answer.status_code == 200 else {}
                time.sleep(0.2)
            wish = {"specimen": "S", "counts": {}, "review": 0, "status": "", "operator": "", "wbc": 7.2}
            early = http.post("/release", json=wish)
            assert (early.status_code, early.text) == (400, "the count goes on; pause it, then release")
            http.post("/pause", json={"paused": True})
            while (state := http.get("/state").json())["phase"] != "paused":
                time.sleep(0.1)
            other = http.post("/release", json=wish | {"specimen": "S-0"})
            assert (other.status_code, "now that of S;" in other.text) == (400, True)
            unseen = http.post("/release", json=wish)
            assert (unseen.status_code, "has changed meanwhile" in unseen.text) == (400, True)
            wish["counts"] = {c["name"]: c["count"] for c in state["classes"]}
            wish["review"] = state["review"]
            unseen = http.post("/release", json=wish | {"status": "final"})
            assert (unseen.status_code, "has changed meanwhile" in unseen.text) == (400, True)
            wish["status"] = state["lis"]["release_as"]
            assert http.post("/release", json=wish).json() == {"id": 1}
            again = http.post("/release", json=wish)
            assert (again.status_code, "before, unchanged (message 1)" in again.text) == (400, True)
            arrived = False
            while not arrived and time.monotonic() < deadline:
                state = http.get("/state").json()
                arrived = (state["lis"]["released"] or {}).get("state") == "received"
                time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        process.wait(20)
    assert arrived
    assert lis.receiver.specimens == ["S"]
    assert lis.receiver.messages[0][0].split(b"|")[11] == b"T"  # a drawn smear
    # A handful of cells is no final differential, whoever releases it.
    assert {r.split(b"|")[8] for r in lis.receiver.messages[0] if r.startswith(b"R|")} == {b"P"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--demo", "--serial", "/dev/x", "--lis-listen", "y:1"], "one way to the LIS expected"),
        (["--demo", "--serial", "/dev/x", "--lis-mapping", "nowhere"], "--lis-mapping"),
        (["--demo", "--serial", "socket://x"], "socket://HOST:PORT"),
        (["--demo", "--wbc", "-1"], "wbc"),
        (["--video", "nowhere.avi"], "nowhere.avi"),
        (["--images", "nowhere"], "nowhere"),
        (["--demo", "--model", "nowhere.tflite"], "nowhere.tflite"),
        (["--demo", "--config", "nowhere.toml"], "nowhere.toml"),
        (["--demo", "--specimen", "../etc"], "specimen identifier"),
        (["--demo", "--target", "0"], "target"),
        (["--demo", "--map", "nowhere/map.png"], "--map names a file"),
        (["--demo", "--flat-field-file", "nowhere.png"], "nowhere.png: No such file"),
        (["--demo", "--flat-field"], "flat field: the picture is over-exposed"),
        (["--demo", "--video", "x.avi"], "--video, --demo given"),
        ([], "none given"),
        (["--camera", "/dev/video99"], "/dev/video99"),
        (["--demo", "--lis-mapping", "nowhere"], "nowhere: No such file"),
    ],
)
def test_an_error_is_one_clear_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error:")
    assert message in last
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.json").exists()


def test_a_database_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    fixed = ("--headless", "--database", "/proc/counts.sqlite")
    done = subprocess.run(command("--demo", *fixed), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "/proc/counts.sqlite" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_image_is_being_counted_within_two_seconds(crops: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    done = run(tmp_path, "--images", crops / "neutrophil-0.jpg")
    elapsed = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    assert result(tmp_path)["total"] >= 1
    # Not a benchmark: the bar is 2 s on an idle machine, and a loaded one gets four times that.
    assert elapsed < 8


def test_the_live_page_counts_the_demo(tmp_path: Path) -> None:
    arguments = ("--demo", "--port", 0, "--database", tmp_path / "counts.sqlite", "--specimen", "S")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command(*arguments),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split("//")[1].strip()
        state: dict = {}
        deadline = time.monotonic() + 40
        while state.get("total", 0) == 0 and time.monotonic() < deadline:
            connection = http.client.HTTPConnection(address, timeout=10)
            connection.request("GET", "/state")
            answer = connection.getresponse()
            state = json.loads(answer.read()) if answer.status == 200 else {}
            connection.close()
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert state["total"] > 0
    assert state["specimen"] == "S"
    assert process.returncode == 130


def test_a_bad_password_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("short\n")
    file.chmod(0o644)
    asked = command("--demo", "--password-file", file, "--database", tmp_path / "c.sqlite")
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    note, error = done.stderr.splitlines()
    assert note == f"note: {file}: everybody on this computer can read the password; chmod 400"
    assert "8 characters or more" in error
