import errno
import os
import pty
import re
import socket
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import serial
from serial import rfc2217

from edge.errors import UserError
from edge.lis.port import (
    HungUp,
    Listener,
    NotYet,
    Port,
    PortError,
    SerialOpener,
    SocketOpener,
    Wiring,
    explain,
    listen_address,
)


def heard(port: Port, length: int) -> bytes:
    data = b""
    for _ in range(100):
        data += port.read()
        if len(data) >= length:
            break
    return data


@pytest.fixture
def line() -> Iterator[tuple[int, str]]:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    yield ours, os.ttyname(theirs)
    os.close(ours)
    os.close(theirs)


def test_a_serial_line_carries_all_bytes_both_ways(line: tuple[int, str]) -> None:
    ours, name = line
    port = SerialOpener(name, Wiring()).open()
    everything = bytes(range(256)) * 8
    port.write(everything)
    assert os.read(ours, 4096) == everything
    os.write(ours, everything)
    assert heard(port, len(everything)) == everything
    assert port.read() == b""
    port.close()
    port.close()


@pytest.mark.parametrize(
    "wiring",
    [
        Wiring(300, 7, "even", 2),
        Wiring(19200, 8, "odd", 1, "rtscts"),
        Wiring(115200, 8, "none", 1, "xonxoff"),
        Wiring(9600, 8, "none", 1.0, "dsrdtr"),
    ],
)
def test_every_setting_is_taken(line: tuple[int, str], wiring: Wiring) -> None:
    SerialOpener(line[1], wiring).open().close()


@pytest.mark.parametrize(
    ("wiring", "bits"),
    [(Wiring(9600), 10), (Wiring(9600, 7, "even", 1), 10), (Wiring(9600, 8, "even", 2), 12)],
)
def test_the_time_of_a_byte(wiring: Wiring, bits: int) -> None:
    assert wiring.byte_s == pytest.approx(bits / 9600)


def test_a_device_is_held_by_one_program(line: tuple[int, str]) -> None:
    port = SerialOpener(line[1], Wiring()).open()
    with pytest.raises(PortError, match="in use by another program"):
        SerialOpener(line[1], Wiring()).open()
    port.close()


def test_a_missing_device_is_told_with_those_that_are_there() -> None:
    with pytest.raises(PortError, match=r"no device /dev/ttyNone; is the cable in\? Serial devices now"):
        SerialOpener("/dev/ttyNone", Wiring()).open()


def test_a_file_is_no_serial_device(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PortError, match="no serial device"):
        SerialOpener(str(tmp_path / "file"), Wiring()).open()


def test_no_permission_names_the_group(tmp_path: Path) -> None:
    device = tmp_path / "tty"
    device.write_text("")
    told = explain(str(device), OSError(errno.EACCES, "Permission denied"))
    assert "it belongs to group root; sudo usermod -aG root USER" in told


def test_a_line_that_goes_away_is_lost_at_once() -> None:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    port = SerialOpener(os.ttyname(theirs), Wiring()).open()
    os.close(theirs)
    os.close(ours)
    with pytest.raises(PortError, match="the line was lost"):
        heard(port, 1)
    with pytest.raises(PortError, match="the line was lost"):
        port.write(b"x")
    port.close()


def test_an_unknown_url_is_told() -> None:
    with pytest.raises(PortError, match="cannot be reached"):
        SerialOpener("nonsense://x", Wiring()).open()


@pytest.mark.parametrize("error", [termios.error(5, "Input/output error"), re.error("odd"), TypeError("odd")])
def test_whatever_the_opening_raises_is_told(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("edge.lis.port.serial.serial_for_url", breaks)
    with pytest.raises(PortError, match=r"/dev/null cannot be opened"):
        SerialOpener("/dev/null", Wiring()).open()


def test_tcp_to_nobody_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(PortError, match=r"cannot be reached .*refused"):
        SocketOpener(f"socket://127.0.0.1:{port}").open()


@pytest.mark.parametrize(
    "url", ["socket://", "socket://host", "socket://host:x", "socket://:5000", "socket://h:99999"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="socket://HOST:PORT"):
        SocketOpener(url)


def test_tcp_carries_bytes_and_tells_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = SocketOpener(f"socket://127.0.0.1:{server.getsockname()[1]}").open()
        peer, _ = server.accept()
        assert port.read() == b""
        port.write(b"hello")
        assert peer.recv(10) == b"hello"
        peer.sendall(b"there")
        assert heard(port, 5) == b"there"
        peer.close()
        with pytest.raises(PortError, match="closed from the other side"):
            heard(port, 1)
        port.close()


def test_the_lis_connects_to_us_and_connects_anew() -> None:
    listener = Listener("127.0.0.1", 0)
    with pytest.raises(NotYet, match="has not connected"):
        listener.open()
    address = ("127.0.0.1", listener.port)
    first = socket.create_connection(address)
    port = listener.open()
    first.sendall(b"one")
    assert heard(port, 3) == b"one"
    second = socket.create_connection(address)
    with pytest.raises(PortError, match="another connection"):
        heard(port, 1)
    port.close()
    port = listener.open()
    second.sendall(b"two")
    assert heard(port, 3) == b"two"
    for one in (port, first, second, listener, listener):
        one.close()  # type: ignore[attr-defined]


def test_of_several_connections_the_newest_counts_and_a_dead_one_is_none() -> None:
    listener = Listener("127.0.0.1", 0)
    with pytest.raises(NotYet):
        listener.open()
    address = ("127.0.0.1", listener.port)
    older = [socket.create_connection(address) for _ in range(3)]
    newest = socket.create_connection(address)
    port = listener.open()
    port.write(b"hello")
    assert newest.recv(10) == b"hello"
    assert older[0].recv(1) == b"", "closed"
    newest.close()
    with pytest.raises(HungUp):
        heard(port, 1)
    socket.create_connection(address).close()
    with pytest.raises(NotYet):
        listener.open()
    for one in (*older, port, listener):
        one.close()  # type: ignore[attr-defined]


def test_a_machine_without_room_for_a_connection_says_so_and_does_not_spin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listener = Listener("127.0.0.1", 0)
    listener.listen()
    address = ("127.0.0.1", listener.port)
    with (
        socket.create_connection(address),
        closing(listener),
        closing(listener.open()) as port,
        socket.create_connection(address),
    ):
        full = OSError(errno.EMFILE, "Too many open files")
        monkeypatch.setattr(socket.socket, "accept", lambda _: (_ for _ in ()).throw(full))
        with pytest.raises(PortError, match="Too many open files"):
            heard(port, 1)


def test_of_connections_that_come_while_one_is_served_the_newest_counts() -> None:
    listener = Listener("127.0.0.1", 0)
    listener.listen()
    address = ("127.0.0.1", listener.port)
    with closing(listener), socket.create_connection(address), closing(listener.open()) as port:
        second = socket.create_connection(address)
        with pytest.raises(HungUp):
            heard(port, 1)
        with second, socket.create_connection(address) as third, closing(listener.open()) as newest:
            newest.write(b"hello")
            assert third.recv(10) == b"hello"
            assert second.recv(1) == b"", "closed"


def test_a_port_check_does_not_end_the_connection_of_the_lis() -> None:
    listener = Listener("127.0.0.1", 0)
    listener.listen()
    address = ("127.0.0.1", listener.port)
    lis = socket.create_connection(address)
    with closing(lis), closing(listener), closing(listener.open()) as port:
        check = socket.create_connection(address)
        threading.Timer(0.2, check.close).start()
        assert port.read() == b""
        lis.sendall(b"one")
        assert heard(port, 3) == b"one"


@pytest.mark.filterwarnings("ignore:set.*deprecated:DeprecationWarning")  # pyserial's own
def test_a_serial_line_over_the_network_carries_bytes_both_ways() -> None:
    stop = threading.Event()
    with serial.serial_for_url("loop://", timeout=0.05) as line, closing(socket.create_server(("", 0))) as at:

        def serve() -> None:
            with closing(at.accept()[0]) as peer:
                manager = rfc2217.PortManager(line, SimpleNamespace(write=peer.sendall))
                peer.settimeout(0.05)
                while not stop.is_set():
                    with suppress(TimeoutError):
                        line.write(b"".join(manager.filter(peer.recv(1024))))
                    if back := line.read(1024):
                        peer.sendall(b"".join(manager.escape(back)))

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        port = SerialOpener(f"rfc2217://127.0.0.1:{at.getsockname()[1]}", Wiring()).open()
        sent = bytes(range(256))
        port.write(sent)
        assert heard(port, 256) == sent
        stop.set()
        server.join(5)
        port.close()


def test_a_taken_address_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        listener = Listener("127.0.0.1", server.getsockname()[1])
        with pytest.raises(PortError, match="cannot be listened on"):
            listener.open()


def test_a_reader_that_stalls_does_not_hold_the_sender_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.lis.port.WRITE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = SocketOpener(f"socket://127.0.0.1:{server.getsockname()[1]}").open()
        deaf, _ = server.accept()
        with pytest.raises(PortError, match="lost"):
            port.write(b"x" * 50_000_000)
        deaf.close()
        port.close()
    assert threading.active_count() < 50


@pytest.mark.parametrize(
    ("text", "address"), [("0.0.0.0:5000", ("0.0.0.0", 5000)), ("[::1]:0", ("::1", 0)), ("pi:1", ("pi", 1))]
)
def test_an_address_to_listen_on(text: str, address: tuple[str, int]) -> None:
    assert listen_address(text) == address


@pytest.mark.parametrize("text", ["5000", ":5000", "host:", "host:x", "host:99999", ""])
def test_a_bad_address_to_listen_on(text: str) -> None:
    with pytest.raises(UserError, match="lis_listen"):
        listen_address(text)
