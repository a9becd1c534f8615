"""A bad line in virtual time: our link sends, a receiver written here (every second time: ours) takes.

    python -m tests.edge.lis.schedule 100000 [FIRST]

runs as many schedules as it is told, from seed FIRST (0); the tests run the first of them.

A reply of E1381 is one byte without a number, so no sender can tell an ACK that the line made up from
the receiver's; and its checksum, a sum, misses one in 256 of the frames with several errors. The line of
`bad_line` therefore loses, delays, keeps back, doubles and spoils everything, but makes up no ACK, EOT or
ENQ, and spoils a frame in one place. That of `wild_line` makes up anything; there only rest is promised.
"""

import heapq
import random
import sys
import time
from dataclasses import dataclass, field

from edge.lis.astm_link import AstmLink, Role, State
from edge.lis.frame import ACK, ENQ, EOT, NAK, STX
from edge.lis.link import Outcome
from tests.edge.lis.receiver import Receiver

FAULTS_END_S = 300.0
PATIENCE_S = 900.0
"""Long enough for every timer after the faults have ended."""
PERILOUS = (ACK, EOT, ENQ)


class OurReceiver(Receiver):
    """The same, but for the link, which is ours."""

    def __init__(self) -> None:
        super().__init__()
        self.link = AstmLink(Role.HOST)

    def hear(self, data: bytes, now_s: float) -> bytes:
        out = self.link.advance(data, now_s)
        for event in out.events:
            if event.message:
                self._message(event.message.split(b"\r"))
        return bytes(out.data)

    def late(self, now_s: float) -> bytes:
        return self.hear(b"", now_s)

    @property
    def deadline_s(self) -> float | None:
        return self.link.deadline_s


def message(name: str, records: int) -> list[bytes]:
    body = [b"R|" + b"%d" % n * 60 + b"\r" for n in range(records)]
    return [b"H|\\^&|%s\r" % name.encode(), *body, b"L|1\r"]


@dataclass
class Line:
    """Carries bytes both ways, in order, with the faults of its dice."""

    dice: random.Random
    loss: float
    spoil: float
    burst: float
    delay_s: float
    queue: list[tuple[float, int, bool, bytes]] = field(default_factory=list)
    count: int = 0
    last_s: dict[bool, float] = field(default_factory=lambda: {True: 0.0, False: 0.0})
    pulled: tuple[float, float] = (0.0, 0.0)
    stalled: tuple[float, float] = (0.0, 0.0)
    """Meanwhile a device server keeps all bytes back, then delivers them at once."""

    def carry(self, data: bytes, now_s: float, *, to_receiver: bool) -> None:
        if now_s < FAULTS_END_S:
            data = self._spoilt(data, to_receiver)
            if self.pulled[0] <= now_s < self.pulled[1]:
                return
        while data:
            length = self.dice.randint(1, len(data)) if self.dice.random() < 0.5 else len(data)
            part, data = data[:length], data[length:]
            leaves_s = self.stalled[1] if self.stalled[0] <= now_s < self.stalled[1] else now_s
            arrival_s = max(leaves_s + self.dice.uniform(0, self.delay_s), self.last_s[to_receiver])
            self.last_s[to_receiver] = arrival_s
            self.count += 1
            heapq.heappush(self.queue, (arrival_s, self.count, to_receiver, part))

    def _spoilt(self, data: bytes, to_receiver: bool) -> bytes:
        if self.dice.random() < self.burst:
            return b""
        # A doubled reply or ENQ brings an ACK too many: a made up one.
        twice = self.spoil if to_receiver else 0.0
        chance = self.loss + self.spoil + twice
        if self.dice.random() > 1 - (1 - chance) ** len(data):
            return data
        at, fault = self.dice.randrange(len(data)), self.dice.uniform(0, chance)
        byte = data[at : at + 1]
        if fault < self.loss:
            byte = b""
        elif fault < self.loss + self.spoil or byte[0] == ENQ:
            byte = bytes([self._made_up()])
        else:
            byte *= 2
        return data[:at] + byte + data[at + 1 :]

    def _made_up(self) -> int:
        byte = self.dice.randrange(256)
        return 0x7F if byte in PERILOUS else byte


def bad_line(seed: int) -> tuple[Receiver, list[str], int]:
    """Send a few messages over a bad line until it has become good again.

    Returns the receiver, the messages' names in order, and how many attempts were needed. Raises
    AssertionError where a link hangs past its timers.
    """
    dice = random.Random(seed)
    worst = dice.choice([0.0, 0.001, 0.004, 0.02])
    line = Line(
        dice,
        loss=dice.choice([0.0, worst]),
        spoil=dice.choice([0.0, worst]),
        burst=dice.choice([0.0, 0.02, 0.2]),
        delay_s=dice.choice([0.0, 0.05, 0.4]),
    )
    start_s = dice.uniform(0, 100)
    line.pulled = (start_s, start_s + dice.choice([0, 1, 20, 60]))
    start_s = dice.uniform(0, 100)
    line.stalled = (start_s, start_s + dice.choice([0, 0, 5, 20, 60]))
    names = [f"M{n}" for n in range(dice.randint(1, 4))]
    receiver = OurReceiver() if seed % 2 else Receiver()
    attempts = _run(dice, line, names, receiver)
    return receiver, names, attempts


def _run(dice: random.Random, line: Line, names: list[str], receiver: Receiver) -> int:
    link, waiting, sizes = AstmLink(size=dice.choice([16, 60, 240])), list(names), {}
    now_s, attempts, busy = 0.0, 0, False
    while waiting or line.queue:
        assert now_s < FAULTS_END_S + PATIENCE_S, (waiting, link.state)
        if waiting and not busy and link.ready(now_s):
            size = sizes.setdefault(waiting[0], dice.randint(0, 9))
            line.carry(bytes(link.send(message(waiting[0], size), "", now_s).data), now_s, to_receiver=True)
            attempts, busy = attempts + 1, True
        now_s = _next_s(line, link, receiver, now_s)
        to_link = b""
        while line.queue and line.queue[0][0] <= now_s:
            _, _, to_receiver, part = heapq.heappop(line.queue)
            if to_receiver:
                line.carry(receiver.hear(part, now_s), now_s, to_receiver=False)
            else:
                to_link += part
        line.carry(receiver.late(now_s), now_s, to_receiver=False)
        gone = now_s < FAULTS_END_S and dice.random() < 0.001
        out = link.lost() if gone else link.advance(to_link, now_s)
        line.carry(bytes(out.data), now_s, to_receiver=True)
        for event in out.events:
            busy = False
            if event.outcome is Outcome.RECEIVED:
                waiting.pop(0)
    whole = [b"".join(message(name, sizes[name])).rstrip(b"\r").split(b"\r") for name in names]
    assert receiver.messages == whole, receiver.messages
    return attempts


def _next_s(line: Line, link: AstmLink, receiver: Receiver, now_s: float) -> float:
    """Return when something happens next: bytes arrive, a timer ends, the link may bid again."""
    times = [t for t in (link.deadline_s, receiver.deadline_s) if t is not None]
    if line.queue:
        times.append(line.queue[0][0])
    if link.state is State.IDLE and not link.ready(now_s):
        times.append(link._hold_s)
    # A hair later: sums of floats may fall short of a deadline.
    return max(min(times, default=now_s + 1.0), now_s) + 1e-6


def wild_line(seed: int) -> None:
    """Let two links talk over a line that makes anything up; then be silent: both must come to rest."""
    dice = random.Random(seed)
    ends = [AstmLink(size=dice.choice([8, 240])), AstmLink(size=60)]
    now_s = 0.0
    pending = [b"", b""]
    for _ in range(60):
        now_s += dice.choice([0, 0.1, 1, 5, 10, 15, 30])
        for at, link in enumerate(ends):
            if dice.random() < 0.3 and link.ready(now_s):
                pending[1 - at] += bytes(link.send(message("W", 3), "", now_s).data)
            noise = bytes(dice.choice([ENQ, ACK, NAK, EOT, STX, 49, dice.randrange(256)]) for _ in range(3))
            heard = dice.choice([b"", noise, pending[at], pending[at] * 2, pending[at][1:]])
            pending[at] = b""
            pending[1 - at] += bytes(link.advance(heard, now_s).data)
    for link in ends:
        for _ in range(8):
            now_s += 31
            link.advance(b"", now_s)
        assert link.state is State.IDLE
        assert link.ready(now_s)


def main() -> None:
    """Run many schedules; print what they did."""
    total, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    started_s = time.monotonic()
    messages = repeats = attempts = 0
    for seed in range(first, first + total):
        receiver, names, tries = bad_line(seed)
        assert receiver.taken == names, (seed, receiver.taken, names)
        messages, repeats, attempts = messages + len(names), repeats + receiver.repeats, attempts + tries
        wild_line(seed)
        if seed % 1000 == 999:
            print(f"{seed + 1 - first} schedules, {time.monotonic() - started_s:.0f} s", flush=True)
    print(
        f"{total} schedules of a bad line and {total} of a wild one: {messages} messages in {attempts} "
        f"attempts, every one taken exactly once and in order; {repeats} repeats were recognised"
    )


if __name__ == "__main__":
    main()
