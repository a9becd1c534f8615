import base64
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from edge.cells import Frame, Skip
from edge.errors import UserError
from edge.stream import UrlSource

Answer = Callable[[BaseHTTPRequestHandler, int], None]


def jpeg(level: int) -> bytes:
    _, data = cv2.imencode(".jpg", np.full((48, 64, 3), (0, 0, level), np.uint8))
    return data.tobytes()


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Start a server that answers the n-th request by the given function; return its address."""
    servers = []

    def start(answer: Answer) -> str:
        requests = iter(range(10**6))

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self, next(requests))

            def log_message(self, *_: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/stream"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def snapshot(handler: BaseHTTPRequestHandler, data: bytes, kind: str = "image/jpeg") -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def stream(handler: BaseHTTPRequestHandler, pictures: list[bytes]) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
    handler.end_headers()
    for picture in pictures:
        handler.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + picture + b"\r\n")


def test_snapshots_are_asked_for_again_and_the_same_picture_comes_once(
    serve: Callable[[Answer], str],
) -> None:
    levels = [50, 50, 50, 120, 120, 200]
    source = UrlSource(serve(lambda h, n: snapshot(h, jpeg(levels[min(n, 5)]))))
    frames = source.frames()
    found = [next(frames) for _ in range(3)]
    assert [int(f.image[0, 0, 0]) for f in found if isinstance(f, Frame)] == pytest.approx(
        [50, 120, 200], abs=4
    )
    source.close()
    source.close()


def test_a_slow_reader_gets_the_newest_picture_of_a_stream(serve: Callable[[Answer], str]) -> None:
    sent = threading.Event()
    release = threading.Event()

    def answer(handler: BaseHTTPRequestHandler, _: int) -> None:
        stream(handler, [jpeg(level) for level in range(20, 220, 10)])
        sent.set()
        release.wait(10)

    source = UrlSource(serve(answer))
    assert sent.wait(5)
    frame = next(source.frames())
    release.set()
    assert isinstance(frame, Frame)
    assert frame.index == 0
    assert int(frame.image[0, 0, 0]) == pytest.approx(210, abs=4)
    source.close()


def test_a_broken_stream_is_a_skip_and_the_source_connects_again(serve: Callable[[Answer], str]) -> None:
    source = UrlSource(serve(lambda h, n: stream(h, [jpeg(40 + 60 * n)])), patience_s=0.01)
    frames = source.frames()
    found = [next(frames) for _ in range(3)]
    assert [type(f) for f in found] == [Frame, Skip, Frame]
    assert [f.index for f in found] == [0, 1, 2]
    source.close()


def test_a_stream_that_does_not_come_back_is_an_error(serve: Callable[[Answer], str]) -> None:
    def answer(handler: BaseHTTPRequestHandler, n: int) -> None:
        stream(handler, [jpeg(90)]) if n == 0 else handler.send_error(503)

    frames = UrlSource(serve(answer), attempts=3, patience_s=0.01).frames()
    next(frames)
    next(frames)
    with pytest.raises(UserError, match="503"):
        next(frames)


def test_a_truncated_snapshot_is_a_skip(serve: Callable[[Answer], str]) -> None:
    source = UrlSource(serve(lambda h, n: snapshot(h, jpeg(90)[:200] if n == 0 else jpeg(90))))
    frames = source.frames()
    assert isinstance(next(frames), Skip)
    assert isinstance(next(frames), Frame)
    source.close()


def test_the_password_is_sent_and_never_shown(serve: Callable[[Answer], str]) -> None:
    seen = []

    def answer(handler: BaseHTTPRequestHandler, _: int) -> None:
        seen.append(handler.headers["Authorization"])
        handler.send_error(401)

    url = serve(answer).replace("http://", "http://user:s%40cret@")
    with pytest.raises(UserError, match="asks for a password") as raised:
        UrlSource(url)
    assert seen == ["Basic " + base64.b64encode(b"user:s@cret").decode()]
    assert "cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda h, n: h.send_error(404), "404"),
        (lambda h, n: snapshot(h, b"<html>", "text/html"), "text/html"),
        (lambda h, n: h.wfile.write(b"garbage\r\n\r\n"), "no answer"),
    ],
)
def test_an_answer_without_pictures_is_an_error(
    serve: Callable[[Answer], str], answer: Answer, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        UrlSource(serve(answer))


@pytest.mark.parametrize("url", ["nonsense", "ftp://host/x", "http://", "/dev/video0"])
def test_what_is_no_address_is_told(url: str) -> None:
    with pytest.raises(UserError, match="an address like"):
        UrlSource(url)


def test_nobody_there_is_told() -> None:
    with pytest.raises(UserError, match="no answer"):
        UrlSource("http://127.0.0.1:9/stream", timeout_s=1)
