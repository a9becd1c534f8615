"""Ports: where the bytes go. A serial line (pyserial), a connection to a server, or one from a client."""

import errno
import grp
import os
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import serial
from serial.tools import list_ports

from edge.errors import UserError

READ_S = 0.1
"""A read returns after this long without a byte."""
WRITE_S = 10.0
"""Flow control or a full network may hold a write up this long."""
CONNECT_S = 5.0
ACCEPT_S = 1.0
CHUNK = 65_536


class PortError(Exception):
    """The port cannot be had, or was lost: what a person can do is in the message."""


class NotYet(PortError):
    """The other side has not come; the opening itself has waited for it."""


class HungUp(PortError):
    """The other side, which comes to us, has ended its connection; it will come again."""


class Closed(PortError):
    """The other side has ended the connection that we had opened."""


class Port(Protocol):
    """An open port; every method raises PortError once it is lost."""

    def read(self) -> bytes:
        """Return what came in, waiting a moment for it; b"" where nothing did."""
        ...

    def write(self, data: bytes) -> None:
        """Send all of it."""
        ...

    def close(self) -> None:
        """Let the port go; safe to call twice."""
        ...


class Opener(Protocol):
    """Opens a port again and again; knows its name."""

    name: str

    def open(self) -> Port:
        """Return the open port; raises PortError in plain words."""
        ...

    def close(self) -> None:
        """Let go of what is held between two ports."""
        ...


@dataclass(frozen=True, slots=True)
class Wiring:
    """Settings of a serial line."""

    baud: int = 9600
    bits: int = 8
    parity: str = "none"
    """none, even, odd, mark or space."""
    stop: float = 1
    flow: str = "none"
    """none, rtscts, dsrdtr or xonxoff."""

    @property
    def byte_s(self) -> float:
        """Time that a byte takes on the line."""
        return (1 + self.bits + (self.parity != "none") + self.stop) / self.baud


class SerialOpener:
    """A serial device or another pyserial URL (`rfc2217://host:port`)."""

    def __init__(self, url: str, wiring: Wiring) -> None:
        self.name, self._wiring = url, wiring

    def open(self) -> Port:
        """Open the port for ourselves alone."""
        wiring = self._wiring
        settings = {
            "baudrate": wiring.baud,
            "bytesize": wiring.bits,
            "parity": wiring.parity[0].upper(),
            "stopbits": wiring.stop,
            "timeout": READ_S,
        }
        if not self.name.startswith("rfc2217://"):  # for which pyserial knows none
            settings["write_timeout"] = WRITE_S
        flows = {name: wiring.flow == name for name in ("rtscts", "dsrdtr", "xonxoff")}
        # Another program on the same device would take bytes away from us.
        exclusive = {} if "://" in self.name else {"exclusive": True}
        try:
            return SerialPort(serial.serial_for_url(self.name, **settings, **flows, **exclusive))
        except Exception as error:
            # pyserial lets out whatever its parts raise: termios.error where a device goes at this moment.
            raise PortError(explain(self.name, error)) from None

    def close(self) -> None:
        """Nothing is held."""


class SerialPort:
    """An open pyserial port."""

    def __init__(self, port: Any) -> None:
        self._port = port

    def read(self) -> bytes:
        """Return what came in."""
        with self._told():
            first: bytes = self._port.read(1)
            rest = self._port.in_waiting if first else 0
            return first + self._port.read(min(CHUNK, rest)) if rest else first

    def write(self, data: bytes) -> None:
        """Hand all of it to the line."""
        with self._told():
            self._port.write(data)

    def close(self) -> None:
        """Let the port go."""
        with suppress(serial.SerialException, OSError):
            self._port.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except serial.SerialTimeoutException:
            raise PortError("the other end takes no bytes (flow control?)") from None
        except (serial.SerialException, OSError, TypeError, AttributeError) as error:
            # pyserial lets TypeError out where another thread or the system closed the device.
            gone = "returned no data" in str(error)
            why = "its device is gone, or another program reads from it" if gone else error
            raise PortError(f"the line was lost: {why}") from None


class SocketOpener:
    """A TCP connection to the LIS, `socket://host:port`.

    Not pyserial's: that one leaves Nagle's algorithm on, which holds each ENQ back by 40 ms.
    """

    def __init__(self, url: str) -> None:
        self.name = url
        try:
            parts = urlsplit(url)
            self._address = (parts.hostname or "", parts.port or 0)
        except ValueError:
            self._address = ("", 0)
        if not all(self._address):
            raise UserError(f"serial = {url!r}; socket://HOST:PORT expected")

    def open(self) -> Port:
        """Connect."""
        try:
            return SocketPort(socket.create_connection(self._address, timeout=CONNECT_S))
        except (OSError, UnicodeError) as error:
            raise PortError(explain(self.name, error)) from None

    def close(self) -> None:
        """Nothing is held."""


class Listener:
    """A TCP server for one LIS at a time, where the LIS connects to the instrument."""

    def __init__(self, host: str, port: int) -> None:
        self.name = f"{host}:{port}"
        self._address = (host, port)
        self._server: socket.socket | None = None
        self._next: socket.socket | None = None
        """A connection that came while another was served."""

    @property
    def port(self) -> int:
        """The port that is listened on; another than asked for where that was 0."""
        return int(self._server.getsockname()[1]) if self._server else self._address[1]

    def open(self) -> Port:
        """Return the newest connection of a LIS; raises PortError while none has come."""
        if self._next is None:
            self._next = self._newest(ACCEPT_S)
        else:
            self.newer()
        connection, self._next = self._next, None
        if connection is None:
            raise NotYet(f"the LIS has not connected to {self.name} yet")
        return SocketPort(connection, self)

    def newer(self) -> bool:
        """Tell whether a LIS has opened another connection; one that ends at once (a port check) is none."""
        connection = self._newest(0, grace_s=ACCEPT_S)
        if connection is not None:
            if self._next is not None:
                self._next.close()
            self._next = connection
        return connection is not None

    def listen(self) -> socket.socket:
        """Let a LIS connect from now on; raises PortError where that cannot be."""
        if self._server is None:
            family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
            try:
                self._server = socket.create_server(self._address, family=family)
            except (OSError, UnicodeError) as error:
                raise self._not_listening(error) from None
        return self._server

    def _not_listening(self, error: Exception) -> PortError:
        # What Python adds to the system's words names the address again.
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        return PortError(f"{self.name} cannot be listened on ({why}); use another lis_listen")

    def _newest(self, wait_s: float, *, grace_s: float = 0.0) -> socket.socket | None:
        """Wait a moment for a connection; a LIS has given up those that it opened before its last one.

        Return None where none comes, or where it is ended within `grace_s`.
        """
        server = self.listen()
        server.settimeout(wait_s)
        connection = None
        try:
            while True:
                newer, _ = server.accept()
                server.settimeout(0)
                if connection is not None:
                    connection.close()
                connection = newer
        except (TimeoutError, BlockingIOError, ConnectionAbortedError):
            pass  # no more have come
        except OSError as error:
            if connection is None:
                raise self._not_listening(error) from None
        if connection is None:
            return None
        connection.settimeout(0)
        select.select([connection], [], [], grace_s)
        try:
            dead = not connection.recv(1, socket.MSG_PEEK)
        except OSError as error:
            dead = not isinstance(error, BlockingIOError)
        if dead:
            connection.close()
        return None if dead else connection

    def close(self) -> None:
        """Listen no longer."""
        for held in filter(None, (self._next, self._server)):
            held.close()
        self._next = self._server = None


class SocketPort:
    """An open connection; one that a LIS opened ends when it opens another (it may have been restarted)."""

    def __init__(self, connection: socket.socket, listener: Listener | None = None) -> None:
        self._connection, self._listener = connection, listener
        self._watched = [connection, listener.listen()] if listener else [connection]
        connection.settimeout(WRITE_S)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read(self) -> bytes:
        """Return what came in."""
        try:
            ready, _, _ = select.select(self._watched, [], [], READ_S)
            data = self._connection.recv(CHUNK) if self._connection in ready else None
        except (OSError, ValueError) as error:
            raise PortError(f"the connection was lost ({error})") from None
        if data == b"":
            kind = HungUp if self._listener else Closed
            raise kind("the connection was closed from the other side")
        if data is None and ready and self._listener and self._listener.newer():
            raise HungUp("the LIS opened another connection")
        return data or b""

    def write(self, data: bytes) -> None:
        """Send all of it."""
        try:
            self._connection.sendall(data)
        except OSError as error:
            raise PortError(f"the connection was lost ({error.strerror or error})") from None

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


def explain(url: str, error: Exception) -> str:
    """Return why a port could not be opened, and what to do, in plain words."""
    number = getattr(error, "errno", None)
    if "://" in url:
        return f"{url} cannot be reached ({error}); is the LIS on, the address right, a firewall between?"
    if number == errno.ENOENT or not os.path.exists(url):
        there = ", ".join(sorted(p.device for p in list_ports.comports())) or "none"
        return f"no device {url}; is the cable in? Serial devices now: {there}"
    if number == errno.EACCES:
        return f"no permission for {url}: {_who_may(Path(url))}"
    busy = number in {errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK} or "exclusively lock" in str(error)
    if busy:
        return f"{url} is in use by another program; end that, or give another port"
    if "Could not configure port" in str(error) or number == errno.EINVAL:
        return f"{url} is no serial device, or does not take these settings ({error})"
    return f"{url} cannot be opened ({error})"


def _who_may(device: Path) -> str:
    try:
        group = grp.getgrgid(device.stat().st_gid).gr_name
    except (OSError, KeyError):
        return "ask the administrator"
    return f"it belongs to group {group}; sudo usermod -aG {group} USER, then log in again"


def listen_address(text: str) -> tuple[str, int]:
    """Return host and port of "host:port"; raises UserError."""
    host, _, port = text.rpartition(":")
    if not (host and port.isdecimal() and 0 <= int(port) < 65536):
        raise UserError(
            f"lis_listen = {text!r}; an address of this machine and a port expected, as 0.0.0.0:5000"
        )
    return host.strip("[]"), int(port)
