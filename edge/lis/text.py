"""Characters on the way to the LIS: what its character set lacks is written in others, by rule."""

import codecs
import re
import unicodedata

from anyascii import anyascii


def spell(text: str, encoding: str) -> str:
    """Return `text` in characters that `encoding` has; others in the nearest ASCII ("Łódź" in ascii: "Lodz").

    What has no ASCII either becomes `?`.
    """
    if text.isascii():
        return text
    return "".join(c if _fits(c, encoding) else anyascii(c) or "?" for c in text)


def _fits(character: str, encoding: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def is_control(character: str) -> bool:
    """Tell whether a character is C0, DEL or C1: none may stand in a record as it is."""
    return unicodedata.category(character) == "Cc"


_SAFE = re.compile(r"ascii|utf-8|iso8859-\d+|cp125\d|cp437|cp850|cp858|cp866|koi8-[rut]|mac-roman")
"""ASCII keeps its bytes, and no byte of a longer character looks like a delimiter."""


def safe_encoding(encoding: str) -> str:
    """Return the plain name of a character set that hides no delimiter or control character in a longer one.

    Raises:
        ValueError: it is unknown, or not among those.
    """
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        name = ""
    if not _SAFE.fullmatch(name):
        raise ValueError(f"character set {encoding!r}; ascii, utf-8, latin-1, cp1252 or the like expected")
    return name
