import pytest

from edge.lis.text import is_control, safe_encoding, spell


@pytest.mark.parametrize(
    ("text", "encoding", "spelt"),
    [
        ("Müller", "latin-1", "Müller"),
        ("Müller, Straße", "ascii", "Muller, Strasse"),
        ("Łódź \u2013 5 µm", "ascii", "Lodz - 5 um"),
        ("Łódź", "cp1250", "Łódź"),
        ("中", "utf-8", "中"),
        ("\U0010fffd", "ascii", "?"),
    ],
)
def test_what_the_character_set_lacks_is_written_in_others(text: str, encoding: str, spelt: str) -> None:
    assert spell(text, encoding) == spelt


@pytest.mark.parametrize("character", ["\0", "\r", "\n", "\x1f", "\x7f", "\x85"])
def test_control_characters_are_known(character: str) -> None:
    assert is_control(character)
    assert not is_control("ä")


@pytest.mark.parametrize(
    ("name", "plain"), [("latin-1", "iso8859-1"), ("UTF8", "utf-8"), ("Windows-1252", "cp1252")]
)
def test_a_safe_character_set_is_named_plainly(name: str, plain: str) -> None:
    assert safe_encoding(name) == plain


@pytest.mark.parametrize(
    "name", ["shift_jis", "gb18030", "utf-16", "utf-7", "iso2022_jp", "rot13", "nonsense", ""]
)
def test_one_that_could_hide_a_delimiter_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        safe_encoding(name)
