"""What the page can ask for. Specimen IDs travel in bodies, never in URLs."""

import asyncio
import dataclasses
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from edge.cells import CellClass, Role
from edge.config import check_release, check_specimen
from edge.errors import UserError
from edge.lis.outbox import Outbox
from edge.live import Latest, View, Wishes
from edge.web.encode import encode_cells, encode_decisions, encode_event, encode_map

STATIC = Path(__file__).parent / "static"
EVENT_INTERVAL_S = 1 / 12
"""At least this long between two pictures: the eye is content, and the Pi has other work."""
WAIT_S = 0.25
"""How long a worker thread waits for a view before it looks whether the server is closing."""
HEARTBEAT_S = 5.0
ANSWER_TIMEOUT_S = 10.0
"""How long the count may take to answer a wish: it looks for wishes between two frames."""
OUTBOX_SHOWN = 50
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


def _classes(view: View) -> list[CellClass]:
    return [CellClass(c["name"], Role(c["role"])) for c in view.state["classes"]]


def _numbers(text: str) -> list[int]:
    """Return the numbers of cells that a query names; raises HTTPException 400."""
    numbers = text.split(",")
    if not all(number.isascii() and number.isdigit() and len(number) < 10 for number in numbers):
        raise HTTPException(400, '"after" is the number of a cell, "only" some of them')
    return [int(number) for number in numbers]


async def _value(request: Request, key: str) -> Any:
    """Return one value of the JSON object in the body; raises HTTPException 400."""
    try:
        return (await request.json())[key]
    except (ValueError, LookupError, TypeError, RecursionError, ClientDisconnect):
        told = f'a JSON object with "{key}" is expected; load the page again'
        raise HTTPException(400, told) from None


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
        """GET /cells?after=N: some counted cells, those that follow number N (or 0); ?only=N,N,...: these.

        With `review=1` only those that a person must look at; with `brief=1` all that follow, without their
        pictures. Their specimen stands beside them: another page may have begun the next one. 503 before the
        first state.
        """
        if (view := self._latest.get(0, 0.0)[1]) is None:
            raise HTTPException(503, "nothing has been seen yet")
        asked = request.query_params
        after, only = _numbers(asked.get("after", "0")), _numbers(asked.get("only", "0"))
        if "only" in asked:
            found = [cell for cell in view.cells if cell.number in {*only}]
        else:
            found = [c for c in view.cells[after[0] :] if c.review or asked.get("review") != "1"]
        encode = encode_decisions if asked.get("brief") == "1" else encode_cells
        cells = await run_in_threadpool(encode, found, _classes(view))
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
        """POST /release: release the result of "specimen" (text) to the LIS.

        "counts" (an object: cells by class), "review" (a whole number) and "status" (text) are what the
        person signs; they may have changed meanwhile. "operator" is text, "wbc" a number or null.
        """
        specimen, operator = await _value(request, "specimen"), await _value(request, "operator")
        counts, review = await _value(request, "counts"), await _value(request, "review")
        status, wbc = await _value(request, "status"), await _value(request, "wbc")
        texts = all(isinstance(text, str) for text in (specimen, operator, status))
        if not texts or not (wbc is None or type(wbc) in {int, float}):
            raise HTTPException(400, '"specimen", "operator", "status" must be text, "wbc" a number or null')
        if not isinstance(counts, dict) or type(review) is not int:
            raise HTTPException(400, '"counts" must be an object, "review" a whole number')
        try:
            check_release(operator.strip(), wbc)
        except UserError as error:
            raise HTTPException(400, str(error)) from None
        signed = specimen, counts, review, status
        entry = await _answer(self._wishes.ask_release(*signed, operator=operator.strip(), wbc=wbc))
        return JSONResponse({"id": entry.id})

    async def outbox(self, _: Request) -> Response:
        """GET /outbox: messages to the LIS, as `edge.lis.outbox.Outbox.entries` chooses them."""
        entries = await run_in_threadpool(self._with_outbox, lambda box: box.entries(OUTBOX_SHOWN))
        return JSONResponse([dataclasses.asdict(entry) for entry in entries])

    async def change_outbox(self, request: Request) -> Response:
        """POST /outbox {"id": int, "action": "resend" or "cancel", "reason": str}: act on a message."""
        number, action = await _value(request, "id"), await _value(request, "action")
        reason = await _value(request, "reason")
        if type(number) is not int or action not in ("resend", "cancel") or not isinstance(reason, str):
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
