"""`python -m edge.lis test`: tries a connection step by step, and says in plain words what is wrong."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

from edge.config import LisConfig
from edge.lis.astm import test_message
from edge.lis.astm_link import REPLY_S, Role
from edge.lis.frame import ACK, ENQ, EOT, NAK
from edge.lis.link import Link, Outcome
from edge.lis.mapping import SiteMapping, read_mapping
from edge.lis.port import NotYet, Port, PortError, SerialOpener
from edge.lis.sender import COLLISIONS
from edge.lis.service import SenderLock, open_link, open_way, wiring
from edge.lis.trace import Trace

LISTEN_S = 1.0
SPEEDS = (300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)
SCAN_S = 2.0
"""How long each speed gets to answer."""

Say = Callable[[str], None]


def check(config: LisConfig, say: Say, *, scan: bool = False) -> bool:
    """Try the connection that the settings name; return True where all is well.

    Args:
        config: names a way to the LIS.
        say: told each step.
        scan: where a serial line does not answer, try the other usual speeds.

    Raises:
        UserError: the settings or the mapping are wrong.
    """
    mapping = read_mapping(config.lis_mapping)
    say(f"ok     mapping {config.lis_mapping}")
    lock = SenderLock(config.database)
    if config.database.parent.is_dir() and not lock.take():
        say("WRONG  the counter runs and holds the port; end it for this test (sudo systemctl stop wbc)")
        return False
    opener = open_way(config)
    try:
        with closing(opener), closing(_open(opener.open, config, say)) as port:
            say(f"ok     {opener.name} is open")
            good = _talk(port, config, mapping, say)
    except PortError as error:
        say(f"WRONG  {error}")
        return False
    finally:
        lock.free()
    if not good and scan and config.serial and "://" not in config.serial:
        _scan(config, say)
    return good


def _open(opening: Callable[[], Port], config: LisConfig, say: Say) -> Port:
    if config.lis_listen:
        say(f"...    waiting up to 30 s for the LIS to connect to {config.lis_listen}")
    end_s = time.monotonic() + 30
    while True:
        try:
            return opening()
        except NotYet:
            if time.monotonic() > end_s:
                raise


def _talk(port: Port, config: LisConfig, mapping: SiteMapping, say: Say) -> bool:
    if config.lis_folder:
        say("ok     files can be written there; whether the LIS takes them, only the LIS shows")
        return True
    if config.lis_protocol != "astm":
        say("ok     connected; HL7 has no message that only tests: release a result to see it acknowledged")
        return True
    stray = _listen(port, LISTEN_S)
    if stray.strip(bytes([ENQ])):
        say(f"WRONG  bytes come that are not of the standard: {_shown(stray)}. {_garbage(config)}")
        return False
    if stray:
        # Both bid: the other side leaves the line to us, but does not answer this ENQ.
        port.write(bytes([ENQ]))
        if ACK in _listen(port, Role.INSTRUMENT.value):  # it did answer, and now expects a frame
            port.write(bytes([EOT]))
    say(f"...    ENQ is sent; an answer may take {REPLY_S:.0f} s")
    for _ in range(1 + COLLISIONS):
        outcome, heard = _attempt(port, open_link(config, mapping), mapping)
        if outcome is not Outcome.CONTENTION:
            break
        time.sleep(Role.INSTRUMENT.value)
    good, words = _judged(outcome, heard, config)
    say(f"{'ok    ' if good else 'WRONG '} {words}")
    return good


def _listen(port: Port, wait_s: float) -> bytes:
    heard, end_s = b"", time.monotonic() + wait_s
    while time.monotonic() < end_s and len(heard) < 4096:
        heard += port.read()
    return heard


def _attempt(port: Port, link: Link, mapping: SiteMapping) -> tuple[Outcome, bytes]:
    """Send a message without content; return what became of it and all that was heard."""
    now = datetime.now(UTC)
    message = test_message(f"TEST{now:%H%M%S}", mapping, now)
    heard = b""
    port.write(bytes(link.send(message, "", time.monotonic()).data))
    while True:
        data = port.read()
        heard = (heard + data)[-4096:]
        out = link.advance(data, time.monotonic())
        port.write(bytes(out.data))
        for event in out.events:
            if event.outcome is not None:
                return event.outcome, heard


def _judged(outcome: Outcome, heard: bytes, config: LisConfig) -> tuple[bool, str]:
    noise = bytes(b for b in heard if b not in {ACK, NAK, ENQ, EOT})
    strange = f" Heard: {_shown(heard)}. {_garbage(config)}" if noise else ""
    words = {
        Outcome.RECEIVED: "the LIS answers ENQ and takes frames: the connection works",
        Outcome.BUSY: "the LIS answers NAK to ENQ: the line works, but its interface is busy or switched off",
        Outcome.CONTENTION: "each ENQ comes back: are the wires of the line joined (2 and 3), or does a "
        "converter echo?",
        Outcome.INTERRUPTED: "the LIS interrupts to send first: the line works; try again",
        Outcome.NO_ANSWER: "ENQ gets no answer." + ("" if noise else _silence(config)),
        Outcome.FELL_SILENT: "ENQ is answered, but the first frame is not: is the LIS set to ASTM E1381?",
        Outcome.REFUSED_FRAME: "ENQ is answered, but frames are refused six times (NAK: wrong checksum "
        "there). Same data bits and parity at both ends? Does a converter between change characters?",
    }
    return outcome is Outcome.RECEIVED, words.get(outcome, outcome.value) + strange


def _silence(config: LisConfig) -> str:
    if config.lis_listen or "://" in (config.serial or ""):
        return " Is this the port of the ASTM interface, and the interface started?"
    return (
        " Is the cable a null-modem cable (2 and 3 crossed), in the right socket at both ends, and the LIS's "
        "interface started? Is this the right device?"
    )


def _garbage(config: LisConfig) -> str:
    line = f"{config.serial_baud} baud, {config.serial_bits} bits, parity {config.serial_parity}"
    return f"That is what a wrong speed or parity looks like (ours: {line}), or another protocol"


def _shown(data: bytes) -> str:
    # Text may be a patient's.
    values = " ".join(f"{byte:02x}" if byte < 0x20 or byte >= 0x7F else "**" for byte in data[:16])
    return f"{values} = {Trace(ours=False).show(data[:16])}"


def _scan(config: LisConfig, say: Say) -> None:
    """Try the other speeds; say which one answers."""
    for speed in (s for s in SPEEDS if s != config.serial_baud):
        settings = replace(wiring(config), baud=speed)
        try:
            with closing(SerialOpener(config.serial or "", settings).open()) as port:
                port.write(bytes([ENQ]))
                heard = _listen(port, SCAN_S)
                port.write(bytes([EOT]))
        except PortError as error:
            say(f"...    {speed} baud: {error}")
            continue
        answers = bytes([ACK]) in heard or bytes([NAK]) in heard
        say(f"{'FOUND ' if answers else '...   '} {speed} baud: {'answers' if answers else 'no answer'}")
        if answers:
            return
