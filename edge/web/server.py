"""The live page: a web server in its own thread. Specimen IDs travel in bodies, never in URLs or logs."""

import asyncio
import base64
import dataclasses
import errno
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import Future
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from edge.cells import Cell, CellClass, Image, Role
from edge.config import check_release, check_specimen
from edge.errors import UserError
from edge.lis.outbox import Outbox
from edge.live import Latest, View, Wishes
from edge.mosaic import MapView
from edge.preprocess import CONTEXT
from edge.report import whys
from edge.web.guard import Guard

STATIC = Path(__file__).parent / "static"
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
MAX_SIDE_PX = 960
"""Longest side of a picture on the page; a larger frame is scaled down."""
JPEG_QUALITY = 82
EVENT_INTERVAL_S = 1 / 12
"""At least this long between two pictures: the eye is content, and the Pi has other work."""
WAIT_S = 0.25
"""How long a worker thread waits for a view before it looks whether the server is closing."""
HEARTBEAT_S = 5.0
STOP_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 10.0
"""How long the count may take to answer a wish: it looks for wishes between two frames."""
OUTBOX_SHOWN = 50
CELLS_SHOWN = 50
T = TypeVar("T")


class Feed:
    """The newest view as a ready event: encoded on demand, once for all who look."""

    def __init__(self, latest: Latest, stop: threading.Event) -> None:
        self._latest, self._stop = latest, stop
        self.closing = threading.Event()
        """Set by the server when it ends, whatever the count does."""
        self._lock, self._version, self._event = threading.Lock(), 0, b""

    @property
    def closed(self) -> bool:
        """True once every event stream must end."""
        return self._stop.is_set() or self.closing.is_set()

    def after(self, seen: int, not_before_s: float) -> tuple[int, bytes | None]:
        """Wait until `not_before_s` (monotonic clock), then for a view newer than version `seen`.

        Return its version and event; (`seen`, None) after `WAIT_S` without one. Blocks its thread.
        """
        self.closing.wait(max(0.0, not_before_s - time.monotonic()))
        version, view = self._latest.get(seen, WAIT_S)
        if view is None:
            return seen, None
        with self._lock:
            if version > self._version:
                self._version, self._event = version, encode_event(view)
            return self._version, self._event


def encode_event(view: View) -> bytes:
    """Return a view as one server-sent event: state, boxes and the JPEG that they belong to.

    A label's heat (rows of percent) covers the square that the model saw: `context` times the box's longer
    side, round its centre.
    """
    event: dict[str, Any] = {"state": dict(view.state), "labels": [], "size": None, "jpeg": None}
    event["context"] = CONTEXT
    scale = 1.0
    if view.image is not None:
        scale = min(1.0, MAX_SIDE_PX / max(view.image.shape[:2]))
        size = tuple(max(1, round(length * scale)) for length in view.image.shape[1::-1])
        picture = view.image if scale == 1.0 else cv2.resize(view.image, size, interpolation=cv2.INTER_AREA)
        event["size"], event["jpeg"] = size, _jpeg(np.asarray(picture, np.uint8))
    for label in view.labels:
        box = (label.box.x, label.box.y, label.box.width, label.box.height)
        sure = None if label.confidence is None else float(label.confidence)
        shown = {"name": label.name, "confidence": sure, "number": label.number}
        heat = None if label.heat is None else np.rint(100 * label.heat).astype(int).tolist()
        rounded = [round(float(length) * scale, 1) for length in box]
        event["labels"].append({"box": rounded, **shown, "heat": heat})
    return f"data: {json.dumps(event, allow_nan=False)}\n\n".encode()


def _jpeg(image: Image) -> str:
    """Return an image as JPEG in base64."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return base64.b64encode(data.tobytes()).decode("ascii")


def encode_map(view: MapView, classes: Sequence[CellClass]) -> dict[str, Any]:
    """Return a map ready for JSON: its picture (JPEG, base64), where that lies on the slide, the cells.

    Args:
        view: the map.
        classes: of the model, in order.
    """
    cells = [
        {
            "number": cell.number,
            "name": cell.name,
            "confidence": round(cell.confidence, 3),
            "review": cell.review,
            "named": cell.namings > 0,
            "why": whys(cell, classes),
            "slide": [round(place, 1) for place in cell.slide],
            "side": round(cell.box.side, 1),
        }
        for cell in view.cells
    ]
    return {
        "jpeg": _jpeg(view.image),
        "size": list(view.image.shape[1::-1]),
        "origin": list(view.origin),
        "scale": view.scale,
        "cells": cells,
    }


def encode_cells(cells: Iterable[Cell], classes: Sequence[CellClass]) -> list[dict[str, Any]]:
    """Return cells ready for JSON, each with the sharpest crop of it (JPEG, base64).

    "instrument" is the class of which "confidence" is the probability, whatever a person named the cell.

    Args:
        cells: in the order of their counting; of more than `CELLS_SHOWN` the first.
        classes: of the model, in order.
    """
    return [
        {
            "number": cell.number,
            "name": cell.name,
            "confidence": round(cell.confidence, 3),
            "instrument": classes[int(cell.probabilities.argmax())].name,
            "review": cell.review,
            "namings": cell.namings,
            "why": whys(cell, classes),
            "source": cell.source,
            "jpeg": base64.b64encode(cell.crop).decode("ascii"),
        }
        for cell in islice(cells, CELLS_SHOWN)
    ]


def _classes(view: View) -> list[CellClass]:
    return [CellClass(c["name"], Role(c["role"])) for c in view.state["classes"]]


async def _value(request: Request, key: str) -> Any:
    """Return one value of the JSON object in the body; raises HTTPException 400."""
    try:
        return (await request.json())[key]
    except (ValueError, LookupError, TypeError, RecursionError, ClientDisconnect):
        raise HTTPException(400, f'a JSON object with "{key}" is expected') from None


async def _answer(wish: Future[Any]) -> Any:
    """Return what the count answers to a wish; raises HTTPException 400 (refused) or 503 (no answer)."""
    try:
        return await asyncio.wait_for(asyncio.wrap_future(wish), ANSWER_TIMEOUT_S)
    except UserError as error:
        raise HTTPException(400, str(error)) from None
    except (TimeoutError, asyncio.CancelledError):
        raise HTTPException(503, "the count does not answer; try again") from None


class Routes:
    """What the page can ask for."""

    def __init__(self, latest: Latest, feed: Feed, wishes: Wishes, database: Path | None) -> None:
        self._latest, self._feed, self._wishes, self._database = latest, feed, wishes, database

    async def index(self, _: Request) -> Response:
        """GET /: the page."""
        return FileResponse(STATIC / "index.html")

    async def state(self, _: Request) -> Response:
        """GET /state: the newest state; 503 before the first."""
        if (view := self._latest.get(0, 0.0)[1]) is None:
            raise HTTPException(503, "nothing has been seen yet")
        return JSONResponse(dict(view.state))

    async def events(self, _: Request) -> Response:
        """GET /events: server-sent events, until the server closes or the client goes."""
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _stream(self) -> AsyncIterator[bytes]:
        """Yield events and heartbeats; comments tell that the page is connected, and that this ends."""
        yield b": connected\n\n"
        seen, sent_s = 0, time.monotonic()
        while not self._feed.closed:
            seen, event = await run_in_threadpool(self._feed.after, seen, sent_s + EVENT_INTERVAL_S)
            if event is None and time.monotonic() - sent_s >= HEARTBEAT_S:
                event = b": heartbeat\n\n"
            if event is not None:
                yield event
                sent_s = time.monotonic()
        yield b": stopped\n\n"

    async def map(self, _: Request) -> Response:
        """GET /map: the newest map with the cells on it; 404 where there is none."""
        view = self._latest.get(0, 0.0)[1]
        if view is None or view.map is None:
            raise HTTPException(404, "no map yet")
        return JSONResponse(await run_in_threadpool(encode_map, view.map, _classes(view)))

    async def cells(self, request: Request) -> Response:
        """GET /cells?after=N: some counted cells, those that follow number N (or 0).

        With `review=1` only those that a person must look at. Their specimen stands beside them: another page
        may have begun the next one. 503 before the first state.
        """
        if (view := self._latest.get(0, 0.0)[1]) is None:
            raise HTTPException(503, "nothing has been seen yet")
        asked = request.query_params.get("after", "0")
        if not (asked.isascii() and asked.isdigit() and len(asked) < 10):
            raise HTTPException(400, '"after" is the number of a cell')
        after, all_of_them = int(asked), request.query_params.get("review") != "1"
        following = (cell for cell in view.cells[after:] if cell.review or all_of_them)
        cells = await run_in_threadpool(encode_cells, following, _classes(view))
        return JSONResponse({"specimen": view.state["specimen"], "cells": cells})

    async def name_cell(self, request: Request) -> Response:
        """POST /cells {"specimen": str, "number": int, "name": str, "namings": int}: give a cell its class.

        `namings` is what the person saw of the cell: another page may have named it meanwhile.
        """
        specimen, name = await _value(request, "specimen"), await _value(request, "name")
        number, namings = await _value(request, "number"), await _value(request, "namings")
        texts = isinstance(specimen, str) and isinstance(name, str)
        if not texts or type(number) is not int or type(namings) is not int:
            raise HTTPException(400, '"specimen" and "name" must be text, the others whole numbers')
        await _answer(self._wishes.ask_naming(specimen, number, name, namings))
        return JSONResponse({"number": number, "name": name})

    async def pause(self, request: Request) -> Response:
        """POST /pause {"paused": bool}: hold the count, or go on with it."""
        paused = await _value(request, "paused")
        if not isinstance(paused, bool):
            raise HTTPException(400, '"paused" must be true or false')
        self._wishes.pause(paused)
        return JSONResponse({"paused": paused})

    async def specimen(self, request: Request) -> Response:
        """POST /specimen {"specimen": str}: close this specimen and begin (or resume) another."""
        asked = await _value(request, "specimen")
        specimen = asked.strip(" ") if isinstance(asked, str) else ""
        try:
            check_specimen(specimen)
        except UserError as error:
            raise HTTPException(400, str(error)) from None
        self._wishes.ask_specimen(specimen)
        return JSONResponse({"specimen": specimen})

    async def release(self, request: Request) -> Response:
        """POST /release {"specimen": str, "operator": str, "wbc": number or null}: release it to the LIS."""
        specimen = await _value(request, "specimen")
        operator, wbc = await _value(request, "operator"), await _value(request, "wbc")
        texts = isinstance(specimen, str) and isinstance(operator, str)
        if not texts or not (wbc is None or type(wbc) in {int, float}):
            raise HTTPException(400, '"specimen" and "operator" must be text, "wbc" a number or null')
        try:
            check_release(operator.strip(), wbc)
        except UserError as error:
            raise HTTPException(400, str(error)) from None
        entry = await _answer(self._wishes.ask_release(specimen, operator.strip(), wbc))
        return JSONResponse({"id": entry.id})

    async def outbox(self, _: Request) -> Response:
        """GET /outbox: the newest messages to the LIS, newest first."""
        entries = await run_in_threadpool(self._with_outbox, lambda box: box.entries(OUTBOX_SHOWN))
        return JSONResponse([dataclasses.asdict(entry) for entry in entries])

    async def change_outbox(self, request: Request) -> Response:
        """POST /outbox {"id": int, "action": "resend" or "cancel", "reason": str}: act on a message."""
        number, action = await _value(request, "id"), await _value(request, "action")
        reason = await _value(request, "reason")
        if type(number) is not int or action not in {"resend", "cancel"} or not isinstance(reason, str):
            raise HTTPException(400, '"id", "action" (resend or cancel) and "reason" are expected')
        reason = "".join(c for c in reason if c.isprintable())[:200]

        def act(box: Outbox) -> None:
            if action == "resend":
                box.resend(number)
            else:
                box.cancel(number, reason)

        await run_in_threadpool(self._with_outbox, act)
        return JSONResponse({"id": number})

    def _with_outbox(self, action: Callable[[Outbox], T]) -> T:
        if self._database is None:
            raise HTTPException(404, "no way to the LIS is set")
        try:
            with Outbox(self._database) as box:
                return action(box)
        except UserError as error:
            raise HTTPException(400, str(error)) from None


def build_app(
    latest: Latest, wishes: Wishes, stop: threading.Event, password: str | None, database: Path | None = None
) -> Starlette:
    """Return the page's application; `PageServer` serves it.

    `database` holds the outbox; None without a way to the LIS. With a password every route asks for it
    (HTTP Basic, any user name). Event streams end when `stop` is set. Raises UserError on an empty password.
    """
    if password == "":
        raise UserError("the page's password is empty; give one, or none at all to serve this machine only")
    feed = Feed(latest, stop)
    routes = Routes(latest, feed, wishes, database)
    app = Starlette(
        routes=[
            Route("/", routes.index),
            Route("/events", routes.events),
            Route("/state", routes.state),
            Route("/map", routes.map),
            Route("/cells", routes.cells),
            Route("/cells", routes.name_cell, methods=["POST"]),
            Route("/pause", routes.pause, methods=["POST"]),
            Route("/specimen", routes.specimen, methods=["POST"]),
            Route("/release", routes.release, methods=["POST"]),
            Route("/outbox", routes.outbox),
            Route("/outbox", routes.change_outbox, methods=["POST"]),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(Guard, password=password)],
    )
    app.state.feed, app.state.protected, app.state.local = feed, password is not None, True
    return app


class _Uvicorn(uvicorn.Server):
    """Tells when it serves, and lets nobody hold its end up."""

    def __init__(self, app: Starlette) -> None:
        quiet: dict[str, Any] = {"log_config": None, "log_level": "warning", "access_log": False}
        lean: dict[str, Any] = {"ws": "none", "lifespan": "off", "server_header": False}
        super().__init__(uvicorn.Config(app, **quiet, **lean, timeout_graceful_shutdown=2))
        self.serving = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        await super().startup(sockets)
        self.serving.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, also for clients that no longer read: their sockets would stay open."""
        await super().shutdown(sockets)
        for connection in self.server_state.connections:
            connection.transport.abort()


class PageServer:
    """Serves the page from a thread of its own."""

    def __init__(self, app: Starlette, host: str, port: int) -> None:
        """Prepare to serve `app` (of `build_app`); port 0 takes a free one.

        Raises UserError where other machines could reach the page without a password.
        """
        app.state.local = host in LOCAL_HOSTS
        if not (app.state.local or app.state.protected):
            raise UserError(
                f"host {host} lets other machines see the page; give --password-file a file with a password, "
                "or use 127.0.0.1"
            )
        self._app, self._host, self._port = app, host, port
        self._server = _Uvicorn(app)
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(None, self._server.run, "web", (self._sockets,), daemon=True)

    @property
    def url(self) -> str:
        """Where a browser finds the page, e.g. http://127.0.0.1:8000."""
        host = socket.gethostname() if self._host in {"0.0.0.0", "::"} else self._host
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    def start(self) -> None:
        """Bind the port and serve; raises UserError where the port cannot be had."""
        self._sockets.append(self._bind())
        self._port = self._sockets[0].getsockname()[1]
        self._thread.start()
        self._server.serving.wait(STOP_TIMEOUT_S)

    def stop(self) -> None:
        """End open event streams, then the thread; safe to call twice, or without a start."""
        self._app.state.feed.closing.set()
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(STOP_TIMEOUT_S)

    def _bind(self) -> socket.socket:
        try:
            family, *_, address = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)[0]
            return socket.create_server(address[:2], family=family)
        except UnicodeError:
            raise UserError(f"host = {self._host!r}: not a name of a machine") from None
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            reason = "is taken by another program" if taken else f"cannot be opened ({error.strerror})"
            raise UserError(
                f"port {self._port} on {self._host} {reason}; use --port (make run PORT=...)"
            ) from error
