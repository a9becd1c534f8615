"""Frames from the network: an MJPEG stream, or a JPEG snapshot asked for again and again."""

import base64
import http.client
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from itertools import count
from urllib.parse import SplitResult, quote, unquote, urlsplit

from edge.cells import Frame, Image, Skip
from edge.errors import UserError
from edge.imagefile import BadImage, decode_image

MAX_BYTES = 16 * 2**20
"""Of one picture; more than this without an end is no stream of pictures."""
MAX_BREAKS = 5
"""So many interruptions with no picture between them end the source."""
MAX_BAD_PICTURES = 100
"""So many useless pictures in a row end the source."""
DRAIN_S = 1.0
"""The longest search for a newer picture in what has already arrived."""
_GAP_S = 0.005
"""Data that is on its way follows within this time; a gap this long means that all has arrived."""
_READ_BYTES = 2**20
_POLL_S = 0.05
"""Between two questions for a snapshot that has not changed."""
_UNCHANGED_S = 1.0
"""An unchanged snapshot is given again after this time."""
_PATIENCE = 4
"""A new picture may take so many times the longest silence."""
_OPENFLEXURE = "/api/v2/streams/mjpeg or /api/v3/camera/mjpeg_stream"
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_HOST = re.compile(r"[^\s\x00-\x1f\x7f]+")
_LENGTH = re.compile(rb"(?i)\ncontent-length:\s*(\d{1,9})\s")


class _BreakError(Exception):
    """The stream was interrupted; it may come back."""


class UrlSource:
    """Pictures from a web address: a `FrameSource`.

    An answer of type multipart/x-mixed-replace is read as an MJPEG stream: of the pictures that have
    arrived meanwhile the newest is taken. An answer of type image/jpeg is a snapshot, asked for again
    each time; the same bytes twice are one picture. Each interruption is a `Skip`.

    Args:
        url: http or https; `user:password@` before the host logs in (HTTP basic), and is never shown.
        timeout_s: the longest silence, seconds.
        pause_s: between an interruption and the next attempt, seconds.

    Raises:
        UserError: the address is wrong, nothing answers, or the answer is no pictures.
    """

    moving = True
    live = True
    length: int | None = None

    def __init__(self, url: str, *, timeout_s: float = 5.0, pause_s: float = 1.0) -> None:
        self._url = _checked(url)
        self._shown = _shown(self._url)
        self._timeout_s, self._pause_s = timeout_s, pause_s
        self._opened_s = time.monotonic()
        self._closed = threading.Event()
        self._response: http.client.HTTPResponse | None = None
        self._parts: _Parts | None = None
        self._last = b""
        try:
            self._connect()
        except _BreakError as error:
            raise UserError(f"{self._shown}: {error}") from None

    def frames(self) -> Iterator[Frame | Skip]:
        """Yield the newest picture, each time one is asked for, and a `Skip` for each interruption.

        Raises:
            UserError: the stream broke and did not come back, or gives no usable pictures.
        """
        breaks = bad = 0
        for index in count():
            found: Image | str
            try:
                found = decode_image(self._fetch(), grey=True)
                breaks = bad = 0
            except BadImage as error:
                found, bad = f"bad picture: {error}", bad + 1
            except _BreakError as error:
                found, breaks = str(error), breaks + 1
                self._disconnect()
            if self._closed.is_set():
                return
            if isinstance(found, str):
                if breaks > MAX_BREAKS or bad > MAX_BAD_PICTURES:
                    raise UserError(f"{self._shown}: {found}; no good picture in {breaks + bad} attempts")
                yield Skip(index, index, found)
                self._closed.wait(self._pause_s if breaks else 0)
            else:
                yield Frame(index, time.monotonic() - self._opened_s, found)

    def settle(self) -> None:
        """Nothing to do: the sender sees to it."""

    def close(self) -> None:
        """Close the connection."""
        self._closed.set()
        self._disconnect()

    def _fetch(self) -> bytes:
        """Return the next picture as it came; raise _BreakError."""
        if self._closed.is_set():
            raise _BreakError("closed")
        if self._response is None:
            self._connect()
        return self._snapshot() if self._parts is None else self._newest_part(self._parts)

    def _newest_part(self, parts: "_Parts") -> bytes:
        started_s = time.monotonic()
        newest: bytes | None = None
        while True:
            newest = parts.take_newest() or newest
            elapsed_s = time.monotonic() - started_s
            if newest and (elapsed_s > DRAIN_S or not self._has_more()):
                return newest
            try:
                data = self._receive(started_s)
                if not data:
                    raise _BreakError("the stream ended")
                parts.feed(data)
            except _BreakError:
                if newest:  # the next call meets the same end
                    return newest
                raise

    def _snapshot(self) -> bytes:
        started_s = time.monotonic()
        while True:
            picture = bytearray()
            while data := self._receive(started_s):
                picture += data
                if len(picture) > MAX_BYTES:
                    raise _BreakError(f"a picture of more than {MAX_BYTES // 2**20} MiB")
            self._disconnect()
            # An unchanged picture comes again after a second: whoever reads may want to stop.
            if picture != self._last or time.monotonic() - started_s > _UNCHANGED_S:
                self._last = bytes(picture)
                return self._last
            self._closed.wait(_POLL_S)
            self._connect()

    def _receive(self, started_s: float) -> bytes:
        """Return what has arrived, waiting for it; b"" at the end. A picture must not take too long."""
        if time.monotonic() - started_s > _PATIENCE * self._timeout_s:
            raise _BreakError(f"no new picture for {_PATIENCE * self._timeout_s:.0f} s")
        if self._response is None:
            raise _BreakError("closed")
        try:
            return self._response.read1(_READ_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise _BreakError(self._plain(error)) from None

    def _has_more(self) -> bool:
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        return bool(select.select([self._socket], [], [], _GAP_S)[0])

    def _connect(self) -> None:
        """Ask for the address and look at the head of the answer; raise UserError or _BreakError."""
        secure = self._url.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._connection = kind(self._url.hostname or "", self._url.port, timeout=self._timeout_s)
        try:
            self._connection.connect()
            # The connection forgets it when the server closes after the answer; the answer still reads it.
            self._socket = self._connection.sock
            self._connection.request("GET", _target(self._url), headers=_login(self._url))
            self._response = self._connection.getresponse()
            self._check(self._response)
        except (OSError, http.client.HTTPException) as error:
            self._disconnect()
            raise _BreakError(self._plain(error)) from None
        except (UserError, _BreakError):
            self._disconnect()
            raise

    def _check(self, response: http.client.HTTPResponse) -> None:
        status = response.status
        if status >= 500:
            raise _BreakError(f"the server answers {status} {response.reason}")
        if status in (401, 403):
            told = "refuses this user and password" if _login(self._url) else "asks for a user and password"
            raise UserError(f"{self._shown}: {told}; write http://user:password@host/...")
        if status == 404:
            raise UserError(f"{self._shown}: not found; OpenFlexure has its stream at {_OPENFLEXURE}")
        if 300 <= status < 400:
            place = _shown(urlsplit(response.headers.get("Location", "")))
            raise UserError(f"{self._shown}: moved to {place}; give that address")
        if status != 200:
            raise UserError(f"{self._shown}: 200 expected, the server answers {status} {response.reason}")
        kind, boundary = response.headers.get_content_type(), response.headers.get_boundary()
        if kind.startswith("multipart/") and boundary:
            self._parts = _Parts(boundary.encode("latin-1", "replace"))
        elif kind.startswith("image/"):
            self._parts = None
        else:
            raise UserError(
                f"{self._shown}: an MJPEG stream or a JPEG expected, {kind} came; give the address of the "
                f"pictures themselves (OpenFlexure: {_OPENFLEXURE})"
            )

    def _disconnect(self) -> None:
        if self._response is not None:
            self._response.close()
        self._connection.close()
        self._response = None

    def _plain(self, error: Exception) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted here ({error.verify_message}); http:// may do"
        if isinstance(error, socket.gaierror):
            return "no host of this name; check the spelling and the network"
        if isinstance(error, ConnectionRefusedError):
            return "refused; check that the camera's server runs, and the port"
        if isinstance(error, TimeoutError):
            return f"no answer for {self._timeout_s:.0f} s"
        return f"interrupted ({str(error) or type(error).__name__})"


class _Parts:
    """Cuts an MJPEG stream into pictures: bytes in, the newest whole picture out.

    Args:
        boundary: of the stream's content type; servers disagree on whether it has its dashes already.
    """

    def __init__(self, boundary: bytes) -> None:
        self._mark = b"--" + boundary.strip(b"-")
        self._data = bytearray()
        self._newest: bytes | None = None

    def feed(self, data: bytes) -> None:
        """Add what has arrived.

        Raises:
            _BreakError: a part is larger than `MAX_BYTES`.
        """
        self._data += data
        while self._take_part():
            pass
        if len(self._data) > MAX_BYTES:
            raise _BreakError(f"no end of the picture after {MAX_BYTES // 2**20} MiB")

    def take_newest(self) -> bytes | None:
        """Return the newest whole picture, once; None where there is no new one."""
        newest, self._newest = self._newest, None
        return newest

    def _take_part(self) -> bool:
        start = self._data.find(self._mark)
        head = _HEAD_END.search(self._data, max(start, 0))
        if start < 0 or head is None:
            return False
        length = _LENGTH.search(self._data, start, head.end())
        end = head.end() + int(length[1]) if length else self._data.find(self._mark, head.end())
        if not head.end() <= end <= len(self._data):
            return False
        # An empty part keeps the connection alive.
        self._newest = bytes(self._data[head.end() : end]) or self._newest
        del self._data[:end]
        return True


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")
        good = parts.scheme in ("http", "https") and parts.port != 0
        good = good and _HOST.fullmatch(parts.hostname or "") is not None
    except ValueError:
        good = False
    if not good:
        # Not shown: it may hold a password.
        raise UserError("the address of the stream is wrong: http://host:port/path expected")
    return parts


def _shown(url: SplitResult) -> str:
    """Return the address without user, password and query, which may hold a secret too."""
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"


def _target(url: SplitResult) -> str:
    return quote((url.path or "/") + (f"?{url.query}" if url.query else ""), safe="%/?:@!$&'()*+,;=~")


def _login(url: SplitResult) -> dict[str, str]:
    if url.username is None:
        return {}
    both = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return {"Authorization": "Basic " + base64.b64encode(both.encode()).decode()}
