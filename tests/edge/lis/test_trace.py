import socket
from contextlib import closing, suppress
from pathlib import Path

import pytest

from edge.lis.frame import envelopes
from edge.lis.trace import LONGEST, Broadcast, Trace, monitor_path

MESSAGE = [b"H|\\^&|7||W\r", b"P|1|123||Doe^J\r", b"O|1|S-1||^^^DIFF\r", b"R|1|^^^NEUT%|60\r", b"L|1|N\r"]


def test_ours_shows_results_and_masks_who() -> None:
    shown = Trace(ours=True).show(b"\x05" + b"".join(envelopes(MESSAGE)) + b"\x04")
    assert shown.startswith("<ENQ><STX>1H|\\^&|7||W<CR><ETX>")
    assert "<STX>2P|*|***||***^*<CR>" in shown
    assert "<STX>3O|*|*-*||^^^****<CR>" in shown
    assert "R|1|^^^NEUT%|60<CR>" in shown
    assert shown.endswith("L|1|N<CR><ETX>08<CR><LF>\n<EOT>")


def test_a_record_cut_into_frames_stays_masked() -> None:
    shown = Trace(ours=True).show(b"\x05" + b"".join(envelopes([b"O|1|SPECIMEN-SECRET-NAME|x\r"], 8)))
    for part in ("SPECIMEN", "SECRET", "NAME", "PEC", "ECR"):
        assert part not in shown.replace("<ETB>", "").replace("<STX>", "")


def test_a_rest_of_a_record_that_begins_a_frame_is_not_taken_for_a_record() -> None:
    # Cut so that the rest begins as a header does.
    shown = Trace(ours=False).show(b"\x05\x021P|1||MUELLER\x17A0\r\n\x022H^ANNA|1957\rL|1\r\x03B1\r\n")
    assert "<STX>2*^****|****<CR>L|1<CR>" in shown
    assert "<STX>1H|1" in Trace(ours=False).show(b"\x021P|1\x03A0\r\n\x021H|1\r")


def test_of_theirs_only_headers_are_shown() -> None:
    shown = Trace(ours=False).show(b"\rH|\\^&|1\rC|1|L|Doe\rO|1|S-1\rL|1\rMSA|AA|7|Doe|Doe\rPID|1|Doe\r")
    assert "Doe" not in shown
    assert "S-1" not in shown
    assert "MSA|AA|7|***|***" in shown
    assert "H|\\^&|1" in shown


@pytest.mark.parametrize(
    ("data", "shown"), [(b"\xe4\xf6|S-1", "**|*-*"), (b"Doe", "***"), (b"oe|O|1\rH|1", "**|*|*<CR>H|1")]
)
def test_what_is_not_known_is_masked(data: bytes, shown: str) -> None:
    assert Trace(ours=True).show(data) == shown


def test_what_was_not_shown_is_forgotten() -> None:
    trace = Trace(ours=True)
    assert trace.show(b"\rR|1|60") == "<CR>R|1|60"
    trace.forget()
    assert trace.show(b"Doe\rR|1") == "***<CR>R|1"


def test_a_monitor_hears_and_its_absence_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    path = monitor_path(tmp_path / "link" / "c.sqlite")
    assert path == monitor_path(tmp_path / "c.sqlite")
    speaker = Broadcast(path)
    speaker.say("nobody hears")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as monitor:
        monitor.bind(str(path))
        speaker.say("> <ENQ>")
        assert monitor.recv(LONGEST) == b"> <ENQ>"
        for _ in range(10_000):
            speaker.say("x" * 1000)  # a monitor that hangs holds nobody up
    speaker.close()


def test_a_monitor_that_is_slow_gets_every_line(tmp_path: Path) -> None:
    path = tmp_path / "monitor"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as monitor, closing(Broadcast(path)) as lines:
        lines.say("nobody is there")
        monitor.bind(str(path))
        monitor.setblocking(False)
        for number in range(300):
            lines.say(str(number))
        heard = []
        for _ in range(100):
            with suppress(BlockingIOError):
                while True:
                    heard.append(monitor.recv(100).decode())
            lines.say("")
    assert [line for line in heard if line] == [str(number) for number in range(300)]
