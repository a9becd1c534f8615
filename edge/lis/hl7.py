"""HL7 v2.5.1: a report as ORU^R01 or OUL^R22 (IHE LAW, LAB-29), and acknowledgements."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from edge.lis.content import Order, comments, model_identity, observations, processing
from edge.lis.mapping import SiteMapping, Test, filled
from edge.lis.text import is_control, spell
from edge.report import NOTICE, Report, Status

VERSION = "2.5.1"
_ESCAPES = {"|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\\": "\\E\\"}
_CHARACTER_SETS = {"ascii": "ASCII", "utf-8": "UNICODE UTF-8", "iso8859-1": "8859/1", "iso8859-15": "8859/15"}
"""HL7 table 0211; another set is left unsaid."""
_STATUS = {Status.PRELIMINARY: "P", Status.FINAL: "F", Status.CORRECTED: "C"}
"""HL7 tables 0085 and 0123. Not the mapping's: W, E1394's "questionable", is "posted as wrong" there."""

_CANNOT = "X"
"""OBX-11 (table 0085) of a result that cannot be had."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a receiver said of one of our messages."""

    code: str
    """AA: taken. CA: kept, what the application says of it follows. AE, CE: its content is refused. AR, CR:
    the message is refused. "" where it says nothing."""
    control_id: str
    """Of the message; "" where none is named."""
    text: str
    """The receiver's words, may be empty."""


def escaped(text: str) -> str:
    r"""Return `text` with HL7's escapes for delimiters, `\Xhh\` for a control character."""
    return "".join(_ESCAPES.get(c) or (f"\\X{ord(c):02X}\\" if is_control(c) else c) for c in text)


def hl7_time(at: datetime) -> str:
    """Return YYYYMMDDHHMMSS+ZZZZ in this machine's time zone."""
    return at.astimezone().strftime("%Y%m%d%H%M%S%z")


def result_message(
    report: Report, control_id: str, mapping: SiteMapping, order: Order | None = None, *, law: bool
) -> list[bytes]:
    """Return a report as segments, each ended by CR; the same arguments give the same bytes.

    Args:
        report: the released result.
        control_id: MSH-10; the same each time that this report is sent.
        mapping: of the site; its layouts, which are E1394's, are not used but for the order's code.
        order: what the LIS had asked for; its patient goes back only where the site's mapping says so.
        law: True for OUL^R22 (specimen first, as IHE LAW has it), False for ORU^R01.
    """
    kind = ("OUL", "R22", "OUL_R22") if law else ("ORU", "R01", "ORU_R01")
    head = _header(kind, control_id, mapping, report, law=law)
    patient = []
    if order and mapping.patient and order.patient_id:
        name = "^".join(map(escaped, order.patient_name.split("^")))
        patient = [_segment("PID", "1", "", escaped(order.patient_id), "", name)]
    specimen = _segment("SPM", "1", escaped(report.specimen), "", "BLD^Whole blood^HL70487")
    results = [_request(report, mapping), *_notes(_said(report)), *_results(report, mapping)]
    body = [*patient, specimen, *results] if law else [*patient, *results, specimen]
    return [_encoded(text, mapping.encoding) for text in (head, *body)]


def _encoded(segment: str, encoding: str) -> bytes:
    """Return a segment's bytes; a delimiter that stands for a foreign letter (`|` for U+FF5C) is escaped."""
    spelt = re.sub(r"[^\x00-\x7f]", lambda found: escaped(spell(found[0], encoding)), segment)
    return spelt.encode(encoding)


def _segment(*fields: str) -> str:
    return "|".join(fields).rstrip("|") + "\r"


def _header(kind: Iterable[str], control_id: str, mapping: SiteMapping, report: Report, *, law: bool) -> str:
    ends = (escaped(mapping.sender), "", escaped(mapping.receiver), "", hl7_time(report.released), "")
    middle = ("^".join(kind), control_id, processing(report, mapping), VERSION)
    character_set = _CHARACTER_SETS.get(mapping.encoding, "")
    # MSH-15 and -16: LAW wants no accept acknowledgement, and always that of the application.
    wanted = ("NE", "AL") if law else ("", "")
    profile = "LAB-29^IHE" if law else ""
    rest = ("", "", *wanted, "", character_set, "", "", profile)
    return _segment("MSH", "^~\\&", *ends, *middle, *rest)


def _request(report: Report, mapping: SiteMapping) -> str:
    code = escaped(next(filter(None, filled(mapping.order_test_id)), "DIFF"))
    times = (hl7_time(report.started), hl7_time(report.released))
    # OBR-7, -8: observed from, to; OBR-22: reported; OBR-25: status.
    numbers = ("1", "", escaped(report.specimen), f"{code}^Leukocyte differential^L", "", "")
    return _segment("OBR", *numbers, *times, *[""] * 13, times[1], "", "", _STATUS[report.status])


def _said(report: Report) -> list[str]:
    return [*comments(report, NOTICE), model_identity(report)]


def _notes(texts: Iterable[str]) -> list[str]:
    # L: the source of the comment is the filler.
    return [_segment("NTE", str(number), "L", escaped(text)) for number, text in enumerate(texts, 1)]


def _results(report: Report, mapping: SiteMapping) -> list[str]:
    segments = []
    for number, seen in enumerate(observations(report, mapping), 1):
        test = seen.test
        local = f"{escaped(test.code)}^{escaped(test.name)}^L"
        identity = f"{escaped(test.loinc)}^{escaped(test.name)}^LN^{local}" if test.loinc else local
        value = ("NM", identity, "", seen.value, f"{escaped(test.units)}^^UCUM")
        status = _CANNOT if seen.withdrawn else _STATUS[report.status]
        judged = (escaped(_range(test)), seen.flag, "", "", status)
        operator = escaped(report.operator)
        times = (
            "",
            "",
            hl7_time(report.started),
            "",
            operator,
            "",
            escaped(mapping.sender),
            hl7_time(report.released),
        )
        segments.append(_segment("OBX", str(number), *value, *judged, *times))
        segments += _notes([seen.comment] if seen.comment else [])
    return segments


def _range(test: Test) -> str:
    """Return OBX-7: empty until the site enters its interval."""
    if test.low is None or test.high is None:
        return ""
    return f"{test.low:.{test.decimals}f}-{test.high:.{test.decimals}f}"


def segments(message: bytes, encoding: str) -> list[list[str]]:
    """Return the segments of an incoming message by their fields; none where it does not begin with MSH."""
    lines = [line for line in message.decode(encoding, "replace").replace("\n", "\r").split("\r") if line]
    if not lines or not lines[0].startswith("MSH") or len(lines[0]) < 8:
        return []
    return [line.split(lines[0][3]) for line in lines]


def read_acknowledgement(message: bytes, encoding: str) -> Acknowledgement | None:
    """Return what an incoming message acknowledges; None where it is no acknowledgement."""
    parts = segments(message, encoding)
    answer = next((p for p in parts if p[0] == "MSA"), None)
    if answer is None and not (parts and len(parts[0]) > 8 and parts[0][8].split("^")[0] == "ACK"):
        return None
    answer = [*(answer or ["MSA"]), "", ""]
    # MSA-3 is the old place of the words, ERR-8 and ERR-7 the new ones.
    error = next((p for p in parts if p[0] == "ERR"), [])
    words = [p[i] for p, i in ((answer, 3), (error, 8), (error, 7), (error, 3)) if len(p) > i and p[i]]
    return Acknowledgement(answer[1].strip(), answer[2].strip(), words[0] if words else "")


def acknowledge(message: bytes, code: str, encoding: str, at: datetime) -> list[bytes]:
    """Return the acknowledgement of an incoming message: `code` is AA, AE or AR."""
    header = next(iter(segments(message, encoding)), [])
    theirs = [header[i] if len(header) > i else "" for i in range(12)]
    control_id, processing = theirs[9], theirs[10] or "P"
    kind = theirs[8].split("^")[1:2]
    names = ("ACK", *kind, "ACK")
    ends = (theirs[4], theirs[5], theirs[2], theirs[3], hl7_time(at), "")
    head = _segment("MSH", "^~\\&", *ends, "^".join(names), f"A{control_id}"[:20], processing, VERSION)
    return [text.encode(encoding, "replace") for text in (head, _segment("MSA", code, control_id))]
