"""The live page's web server, in its own thread. Nothing that it is asked reaches a log."""

import errno
import socket
import threading
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from edge.errors import UserError
from edge.live import Latest, Wishes
from edge.web.guard import Guard
from edge.web.routes import STATIC, Feed, Routes

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
STOP_TIMEOUT_S = 5.0
SEND_BUFFER_BYTES = 2**17
"""What the system keeps for a slow reader: left to itself it keeps many views, old when they arrive."""


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
            bound = socket.create_server(address[:2], family=family)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # connections inherit it
            return bound
        except (UnicodeError, socket.gaierror):
            raise UserError(f"host = {self._host!r}: no machine of this name is known; use --host") from None
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise UserError(
                    f"host = {self._host!r}: not an address of this machine; --host 0.0.0.0 takes all of them"
                ) from None
            taken = error.errno == errno.EADDRINUSE
            reason = "is taken by another program" if taken else f"cannot be opened ({error.strerror})"
            raise UserError(
                f"port {self._port} on {self._host} {reason}; use --port (make run PORT=...)"
            ) from error
