"""Real servers on this machine, and what the world's worst ones send."""

import base64
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from edge.cells import Frame, Skip
from edge.errors import UserError
from edge.stream import MAX_BREAKS, UrlSource

Answer = Callable[[BaseHTTPRequestHandler], None]
WAIT_S = 10.0
"""The longest that a test waits for its server."""


def picture(number: int) -> bytes:
    """A JPEG that shows its number as its shade of red."""
    good, data = cv2.imencode(".jpg", np.full((64, 64, 3), (40, 90, 5 * number), np.uint8))
    assert good
    return data.tobytes()


def number(frame: Frame | Skip) -> int:
    assert isinstance(frame, Frame)
    return round(int(frame.image[32, 32, 0]) / 5)


class Server:
    """A web server whose every answer is the function that a test gives it."""

    def __init__(self, answer: Answer) -> None:
        self.requests: list[str] = []
        self.authorizations: list[str | None] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.requests.append(self.path)
                server.authorizations.append(self.headers.get("Authorization"))
                self.close_connection = True
                with suppress(OSError):  # the client went away
                    answer(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}/stream"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Server]]:
    """Start servers; they end with the test."""
    with ExitStack() as stack:

        def start(answer: Answer) -> Server:
            server = Server(answer)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture
def source() -> Iterator[Callable[..., UrlSource]]:
    """Open addresses with little patience; they are closed before the servers end."""
    with ExitStack() as stack:

        def start(url: str, timeout_s: float = 0.5) -> UrlSource:
            opened = UrlSource(url, timeout_s=timeout_s, pause_s=0.01)
            stack.callback(opened.close)
            return opened

        yield start


def head(handler: BaseHTTPRequestHandler, kind: str, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()


def mjpeg(*parts: bytes) -> Answer:
    """A stream of these parts, and then its end."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        head(handler, "multipart/x-mixed-replace; boundary=frame")
        for part in parts:
            handler.wfile.write(with_length(part))

    return answer


def with_length(data: bytes) -> bytes:
    return b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(data), data)


def without_length(data: bytes) -> bytes:
    # As OpenFlexure's server: the end of a picture shows only by the next boundary.
    return b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + data + b"\r\n--frame\r\n\r\n"


def bare(data: bytes) -> bytes:
    return b"--frame\n\n" + data + b"\n--frame\n"


def chunked(data: bytes) -> bytes:
    half = len(data) // 2
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (data[:half], data[half:]))


@pytest.mark.parametrize("boundary", ["frame", '"frame"', "--frame"])
@pytest.mark.parametrize("part", [with_length, without_length, bare])
@pytest.mark.parametrize("transfer", ["plain", "chunked"])
def test_every_manner_of_mjpeg(
    serve: Callable[[Answer], Server],
    source: Callable[..., UrlSource],
    boundary: str,
    part: Callable[[bytes], bytes],
    transfer: str,
) -> None:
    wanted = threading.Semaphore(0)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        more = {"Transfer_Encoding": "chunked"} if transfer == "chunked" else {}
        head(handler, f"multipart/x-mixed-replace; boundary={boundary}", **more)
        for index in range(5):
            assert wanted.acquire(timeout=WAIT_S)
            data = part(picture(index + 1))
            handler.wfile.write(chunked(data) if transfer == "chunked" else data)

    stream = source(serve(answer).url)
    assert (stream.moving, stream.live, stream.length) == (True, True, None)
    frames = stream.frames()
    found = []
    for _ in range(5):
        wanted.release()
        found.append(next(frames))
    assert [f.index for f in found] == [0, 1, 2, 3, 4]
    assert [number(f) for f in found] == [1, 2, 3, 4, 5]
    times = [f.time_s for f in found if isinstance(f, Frame)]
    assert times == sorted(times)
    assert found[0].source == 0


def test_slow_analysis_gets_the_newest_picture(
    serve: Callable[[Answer], Server], source: Callable[..., UrlSource]
) -> None:
    first, rest, sent = threading.Event(), threading.Event(), threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        head(handler, "multipart/x-mixed-replace; boundary=frame")
        handler.wfile.write(with_length(picture(1)))
        assert first.wait(WAIT_S)
        for index in range(2, 50):
            handler.wfile.write(with_length(picture(index)))
        sent.set()
        assert rest.wait(WAIT_S)
        handler.wfile.write(with_length(picture(50)))

    frames = source(serve(answer).url).frames()
    assert number(next(frames)) == 1
    first.set()
    assert sent.wait(WAIT_S)
    assert number(next(frames)) == 49
    rest.set()
    found = next(frames)
    assert (number(found), found.index) == (50, 2)


def test_a_broken_stream_comes_back_and_every_break_is_a_skip(
    serve: Callable[[Answer], Server], source: Callable[..., UrlSource]
) -> None:
    server = serve(mjpeg(picture(7)))
    frames = source(server.url).frames()
    found = [next(frames) for _ in range(20)]
    assert [type(f) for f in found] == [Frame, Skip] * 10
    assert [f.index for f in found] == list(range(20))
    assert {f.reason for f in found if isinstance(f, Skip)} == {"the stream ended"}
    assert len(server.requests) == 10


def test_a_stream_that_does_not_come_back_is_an_error(source: Callable[..., UrlSource]) -> None:
    server = Server(mjpeg(picture(7)))
    frames = source(server.url).frames()
    assert number(next(frames)) == 7
    server.close()
    skips = [next(frames) for _ in range(MAX_BREAKS)]
    assert all(isinstance(skip, Skip) for skip in skips)
    assert [f.index for f in skips] == [1, 2, 3, 4, 5]
    with pytest.raises(UserError, match=r"/stream: refused; check that the camera's server runs"):
        next(frames)


@pytest.mark.parametrize(
    ("silence", "reason"),
    [
        (b"", "no answer for"),
        (with_length(picture(2))[:-400], "no answer for"),
        (None, "no new picture for 1 s"),
    ],
)
def test_a_stream_that_falls_silent_is_a_skip(
    serve: Callable[[Answer], Server],
    source: Callable[..., UrlSource],
    silence: bytes | None,
    reason: str,
) -> None:
    done = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        head(handler, "multipart/x-mixed-replace; boundary=frame")
        handler.wfile.write(with_length(picture(1)))
        handler.wfile.write(silence or b"")
        while not done.wait(0.02):
            if silence is None:  # drop by drop, never a whole one
                handler.wfile.write(b"-")

    try:
        frames = source(serve(answer).url, timeout_s=0.3).frames()
        assert number(next(frames)) == 1
        skip = next(frames)
        assert isinstance(skip, Skip)
        assert skip.reason.startswith(reason)
        assert number(next(frames)) == 1
    finally:
        done.set()


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (b"Dear colleague", "bad picture: not a PNG"),
        (picture(3)[:-100], "bad picture: cut short"),
    ],
)
def test_garbage_in_a_stream_is_a_skip(
    serve: Callable[[Answer], Server], source: Callable[..., UrlSource], part: bytes, reason: str
) -> None:
    taken = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        head(handler, "multipart/x-mixed-replace; boundary=frame")
        handler.wfile.write(with_length(part))
        assert taken.wait(WAIT_S)
        handler.wfile.write(with_length(picture(4)))

    frames = source(serve(answer).url).frames()
    skip = next(frames)
    assert isinstance(skip, Skip)
    assert skip.reason.startswith(reason)
    taken.set()
    found = next(frames)
    assert (number(found), found.index) == (4, 1)


@pytest.mark.parametrize("kind", ["image/jpeg", "multipart/x-mixed-replace; boundary=frame"])
def test_nothing_but_garbage_is_an_error_in_the_end(
    serve: Callable[[Answer], Server],
    source: Callable[..., UrlSource],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    monkeypatch.setattr("edge.stream.MAX_BAD_PICTURES", 3)
    count = iter(range(1000))

    def answer(handler: BaseHTTPRequestHandler) -> None:
        head(handler, kind)
        letter = b"Dear colleague no. %d" % next(count)
        handler.wfile.write(letter if kind == "image/jpeg" else with_length(letter))

    with pytest.raises(UserError, match="no good picture in"):
        list(source(serve(answer).url).frames())


@pytest.mark.parametrize("length", [b"", b"Content-Length: 999999999\r\n"])
def test_a_picture_without_end_does_not_fill_the_memory(
    serve: Callable[[Answer], Server], source: Callable[..., UrlSource], length: bytes
) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        head(handler, "multipart/x-mixed-replace; boundary=frame")
        handler.wfile.write(b"--frame\r\n" + length + b"\r\n")
        for _ in range(40):
            handler.wfile.write(bytes(2**20))

    skip = next(source(serve(answer).url, timeout_s=2).frames())
    assert isinstance(skip, Skip)
    assert skip.reason == "no end of the picture after 16 MiB"


def snapshots(*pictures: bytes) -> Answer:
    """One picture an answer; the last one for ever."""
    left = list(pictures)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        data = left.pop(0) if len(left) > 1 else left[0]
        head(handler, "image/jpeg", Content_Length=str(len(data)))
        handler.wfile.write(data)

    return answer


def test_a_snapshot_that_has_not_changed_is_no_new_frame(
    serve: Callable[[Answer], Server], source: Callable[..., UrlSource]
) -> None:
    one, two = picture(1), picture(2)
    server = serve(snapshots(one, one, one, two, two, one))
    frames = source(server.url).frames()
    found = [next(frames) for _ in range(3)]
    assert [number(f) for f in found] == [1, 2, 1]
    assert [f.index for f in found] == [0, 1, 2]
    assert len(server.requests) == 6


def test_a_frozen_snapshot_comes_again_so_that_its_reader_can_stop(
    serve: Callable[[Answer], Server], source: Callable[..., UrlSource]
) -> None:
    frames = source(serve(snapshots(picture(1))).url).frames()
    assert [number(next(frames)) for _ in range(2)] == [1, 1]


def test_a_torn_and_an_endless_snapshot_are_skips(
    serve: Callable[[Answer], Server], source: Callable[..., UrlSource]
) -> None:
    frames = source(serve(snapshots(picture(1)[:-90], bytes(17 * 2**20), picture(2))).url).frames()
    torn, endless, good = next(frames), next(frames), next(frames)
    assert isinstance(torn, Skip)
    assert "cut short" in torn.reason
    assert isinstance(endless, Skip)
    assert endless.reason == "a picture of more than 16 MiB"
    assert number(good) == 2


def status(code: int, kind: str = "text/html", **headers: str) -> Answer:
    return lambda handler: head(handler, kind, code, Content_Length="0", **headers)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (status(401), r"asks for a user and password; write http://user:password@host"),
        (status(403), r"asks for a user and password"),
        (status(404), r"not found; OpenFlexure has its stream at /api/v2/streams/mjpeg"),
        (status(302, Location="http://u:secret@there/x?key=secret"), r"moved to http://there/x; give that"),
        (status(405), r"200 expected, the server answers 405"),
        (status(503), r"the server answers 503"),
        (status(200), r"an MJPEG stream or a JPEG expected, text/html came"),
        (status(200, "multipart/x-mixed-replace"), r"expected, multipart/x-mixed-replace came"),
    ],
)
def test_an_answer_without_pictures_is_an_error(
    serve: Callable[[Answer], Server], answer: Answer, message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        UrlSource(serve(answer).url + "?key=secret")
    assert "secret" not in str(error.value)


def test_a_stream_that_is_gone_when_it_comes_back_is_an_error(
    serve: Callable[[Answer], Server], source: Callable[..., UrlSource]
) -> None:
    answers = iter([mjpeg(picture(1)), status(404)])

    def answer(handler: BaseHTTPRequestHandler) -> None:
        next(answers)(handler)

    frames = source(serve(answer).url).frames()
    assert number(next(frames)) == 1
    assert isinstance(next(frames), Skip)
    with pytest.raises(UserError, match="not found"):
        next(frames)


def test_user_and_password_are_sent_and_never_shown(
    serve: Callable[[Answer], Server], source: Callable[..., UrlSource]
) -> None:
    server = serve(mjpeg(picture(1)))
    next(source(f"http://anna:p%40ss%3Aword@{server.host}/a b?x=1&y=ä").frames())
    expected = base64.b64encode(b"anna:p@ss:word").decode()
    assert server.authorizations == [f"Basic {expected}"]
    assert server.requests == ["/a%20b?x=1&y=%C3%A4"]
    with pytest.raises(UserError, match="refuses this user and password") as error:
        UrlSource(f"http://anna:hunter2@{serve(status(401)).host}/")
    assert "hunter2" not in str(error.value)
    assert "anna" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://anna:hunter2@camera/stream",
        "http://",
        "http://anna:hunter2@",
        "http://anna:hunter2@camera:port/",
        "http://anna:hunter2@camera:99999/",
        "http://anna:hunter2@a..b/",
        "http://[::1",
        "http://anna:hunter2@a camera/",
        "camera.local/stream",
        "",
    ],
)
def test_a_wrong_address_is_an_error_that_shows_no_password(url: str) -> None:
    with pytest.raises(UserError, match="http://host:port/path expected") as error:
        UrlSource(url)
    assert "hunter2" not in str(error.value)


def test_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(UserError, match=rf"^http://127.0.0.1:{port}/: refused"):
        UrlSource(f"http://anna:hunter2@127.0.0.1:{port}/")


def test_a_server_that_only_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match="no answer for"):
            UrlSource(f"http://127.0.0.1:{port}/", timeout_s=0.1)


def test_a_server_that_speaks_no_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
                connection.recv(1000)

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(UserError, match=r"interrupted \(SSH-2.0"):
            UrlSource(f"http://127.0.0.1:{server.getsockname()[1]}/", timeout_s=1)
        thread.join()


def test_a_host_that_does_not_exist() -> None:
    with pytest.raises(UserError, match="no host of this name"):
        UrlSource("http://camera.invalid/stream")


def test_closing_ends_suspended_frames_and_is_safe_twice(serve: Callable[[Answer], Server]) -> None:
    stream = UrlSource(serve(mjpeg(picture(1), picture(2))).url)
    frames = stream.frames()
    next(frames)
    stream.close()
    stream.close()
    assert list(frames) == []
