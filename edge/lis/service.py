"""The LIS as the instrument sees it: release a result, see whether it has arrived."""

import threading
import traceback
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from edge.cells import CellClass, Role
from edge.config import LisConfig
from edge.errors import UserError
from edge.lis import astm, hl7
from edge.lis.astm_link import AstmLink
from edge.lis.folder import FolderLink, FolderOpener
from edge.lis.link import Link
from edge.lis.mapping import SiteMapping, read_mapping
from edge.lis.mllp import MllpLink
from edge.lis.outbox import Entry, Outbox, State
from edge.lis.port import Listener, Opener, PortError, SerialOpener, SocketOpener, Wiring, listen_address
from edge.lis.sender import STOP_S, Compose, Sender
from edge.lock import FileLock

LOCK_S = 1.0
"""Another program that sends from the database (`send`, `test`) may end: then it is this one's turn."""
FAULT_S = 60.0
"""After a fault of its own the link begins anew."""
_ROLES = {"percent": Role.COUNTED, "absolute": Role.COUNTED, "per_100": Role.PER_100}
"""What is sent of which classes."""


def wiring(config: LisConfig) -> Wiring:
    """Return the serial settings."""
    return Wiring(
        config.serial_baud, config.serial_bits, config.serial_parity, config.serial_stop, config.serial_flow
    )


def open_way(config: LisConfig) -> Opener:
    """Return the opener of the port that the settings name; the settings must name one."""
    if config.serial and config.serial.startswith("socket://"):
        return SocketOpener(config.serial)
    if config.serial:
        return SerialOpener(config.serial, wiring(config))
    if config.lis_listen:
        return Listener(*listen_address(config.lis_listen))
    suffix = ".astm" if config.lis_protocol == "astm" else ".hl7"
    return FolderOpener(config.lis_folder or Path(), suffix)


def open_link(config: LisConfig, mapping: SiteMapping) -> Link:
    """Return how to talk on that port.

    Raises:
        UserError: the line has too few bits for the mapping's character set.
    """
    on_a_line = config.serial and not config.serial.startswith("socket://")
    if on_a_line and config.serial_bits == 7 and mapping.encoding != "ascii":
        raise UserError(
            f"serial_bits = 7 carries ASCII alone, and the LIS mapping's encoding is {mapping.encoding!r}: "
            'set 8 bits at both ends, or encoding = "ascii"'
        )
    if config.lis_folder:
        return FolderLink()
    if config.lis_protocol != "astm":
        return MllpLink(mapping.encoding)
    network = config.lis_listen or "://" in (config.serial or "")
    return AstmLink(size=config.lis_frame, byte_s=0.0 if network else wiring(config).byte_s)


def composer(protocol: str, mapping: SiteMapping) -> Compose:
    """Return what writes a message of the outbox in a protocol (`edge.config.PROTOCOLS`)."""

    def compose(box: Outbox, entry: Entry) -> list[bytes]:
        if entry.version is None:
            at = datetime.fromisoformat(entry.created)
            return astm.query_message(entry.specimen, entry.control_id, mapping, at)
        report = box.report(entry)
        order = next(iter(box.orders(entry.specimen)), None)
        if protocol == "astm":
            return astm.result_message(report, entry.control_id, mapping, order)
        return hl7.result_message(report, entry.control_id, mapping, order, law=protocol == "oul")

    return compose


class SenderLock:
    """Held by the one program that sends from a database."""

    def __init__(self, database: Path) -> None:
        file = database.resolve()  # a link to it is another name
        self._lock = FileLock(file.with_name(f"{file.name}-lis.lock"))

    def take(self) -> bool:
        """As `edge.lock.FileLock.take`.

        Raises:
            UserError: its file cannot be opened.
        """
        try:
            return self._lock.take()
        except OSError as error:
            raise UserError(
                f"{self._lock.path}: {error.strerror}; run it as the counter's user: sudo -u wbc"
            ) from None

    def free(self) -> None:
        """Let it go; safe to call twice."""
        self._lock.free()


class LisService:
    """The outbox for the main thread, and the thread *lis* that drains it.

    Args:
        config: names a way to the LIS.
        classes: of the model; each that is sent must have a code.
        notice: told of what happens, in plain words, without identifiers; never fails.

    Raises:
        UserError: the mapping cannot be read or lacks a class, or the outbox cannot be opened.
    """

    def __init__(
        self, config: LisConfig, classes: Sequence[CellClass], notice: Callable[[str], None]
    ) -> None:
        mapping = read_mapping(config.lis_mapping)
        for kind, role in _ROLES.items():
            mapping.covers(kind, (c.name for c in classes if c.role is role))
        self._needs_wbc = mapping.send == ("absolute",)
        self._database, self._notice = config.database, notice
        self._box = Outbox(config.database)
        self._lock = SenderLock(config.database)
        self._stop = threading.Event()
        self._opener = open_way(config)
        self.name = self._opener.name
        self._sender = Sender(
            config.database,
            self._opener,
            open_link(config, mapping),
            composer(config.lis_protocol, mapping),
            mapping=mapping,
            lazy=bool(config.lis_folder) or (config.lis_protocol != "astm" and not config.lis_listen),
            keep_trace=config.lis_trace,
            notice=notice,
        )
        self._thread = threading.Thread(None, self._work, "lis", daemon=True)

    def start(self) -> None:
        """Begin to send; while another program sends from this database, that one does it."""
        if isinstance(self._opener, FolderOpener):
            # A folder is not tried before there is something to send; that it is not mounted is told now.
            try:
                self._opener.open().close()
            except PortError as error:
                self._notice(f"{error}; results wait until it is")
        with suppress(UserError):  # where the database is held they go another time
            self._box.keep_orders((), patient=False)  # old ones go
        if not self._lock.take():
            self._notice("another program sends from this database; it will send this one's results")
        self._thread.start()

    def stop(self) -> None:
        """End the thread (a message under way gets a few seconds) and close; safe to call twice."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S + 7)
            if self._thread.is_alive():
                self._notice("the port did not let go in time; what was not sent waits in the outbox")
        self._lock.free()
        self._box.close()

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                if self._lock.take():
                    self._sender.run(self._stop)
                else:
                    self._stop.wait(LOCK_S)
            except UserError as error:  # words of our own, which hold no record
                self._say(str(error))
            except Exception as fault:
                # The count must go on; the outbox keeps everything.
                self._tell(fault)

    def _tell(self, fault: Exception) -> None:
        # Its words may hold a record, and with it an identifier: only its kind and place are told.
        place = traceback.extract_tb(fault.__traceback__)[-1]
        kind = f"{type(fault).__name__}, {Path(place.filename).name} line {place.lineno}"
        problem = (
            f"fault in the LIS link ({kind}); it begins anew in {FAULT_S:.0f} s, the outbox keeps what waits"
        )
        self._say(problem)

    def _say(self, problem: str) -> None:
        with suppress(UserError), Outbox(self._database) as box:
            box.set_line(problem)
        self._notice(problem)
        self._stop.wait(FAULT_S)

    def release(self, result: Mapping[str, Any], *, operator: str = "", wbc: float | None = None) -> Entry:
        """Release a result: see `Outbox.release`.

        Raises:
            UserError: also where nothing of it would be sent.
        """
        if self._needs_wbc and wbc is None:
            raise UserError(
                "the LIS mapping sends absolute counts alone: give the leukocyte count with the release"
            )
        return self._box.release(result, operator=operator, wbc=wbc)

    def entry(self, number: int) -> Entry:
        """Return a message of the outbox."""
        return self._box.entry(number)

    def messages(self, specimen: str) -> Set[int]:
        """Return the numbers of all messages about a specimen."""
        return {entry.id for entry in self._box.entries(limit=-1, specimen=specimen)}

    def state(self, specimen: str) -> dict[str, Any]:
        """Return what the page shows, ready for JSON.

        Keys: way (name of the port), problem ("" when all is well), due (next attempt, UTC, or ""), waiting
        and refused (numbers of messages), since (release of the oldest that waits, UTC, or ""), released (the
        newest message of this specimen: id, version, status, total, namings, counts (by class), state,
        changed, reason; None without one), wbc (leukocytes, 10^9/L, of the newest that waits or has arrived;
        None without), was_final (`Outbox.was_final`), orders (specimens that the LIS asks for).
        """
        line = self._box.line()
        messages = self._box.entries(limit=-1, specimen=specimen)
        newest = next(iter(messages), None)
        there = (m.wbc for m in messages if m.state in {State.WAITING, State.RECEIVED})
        released = newest and {
            "id": newest.id,
            "version": newest.version,
            "status": newest.status,
            "total": newest.total,
            "namings": newest.namings,
            "counts": newest.counts,
            "state": newest.state.value,
            "changed": newest.changed,
            "reason": newest.reason,
        }
        return {
            "way": self.name,
            "problem": line.problem,
            "due": line.due,
            "waiting": line.waiting,
            "since": line.since,
            "refused": line.refused,
            "released": released,
            "wbc": next(there, None),
            "was_final": self._box.was_final(specimen),
            "orders": [order.specimen for order in self._box.orders()],
        }
