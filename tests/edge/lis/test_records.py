"""Wire tables of E1394 records, both ways."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.lis.frame import RESTRICTED
from edge.lis.records import Delimiters, Field, Record, build, parse

MARKS = Delimiters()
ODD = Delimiters("!", "~", "$", "%")

WIRE: list[tuple[str, tuple[Field, ...], bytes]] = [
    ("H", ("", "", "WBC-DIFF"), b"H|\\^&|||WBC-DIFF\r"),
    ("L", ("1", "N"), b"L|1|N\r"),
    ("R", ("1", ("", "", "", "NEUT%"), "57.4", "%"), b"R|1|^^^NEUT%|57.4|%\r"),
    ("P", ("1", "", ""), b"P|1\r"),
    ("O", ("1", [("", "", "", "A"), ("", "", "", "B")]), b"O|1|^^^A\\^^^B\r"),
    ("C", ("1", "I", "a|b^c\\d&e"), b"C|1|I|a&F&b&S&c&R&d&E&e\r"),
    ("C", ("1", "I", "two\rlines\x02"), b"C|1|I|two&X0D&lines&X02&\r"),
]


@pytest.mark.parametrize(("kind", "fields", "wire"), WIRE)
def test_the_table_both_ways(kind: str, fields: tuple[Field, ...], wire: bytes) -> None:
    assert build(kind, *fields, delimiters=MARKS, encoding="ascii") == wire
    header = b"" if kind == "H" else b"H|\\^&\r"
    record = parse(header + wire, "ascii")[-1]
    assert record.kind == kind
    for number, field in enumerate(fields, 3 if kind == "H" else 2):
        wanted = field if isinstance(field, list) else [field if isinstance(field, tuple) else (field,)]
        assert record.repeats(number) == wanted


def test_the_header_declares_the_delimiters() -> None:
    header = build("H", "1", delimiters=ODD, encoding="ascii")
    order = build("O", "1", ("a", "!~$%|"), delimiters=ODD, encoding="ascii")
    assert header == b"H!~$%!1\r"
    assert parse(header + order, "ascii")[1].components(3) == ("a", "!~$%|")


@pytest.mark.parametrize("four", ["||^&", "|^", "|\\^a", "|\\^ ", "|\\^\r", "|\\^é"])
def test_other_delimiters_are_refused(four: str) -> None:
    with pytest.raises(ValueError, match="four different"):
        Delimiters(*four, *[""] * (4 - len(four)))


@pytest.mark.parametrize(
    "message", [b"", b"\r\r", b"O|1\r", b"H|\\\r", b"H||||\r", b"Hello\r", b"H|\\^x\rO|1\r", b"\x00" * 50]
)
def test_what_has_no_sound_header_has_no_records(message: bytes) -> None:
    assert parse(message, "ascii") == ()


def test_fields_that_are_not_there_are_empty() -> None:
    record = Record(("O", "1", "a^b"))
    assert (record.get(3), record.get(3, 2), record.get(3, 3), record.get(99)) == ("a", "b", "", "")


@pytest.mark.parametrize("text", ["&", "&&", "&Z&", "&X0&", "&XZZ&", "a&b", "&F"])
def test_what_is_no_escape_stays(text: str) -> None:
    assert MARKS.plain(text) == text


def test_unknown_bytes_do_not_break_a_record() -> None:
    assert parse(b"H|\\^&\rP|1|\xff\r", "ascii")[1].get(3) == "\ufffd"


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60), st.sampled_from(["utf-8", "iso8859-1", "ascii"]), st.sampled_from([MARKS, ODD]))
def test_no_text_breaks_a_record_or_a_frame(text: str, encoding: str, marks: Delimiters) -> None:
    record = build("C", "1", text, "end", delimiters=marks, encoding=encoding)
    assert record.count(b"\r") == 1
    assert not RESTRICTED.intersection(record)
    header = build("H", delimiters=marks, encoding=encoding)
    read = parse(header + record, encoding)[1]
    assert read.get(4) == "end"
    if encoding == "utf-8":
        assert read.get(3) == text.encode("utf-8", "replace").decode() or max(text) >= "\udc80"
