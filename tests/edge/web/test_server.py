"""The page's server over real sockets on 127.0.0.1."""

import base64
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from edge.cells import Box, Cell
from edge.errors import UserError
from edge.live import Label, Latest, View, Wishes
from edge.mosaic import Coverage, MapView
from edge.preprocess import CONTEXT
from edge.web.encode import CELLS_SHOWN, MAX_SIDE_PX
from edge.web.server import PageServer, build_app
from tests.edge.lis.reports import release

HEAT = np.array([[0, 0.5], [1, 0.25]], np.float32)
STATE: dict[str, Any] = {"specimen": "S-1", "phase": "counting", "message": "", "total": 3}
STATE["classes"] = [{"name": name, "role": "counted"} for name in ("monocyte", "lymphocyte")]


def view_of(width: int, height: int, total: int = 3) -> View:
    """A view whose picture is pure red, with a counted and an uncounted cell."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = 255
    labels = (
        Label(Box(10, 20, 300, 400), "neutrophil", np.float32(0.75), 7, HEAT),
        Label(Box(0.5, 0, 50, 60), "monocyte", 0.5, None),
    )
    return View(image, labels, STATE | {"total": total})


class Site:
    """A served page with the other ends of its three parts."""

    def __init__(self, password: str | None) -> None:
        self.latest, self.wishes, self.stop = Latest(), Wishes(), threading.Event()
        self.server = PageServer(build_app(self.latest, self.wishes, self.stop, password), "127.0.0.1", 0)
        self.server.start()
        self.http = httpx.Client(base_url=self.server.url, timeout=5)

    def end(self) -> None:
        self.http.close()
        self.server.stop()


@pytest.fixture
def site() -> Iterator[Site]:
    """A page of its own, for one test."""
    fresh = Site(None)
    yield fresh
    fresh.end()


@pytest.fixture(scope="module")
def one_site() -> Iterator[Site]:
    """One page for the tests that leave nothing behind but wishes."""
    site = Site(None)
    yield site
    site.end()


@pytest.fixture
def wished(one_site: Site) -> Site:
    """The same page with no wish open."""
    one_site.wishes.pause(False)
    one_site.wishes.take_specimen()
    return one_site


@pytest.fixture(scope="module")
def locked() -> Iterator[Site]:
    """A page behind a password."""
    site = Site("pass:wörd")
    yield site
    site.end()


def events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def first_event(site: Site) -> dict[str, Any]:
    with site.http.stream("GET", "/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        return next(events(answer.iter_lines()))


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/static/page.js", "javascript"),
        ("/static/map.js", "javascript"),
        ("/static/review.js", "javascript"),
        ("/static/page.css", "text/css"),
        ("/static/favicon.svg", "image/svg+xml"),
    ],
)
def test_files_come_with_the_security_headers(wished: Site, path: str, kind: str) -> None:
    answer = wished.http.get(path)
    assert answer.status_code == 200
    assert kind in answer.headers["content-type"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/static/", "/static/..%2fserver.py", "/static/../server.py", "/nothing"])
def test_nothing_else_is_served(wished: Site, path: str) -> None:
    assert wished.http.get(path).status_code == 404


def test_state_waits_for_the_first_view(site: Site) -> None:
    assert site.http.get("/state").status_code == 503
    site.latest.put(view_of(64, 48))
    answer = site.http.get("/state")
    assert answer.json() == STATE
    assert answer.headers["cache-control"] == "no-store"


def test_the_map_comes_with_its_cells(site: Site) -> None:
    site.latest.put(view_of(64, 48))
    assert site.http.get("/map").status_code == 404
    picture = np.full((30, 40, 3), (255, 0, 0), np.uint8)
    shares, network = np.array([0.9, 0.1], np.float32), np.array([0.4, 0.6], np.float32)
    cell = Cell(57, "monocyte", 0.91234, shares, 0, 3, Box(0, 0, 90, 80), (1.26, 7), True, b"", network)
    seen = MapView(picture, (-8.0, 16.0), 8.0, Coverage(1, 1, 1), (cell,))
    site.latest.put(replace(view_of(64, 48), map=seen))
    found = site.http.get("/map").json()
    jpeg = np.frombuffer(base64.b64decode(found.pop("jpeg")), np.uint8)
    assert cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB)[15, 20] == pytest.approx([255, 0, 0], abs=3)
    assert found == {
        "size": [40, 30],
        "origin": [-8, 16],
        "scale": 8,
        "cells": [
            {"number": 57, "name": "monocyte", "confidence": 0.912, "review": True, "named": False}
            | {"why": ["by its size; it looks like lymphocyte"], "slide": [1.3, 7], "side": 90}
        ],
    }


def test_cells_come_with_their_pictures_in_parts(site: Site) -> None:
    assert site.http.get("/cells").status_code == 503
    shares, network = np.array([0.9, 0.1], np.float32), np.array([0.4, 0.6], np.float32)
    box, numbers = Box(0, 0, 9, 8), range(1, 2 * (2 * CELLS_SHOWN + 3))
    cells = [
        Cell(n, "monocyte", 0.91234, shares, 0, f"{n}.png", box, (1, 7), n % 2 == 0, b"jpeg", network)
        for n in numbers
    ]
    site.latest.put(replace(view_of(64, 48), cells=tuple(cells)))
    found = site.http.get("/cells", params={"review": "1"}).json()
    assert found["specimen"] == STATE["specimen"]
    assert found["cells"][0] == {
        **{"number": 2, "name": "monocyte", "confidence": 0.912, "source": "2.png"},
        **{"review": True, "namings": 0, "instrument": "monocyte"},
        **{"why": ["by its size; it looks like lymphocyte"], "jpeg": base64.b64encode(b"jpeg").decode()},
    }
    for review, wanted in (({"review": "1"}, numbers[1::2]), ({}, numbers)):
        got: list[int] = []
        for _ in range(10):
            after = {"after": str(got[-1] if got else 0)}
            some = site.http.get("/cells", params=after | review).json()["cells"]
            assert len(some) <= CELLS_SHOWN
            got += [cell["number"] for cell in some]
        assert got == list(wanted)
    for wrong in ("-1", "x", "", "1" * 40, "\u00b2"):
        assert site.http.get("/cells", params={"after": wrong}).status_code == 400
        assert site.http.get("/cells", params={"only": f"2,{wrong}"}).status_code == 400
    some = site.http.get("/cells", params={"only": "7,2,999"}).json()["cells"]
    assert [(cell["number"], "jpeg" in cell) for cell in some] == [(2, True), (7, True)]
    told = site.http.get("/cells", params={"brief": "1", "after": "1"}).json()["cells"]
    assert [cell["number"] for cell in told] == list(numbers[1:])
    assert told[0] == {
        **{"number": 2, "name": "monocyte", "review": True, "namings": 0},
        "why": ["by its size; it looks like lymphocyte"],
    }


def test_an_event_holds_state_boxes_and_picture(one_site: Site) -> None:
    one_site.latest.put(view_of(640, 480))
    event = first_event(one_site)
    assert event["state"] == STATE
    assert event["size"] == [640, 480]
    assert event["labels"] == [
        {
            "box": [10, 20, 300, 400],
            "name": "neutrophil",
            "confidence": 0.75,
            "number": 7,
            "heat": [[0, 50], [100, 25]],
        },
        {"box": [0.5, 0, 50, 60], "name": "monocyte", "confidence": 0.5, "number": None, "heat": None},
    ]
    assert event["context"] == CONTEXT
    bgr = cv2.imdecode(np.frombuffer(base64.b64decode(event["jpeg"]), np.uint8), cv2.IMREAD_COLOR)
    assert bgr.shape == (480, 640, 3)
    assert np.abs(bgr.mean(axis=(0, 1)) - [0, 0, 255]).max() < 3  # red stays red


@pytest.mark.parametrize(("width", "height", "size"), [(1920, 1080, [960, 540]), (1000, 2000, [480, 960])])
def test_a_large_picture_is_scaled_with_its_boxes(
    one_site: Site, width: int, height: int, size: list[int]
) -> None:
    one_site.latest.put(view_of(width, height))
    event = first_event(one_site)
    scale = MAX_SIDE_PX / max(width, height)
    assert event["size"] == size
    assert event["labels"][0]["box"] == pytest.approx(
        [10 * scale, 20 * scale, 300 * scale, 400 * scale], abs=0.05
    )


def test_before_the_first_picture_an_event_has_none(one_site: Site) -> None:
    one_site.latest.put(View(None, (), STATE))
    event = first_event(one_site)
    assert (event["jpeg"], event["size"], event["labels"]) == (None, None, [])


def test_a_stream_follows_and_shows_the_newest(site: Site) -> None:
    site.latest.put(view_of(64, 48, total=1))
    with site.http.stream("GET", "/events") as answer:
        stream = events(answer.iter_lines())
        assert next(stream)["state"]["total"] == 1
        for total in range(2, 50):
            site.latest.put(view_of(64, 48, total))
        totals = [next(stream)["state"]["total"]]
        while totals[-1] < 49:
            totals.append(next(stream)["state"]["total"])
    assert len(totals) <= 2  # the rest was missed, not queued


def test_what_waits_for_a_slow_reader_is_little(site: Site) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    host, _, port = site.server.url.removeprefix("http://").partition(":")
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(5)
        slow.connect((host, int(port)))
        slow.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with site.http.stream("GET", "/events") as answer:
            hearing = events(answer.iter_lines())
            for total in range(30):
                site.latest.put(View(noise, (), STATE | {"total": total}))
                next(hearing)
        waited = b""
        while b'"total": 29' not in waited:
            waited += slow.recv(65536)
    assert waited.count(b"data: ") < 8


def test_two_streams_see_the_same(one_site: Site) -> None:
    one_site.latest.put(view_of(64, 48))
    with one_site.http.stream("GET", "/events") as one, one_site.http.stream("GET", "/events") as two:
        assert next(events(one.iter_lines())) == next(events(two.iter_lines()))


def test_a_quiet_stream_beats(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.web.routes.HEARTBEAT_S", 0.3)
    with site.http.stream("GET", "/events") as answer:
        assert [line for line, _ in zip(answer.iter_lines(), range(3), strict=False)] == [
            ": connected",
            "",
            ": heartbeat",
        ]


def test_streams_end_when_the_count_stops(site: Site) -> None:
    site.latest.put(view_of(64, 48))
    with site.http.stream("GET", "/events") as answer:
        lines = answer.iter_lines()
        next(events(lines))
        site.stop.set()
        assert list(events(lines)) == []


def web_threads() -> int:
    return [thread.name for thread in threading.enumerate()].count("web")


def test_stopping_the_server_ends_streams_and_frees_the_port(site: Site) -> None:
    before = web_threads()
    site.latest.put(view_of(64, 48))
    with site.http.stream("GET", "/events") as answer:
        lines = answer.iter_lines()
        next(events(lines))
        site.server.stop()
        assert list(events(lines)) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(site.server.url)
    assert web_threads() == before - 1


def test_a_client_that_never_reads_does_not_hold_the_stop_up(site: Site) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    host, _, port = site.server.url.removeprefix("http://").partition(":")
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((host, int(port)))
        deaf.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with site.http.stream("GET", "/events") as answer:
            hearing = events(answer.iter_lines())
            for _ in range(12):  # together more than the socket's buffers hold
                site.latest.put(View(noise, (), STATE))
                next(hearing)
        before = web_threads()
        site.server.stop()
        assert web_threads() == before - 1


@pytest.mark.parametrize("paused", [True, False])
def test_pause(wished: Site, paused: bool) -> None:
    wished.wishes.pause(not paused)
    assert wished.http.post("/pause", json={"paused": paused}).json() == {"paused": paused}
    assert wished.wishes.paused is paused


@pytest.mark.parametrize(
    "body", ["", "[]", "7", "{}", '{"paused": 1}', '{"paused": "true"}', "[" * 4000, "\xff"]
)
def test_a_bad_pause_changes_nothing(wished: Site, body: str) -> None:
    answer = wished.http.post(
        "/pause", content=body.encode("latin-1"), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    assert "paused" in answer.text
    assert wished.wishes.paused is False


@pytest.mark.parametrize(("sent", "asked"), [("S-2", "S-2"), (" a.B_c 9 ", "a.B_c 9"), ("x" * 64, "x" * 64)])
def test_a_specimen_is_asked_for(wished: Site, sent: str, asked: str) -> None:
    assert wished.http.post("/specimen", json={"specimen": sent}).json() == {"specimen": asked}
    assert wished.wishes.take_specimen() == asked


@pytest.mark.parametrize("sent", ["", "   ", "x" * 65, "a/b", "<b>", "S-2\n", "é", None, 7, ["S-2"]])
def test_a_bad_specimen_is_refused_with_the_reason(wished: Site, sent: object) -> None:
    answer = wished.http.post("/specimen", json={"specimen": sent})
    assert answer.status_code == 400
    assert "1 to 64 letters" in answer.text
    assert wished.wishes.take_specimen() is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
    ],
)
def test_only_our_own_page_may_post(wished: Site, headers: dict[str, str], status: int) -> None:
    sent = {"Content-Type": "application/json"} | headers
    answer = wished.http.post("/pause", content=b'{"paused": true}', headers=sent)
    assert answer.status_code == status
    assert wished.wishes.paused is (status == 200)


def test_our_own_origin_may_post(wished: Site) -> None:
    answer = wished.http.post("/pause", json={"paused": True}, headers={"Origin": wished.server.url})
    assert answer.status_code == 200


def test_a_long_body_is_refused(wished: Site) -> None:
    assert wished.http.post("/specimen", json={"specimen": "x" * 5000}).status_code == 413
    chunks = {"content-type": "application/json", "content-length": "10", "transfer-encoding": "chunked"}
    assert wished.http.post("/specimen", content=iter([b" " * 5000]), headers=chunks).status_code == 413


@pytest.mark.parametrize("path", ["/", "/state", "/events", "/static/page.js"])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "localhost@evil.example"])
def test_a_rebound_name_is_refused(wished: Site, path: str, host: str) -> None:
    assert wished.http.get(path, headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"])
def test_local_names_are_served(wished: Site, host: str) -> None:
    assert wished.http.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/state", "/events", "/map", "/cells", "/static/page.js", "/nothing"])
def test_a_password_guards_every_route(locked: Site, path: str) -> None:
    answer = locked.http.get(path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")
    assert locked.http.get(path, auth=("anyone", "wrong")).status_code == 401


@pytest.mark.parametrize("header", ["", "Basic", "Basic !!!", "Bearer x", "Basic " + "YQ=="])
def test_broken_credentials_are_refused(locked: Site, header: str) -> None:
    assert locked.http.get("/", headers={"Authorization": header}).status_code == 401


def test_the_password_opens_the_page(locked: Site) -> None:
    auth = httpx.BasicAuth(b"anyone", "pass:wörd".encode())
    assert locked.http.get("/", auth=auth).status_code == 200
    assert locked.http.post("/pause", json={"paused": True}, auth=auth).status_code == 200
    assert locked.wishes.paused


def app_with(password: str | None) -> Any:
    return build_app(Latest(), Wishes(), threading.Event(), password)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "microscope.local"])
def test_other_machines_need_a_password(host: str) -> None:
    with pytest.raises(UserError, match="password"):
        PageServer(app_with(None), host, 0)


def test_an_empty_password_is_refused() -> None:
    with pytest.raises(UserError, match="empty"):
        app_with("")


def test_an_open_host_with_a_password_is_served_by_any_name() -> None:
    server = PageServer(app_with("secret"), "0.0.0.0", 0)
    server.start()
    try:
        port = server.url.rpartition(":")[2]
        answer = httpx.get(f"http://127.0.0.1:{port}/", headers={"Host": "pi"}, auth=("a", "secret"))
    finally:
        server.stop()
    assert answer.status_code == 200


def test_a_busy_port_is_told_at_once(wished: Site) -> None:
    port = int(wished.server.url.rpartition(":")[2])
    with pytest.raises(UserError, match=f"port {port} on 127.0.0.1 is taken .*--port"):
        PageServer(app_with(None), "127.0.0.1", port).start()


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(UserError, match=r"host = '192\.0\.2\.1': not an address of this machine.*--host"):
        PageServer(app_with("secret"), "192.0.2.1", 0).start()


@pytest.mark.parametrize("host", ["nosuch.invalid", f"{'a' * 70}.invalid"])
def test_a_host_that_is_none_is_named(host: str) -> None:
    with pytest.raises(UserError, match=f"host = '{host}': no machine of this name .*--host"):
        PageServer(app_with("secret"), host, 0).start()


def test_stop_without_start_and_twice() -> None:
    server = PageServer(app_with(None), "localhost", 0)
    server.stop()
    server.stop()


def test_logs_stay_quiet_and_name_no_specimen(wished: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    wished.http.post("/specimen", json={"specimen": "PATIENT-7"})
    wished.http.post("/specimen", json={"specimen": "PATIENT/7"})
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []
    assert "PATIENT" not in "".join(r.getMessage() for r in caplog.records)


def answering(take: Callable[[], Any], answer: Any) -> threading.Thread:
    """The main loop: takes the next wish and answers it."""

    def work() -> None:
        while (asked := take()) is None:
            pass
        if isinstance(answer, Exception):
            asked.answer.set_exception(answer)
        else:
            asked.answer.set_result(answer(asked))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_cell_is_named(site: Site) -> None:
    seen: list[tuple[str, int, str, int]] = []
    body = {"specimen": "S-1", "number": 7, "name": "monocyte", "namings": 2}
    thread = answering(
        site.wishes.take_naming, lambda w: seen.append((w.specimen, w.number, w.name, w.namings))
    )
    answer = site.http.post("/cells", json=body)
    thread.join(5)
    assert (answer.status_code, seen) == (200, [("S-1", 7, "monocyte", 2)])
    thread = answering(site.wishes.take_naming, UserError("there is no cell 7"))
    answer = site.http.post("/cells", json=body)
    thread.join(5)
    assert (answer.status_code, answer.text) == (400, "there is no cell 7")


def test_a_name_that_nobody_takes_is_told_and_never_given_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.web.routes.ANSWER_TIMEOUT_S", 0.2)
    body = {"specimen": "S-1", "number": 7, "name": "monocyte", "namings": 0}
    assert site.http.post("/cells", json=body).status_code == 503
    assert site.wishes.take_naming() is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"specimen": "S-1", "number": 7, "name": "monocyte"},
        {"specimen": "S-1", "number": "7", "name": "monocyte", "namings": 0},
        {"specimen": "S-1", "number": True, "name": "monocyte", "namings": 0},
        {"specimen": None, "number": 7, "name": "monocyte", "namings": 0},
        {"specimen": "S-1", "number": 7, "name": ["monocyte"], "namings": 0},
        {"specimen": "S-1", "number": 7, "name": "monocyte", "namings": None},
    ],
)
def test_what_names_no_cell_is_refused(wished: Site, body: dict[str, Any]) -> None:
    assert wished.http.post("/cells", json=body).status_code == 400
    assert wished.wishes.take_naming() is None


RELEASE = {"specimen": "S-1", "operator": " Dr A ", "wbc": 7.2} | {
    "counts": {"monocyte": 2},
    "review": 1,
    "status": "final",
}


def test_a_release_is_asked_for_and_answered(site: Site) -> None:
    seen: list[tuple[Any, ...]] = []
    thread = answering(
        site.wishes.take_release,
        lambda asked: (
            seen.append((asked.specimen, asked.counts, asked.review, asked.status, asked.operator, asked.wbc))
            or SimpleNamespace(id=7)
        ),
    )
    answer = site.http.post("/release", json=RELEASE)
    thread.join(5)
    assert (answer.status_code, answer.json()) == (200, {"id": 7})
    assert seen == [("S-1", {"monocyte": 2}, 1, "final", "Dr A", 7.2)]


def test_a_refused_release_tells_why(site: Site) -> None:
    thread = answering(site.wishes.take_release, UserError("nothing has been counted yet"))
    answer = site.http.post("/release", json=RELEASE)
    thread.join(5)
    assert (answer.status_code, answer.text) == (400, "nothing has been counted yet")


def test_a_release_that_nobody_answers_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.web.routes.ANSWER_TIMEOUT_S", 0.2)
    assert site.http.post("/release", json=RELEASE).status_code == 503
    assert site.wishes.take_release() is None


@pytest.mark.parametrize(
    "change",
    [
        {"specimen": 7},
        {"operator": 7},
        {"operator": "a\nb"},
        {"operator": "x" * 65},
        {"counts": 150},
        {"review": "1"},
        {"status": None},
        {"wbc": "7"},
        {"wbc": True},
        {"wbc": -1},
    ],
)
def test_a_bad_release_is_refused(wished: Site, change: dict) -> None:
    (key,) = change
    for body in (RELEASE | change, {k: v for k, v in RELEASE.items() if k != key}):
        assert wished.http.post("/release", json=body).status_code == 400
    assert wished.wishes.take_release() is None


def test_without_a_way_to_the_lis_there_is_no_outbox(wished: Site) -> None:
    assert wished.http.get("/outbox").status_code == 404


@pytest.fixture
def mailing(tmp_path: Path) -> Iterator[httpx.Client]:
    """A page with an outbox that holds two messages."""
    database = tmp_path / "c.sqlite"
    release(database, "S-1", "S-2")
    server = PageServer(build_app(Latest(), Wishes(), threading.Event(), None, database), "127.0.0.1", 0)
    server.start()
    with httpx.Client(base_url=server.url, timeout=5) as http:
        yield http
    server.stop()


def test_the_outbox_is_listed_newest_first(mailing: httpx.Client) -> None:
    rows = mailing.get("/outbox").json()
    assert [(row["id"], row["specimen"], row["status"], row["state"]) for row in rows] == [
        (2, "S-2", "final", "waiting"),
        (1, "S-1", "final", "waiting"),
    ]


def test_a_message_is_cancelled_and_sent_again(mailing: httpx.Client) -> None:
    body = {"id": 1, "action": "cancel", "reason": "wrong\nslide"}
    assert mailing.post("/outbox", json=body).status_code == 200
    assert mailing.get("/outbox").json()[1]["reason"] == "cancelled: wrongslide"
    assert mailing.post("/outbox", json={"id": 1, "action": "resend", "reason": ""}).status_code == 200
    assert mailing.get("/outbox").json()[1]["state"] == "waiting"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"id": 1, "action": "cancel", "reason": " "}, "needs a reason"),
        ({"id": 9, "action": "resend", "reason": ""}, "not in the outbox"),
        ({"id": "1", "action": "resend", "reason": ""}, "are expected"),
        ({"id": 1, "action": "delete", "reason": ""}, "are expected"),
        ({"id": 1, "action": ["resend"], "reason": ""}, "are expected"),
        ({"id": 1, "action": {}, "reason": ""}, "are expected"),
        ({"id": 1}, "is expected"),
    ],
)
def test_a_bad_change_of_the_outbox_is_refused(mailing: httpx.Client, body: dict, words: str) -> None:
    answer = mailing.post("/outbox", json=body)
    assert answer.status_code == 400
    assert words in answer.text
