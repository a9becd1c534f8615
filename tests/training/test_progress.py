import sys

import pytest

from training import progress


def test_a_person_sees_how_far_it_is_and_a_log_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(progress.watch("ab", 2, "cells")) == ["a", "b"]
    assert capsys.readouterr().err == ""
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
