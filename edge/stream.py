"""Frames from the network: an MJPEG stream, or a JPEG snapshot asked for again and again.

So OpenFlexure microscopes work: `/api/v2/streams/mjpeg`, `/api/v2/streams/snapshot`,
`/api/v3/camera/mjpeg_stream`.
"""

import base64
import http.client
import select
import time
import urllib.parse
from collections.abc import Iterator

import cv2
import numpy as np

from edge.cells import Frame, Image, Skip
from edge.errors import UserError

_MOST_BYTES = 16 * 1024 * 1024
"""Of one picture; a stream that sends more without a picture in it is broken."""
_BEGIN, _END = b"\xff\xd8\xff", b"\xff\xd9"


class UrlSource:
    """The pictures at an address; the newest each time, older ones are dropped.

    Args:
        url: http or https; user:password@ before the host gives basic authentication.
        timeout_s: without a byte for so long, the connection is broken.
        attempts: connections tried in a row before the source is given up.
        patience_s: wait before the second attempt; doubles with each further one.

    Raises:
        UserError: the address is not one, or does not answer with pictures.
    """

    moving = True
    live = True
    length: int | None = None

    def __init__(
        self, url: str, *, timeout_s: float = 5.0, attempts: int = 5, patience_s: float = 0.5
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(
                "--url: an address like http://microscope.local:5000/api/v2/streams/mjpeg expected"
            )
        self._parts, self._timeout_s = parts, timeout_s
        self._attempts, self._patience_s = attempts, patience_s
        self._shown = f"{parts.hostname}{parts.path}"
        """The address without user and password, for messages."""
        self._connection: http.client.HTTPConnection | None = None
        self._response: http.client.HTTPResponse | None = None
        self._open()

    def frames(self) -> Iterator[Frame | Skip]:
        """Yield frames, and a skip for each broken picture or connection.

        Raises:
            UserError: the connection could not be had again.
        """
        started, index = time.monotonic(), 0
        last = b""
        while True:
            try:
                data = self._newest()
            except (OSError, http.client.HTTPException) as error:
                yield Skip(index, index, f"connection broken ({error or type(error).__name__})")
                index += 1
                self._reconnect()
                continue
            if data == last:
                continue
            last = data
            image = _decode(data)
            if image is None:
                yield Skip(index, index, "not a whole JPEG picture")
            else:
                yield Frame(index, time.monotonic() - started, image)
            index += 1

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        if self._response is not None:
            self._response.close()
        if self._connection is not None:
            self._connection.close()

    def _open(self) -> None:
        """Connect and ask once.

        Raises:
            UserError: no connection, or an answer without pictures.
        """
        self.close()
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(self._parts.hostname or "", self._parts.port, timeout=self._timeout_s)
        self._buffer = b""
        try:
            self._response = response = self._ask()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise UserError(
                f"{self._shown}: no answer ({error or type(error).__name__}); see that the microscope is on "
                "and that its address is right"
            ) from None
        kind_of_answer = response.headers.get_content_type()
        pictures = kind_of_answer in ("multipart/x-mixed-replace", "image/jpeg")
        if response.status != 200 or not pictures:
            self.close()
        if response.status == 401:
            raise UserError(f"{self._shown}: asks for a password; write --url http://USER:PASSWORD@HOST/...")
        if response.status != 200 or not pictures:
            raise UserError(
                f"{self._shown}: answers {response.status} {response.reason} ({kind_of_answer}); an MJPEG "
                "stream or a JPEG picture expected"
            )
        self._is_stream = kind_of_answer != "image/jpeg"

    def _ask(self) -> http.client.HTTPResponse:
        assert self._connection is not None
        headers = {}
        if self._parts.username is not None:
            user, password = (
                urllib.parse.unquote(p or "") for p in (self._parts.username, self._parts.password)
            )
            headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        target = urllib.parse.urlunsplit(("", "", self._parts.path or "/", self._parts.query, ""))
        self._connection.request("GET", target, headers=headers)
        return self._connection.getresponse()

    def _reconnect(self) -> None:
        patience = self._patience_s
        for attempt in range(1, self._attempts + 1):
            try:
                self._open()
            except UserError:
                if attempt == self._attempts:
                    raise
                # Nothing else to wait for: no descriptor is open.
                select.select([], [], [], patience)
                patience *= 2
            else:
                return

    def _newest(self) -> bytes:
        """Return the bytes of the newest picture."""
        assert self._response is not None
        if self._is_stream:
            return self._newest_part(self._response)
        data = self._response.read(_MOST_BYTES)
        # Snapshot: the answer in hand was the first; ask for the next one.
        self._response = self._ask()
        return data

    def _newest_part(self, response: http.client.HTTPResponse) -> bytes:
        """Read until a whole picture is there, and on while more has already arrived."""
        newest = b""
        while not newest or select.select([response], [], [], 0)[0]:
            piece = response.read1(65536)
            if not piece:
                if newest:
                    return newest
                raise ConnectionError("the stream ended")
            self._buffer += piece
            while (end := self._buffer.find(_END)) >= 0:
                begin = self._buffer.rfind(_BEGIN, 0, end)
                if begin >= 0:
                    newest = self._buffer[begin : end + len(_END)]
                self._buffer = self._buffer[end + len(_END) :]
            if len(self._buffer) > _MOST_BYTES:
                raise ConnectionError("16 MiB without a picture")
        return newest


def _decode(data: bytes) -> Image | None:
    if not data.startswith(_BEGIN) or _END not in data[-4096:]:
        return None
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    return None if image is None else np.asarray(image, np.uint8)
