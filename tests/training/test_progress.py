import sys

import pytest

from training import progress


def test_a_person_sees_how_far_it_is_and_a_log_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(progress.watch("ab", 2, "cells")) == ["a", "b"]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.0)
    assert list(progress.watch("abc", 3, "cells")) == ["a", "b", "c"]
    assert [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "1 of 3 cells",
        "2 of 3 cells",
    ]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(progress.watch("ab", 2, "cells")) == ["a", "b"]
    told = capsys.readouterr().err
    assert "1 of 2 cells" in told
    assert told.endswith("\r\033[K")


@pytest.mark.parametrize(("done", "told"), [(1, "3 min remain"), (3, "20 s remain"), (4, "0 s remain")])
def test_the_rest_takes_as_long_as_the_pace_so_far_says(
    done: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress.time, "monotonic", lambda: 160.0)
    assert progress.remaining(done, 4, 100.0) == told
