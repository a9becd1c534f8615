import urllib.request
from pathlib import Path

import pytest

from benchmarks.endurance import endure, jpeg, stream
from edge.errors import UserError
from edge.smear import Smear


def test_the_stream_goes_forward_and_back() -> None:
    frames = [b"first", b"second", b"third"]
    seen: list[bytes] = []
    with stream(frames, fps=500) as url, urllib.request.urlopen(url, timeout=5) as answer:
        while len(seen) < 8:
            line = answer.readline().removesuffix(b"--frame\r\n").strip()
            seen += [line] if line in frames else []
    assert seen == [frames[i] for i in (0, 1, 2, 1, 0, 1, 2, 1)]


def test_the_instrument_counts_the_stream_for_so_long(tmp_path: Path) -> None:
    smear = Smear(2, 900, 480, 2)
    with stream([jpeg(smear.view(x, 0, 640, 480)) for x in range(0, 200, 5)]) as url:
        endured = endure(url, tmp_path, minutes=0.15)
    assert endured.result["frames"] > 20
    assert len(endured.memory_mb) == 1
    assert 20 < endured.memory_mb[0] < 1000


def test_an_instrument_that_ends_early_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ended after 0 minutes"):
        endure("nothing://", tmp_path, minutes=0.1)
