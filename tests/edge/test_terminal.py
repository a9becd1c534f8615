import io
import os
from contextlib import suppress
from typing import Any

import pytest
from rich.console import Console

from edge.report import NOTICE
from edge.terminal import LiveTable, PlainLines, console, open_display, table


@pytest.fixture
def state() -> dict[str, Any]:
    return {
        "specimen": "SECRET-1",
        "total": 8,
        "target": 100,
        "review": 2,
        "frames": 40,
        "fields": 3,
        "skipped": 1,
        "lost": 7,
        "empty": 3,
        "gated": {"out of focus": 12, "too crowded": 1},
        "rim": False,
        "message": "stage lost",
        "classes": [
            {"name": "immature_granulocyte", "role": "counted", "count": 6}
            | {"percent": 75.0, "low": 34.9, "high": 96.8, "per_100": None},
            {"name": "erythroblast", "role": "reported per 100", "count": 2}
            | {"percent": None, "low": None, "high": None, "per_100": 25.0},
        ],
    }


def printed(state: dict[str, Any]) -> str:
    out = io.StringIO()
    Console(file=out, width=100).print(table(state))
    return out.getvalue()


def test_no_wish_for_colours_makes_a_log_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(open_display(None), PlainLines)


def test_the_table_shows_counts_limits_and_what_is_wrong(state: dict[str, Any]) -> None:
    text = " ".join(printed(state).split())
    for part in (
        "8 of 100",
        "immature granulocyte",
        "75.0",
        "34.9-96.8",
        "25.0 per 100",
        "images without a cell 3, skipped 1",
        "not counted from: out of focus 12, too crowded 1, stage lost 7",
        "stage lost",
    ):
        assert part in text


def test_a_target_of_this_run_that_was_passed_before_is_no_part_of_the_title(state: dict[str, Any]) -> None:
    assert "8 cells" in printed(state | {"target": 5})
    assert "8 of 8 cells" in printed(state | {"target": 8})
    assert " 0 cells" in printed(state | {"target": None, "total": 0})


def test_a_rim_that_is_left_out_is_told(state: dict[str, Any]) -> None:
    assert "rim" not in printed(state)
    assert "without the black rim" in " ".join(printed(state | {"rim": True}).split())


def test_a_pipe_gets_lines_and_the_table_but_no_identifier(state: dict[str, Any]) -> None:
    out = io.StringIO()
    with PlainLines(Console(file=out, width=100)) as display:
        for frames in range(40, 60):
            display.show(state | {"frames": frames})
    text = out.getvalue()
    assert text.count("gated ") == 1
    assert "75.0" in text
    assert NOTICE in text
    assert "SECRET" not in text


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_a_pipe_gets_the_letters_that_it_has(state: dict[str, Any], encoding: str) -> None:
    raw = io.BytesIO()
    pipe = io.TextIOWrapper(raw, encoding)
    with PlainLines(Console(file=pipe, width=100)) as display:
        display.show(state | {"message": "skipped \N{LATIN SMALL LETTER L WITH STROKE}.jpg"})
    text = raw.getvalue().decode(encoding)
    assert "75.0" in text
    assert NOTICE in text
    assert ("\N{BOX DRAWINGS LIGHT VERTICAL}" in text) is (encoding == "utf-8")


def test_names_are_shown_as_they_are(state: dict[str, Any]) -> None:
    odd = state | {"message": "skipped a[low]/b[/c].jpg :smile:", "specimen": "S[1]"}
    out = io.StringIO()
    with PlainLines(Console(file=out, width=100)) as display:
        display.show(odd)
    assert out.getvalue().count(odd["message"]) == 2
    out = io.StringIO()
    with LiveTable(console(file=out, width=100, force_terminal=True), 50) as live:
        live.show(odd)
    assert odd["message"] in out.getvalue()
    assert "S[1]: 8 of 100 cells" in out.getvalue()


def test_a_terminal_that_is_closed_ends_no_count(state: dict[str, Any]) -> None:
    near, far = os.openpty()
    shown = os.fdopen(far, "w")
    with LiveTable(console(file=shown, force_terminal=True), 50) as display:
        display.show(state)
        os.close(near)
    with suppress(OSError):
        shown.close()


def test_a_terminal_gets_a_progress_bar(state: dict[str, Any]) -> None:
    out = io.StringIO()
    with LiveTable(Console(file=out, width=100, force_terminal=True), 50) as display:
        display.show(state | {"frames": 10, "skipped": 0})
        display.show(state | {"frames": 34, "skipped": 0})
    assert "25/50" in out.getvalue()
    assert "SECRET-1: 8 of 100 cells" in out.getvalue()
