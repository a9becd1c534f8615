"""Messages of E1394 (CLSI LIS02-A2): a report or a query as records, incoming records as orders."""

from collections.abc import Mapping
from datetime import datetime

from edge.lis.content import Order, comments, model_identity, observations, processing
from edge.lis.mapping import SPECIMEN, SiteMapping, Test, filled
from edge.lis.records import Field, Record, build
from edge.report import NOTICE, Report

STANDARD = "LIS2-A2"
_CANNOT = "X"
"""R-9 of a result that cannot be had."""
LONGEST_SPECIMEN = 64
"""Characters of a specimen's identifier in an order; the page takes no longer one."""


class _Message:
    """Records being gathered, in the site's delimiters and character set."""

    def __init__(self, mapping: SiteMapping, control_id: str, kind: str, at: datetime) -> None:
        self._mapping, self.records = mapping, list[bytes]()
        header = (control_id, "", mapping.sender, "", "", "", "", mapping.receiver, "", kind)
        self.add("H", *header, STANDARD, astm_time(at))

    def add(self, kind: str, *fields: Field) -> None:
        made = build(kind, *fields, delimiters=self._mapping.delimiters, encoding=self._mapping.encoding)
        self.records.append(made)

    def comment(self, number: int, text: str) -> None:
        # I: from the instrument; G: a generic comment.
        self.add("C", str(number), "I", text, "G")

    def end(self) -> list[bytes]:
        self.add("L", "1", "N")
        return self.records


def astm_time(at: datetime) -> str:
    """Return YYYYMMDDHHMMSS in this machine's time zone."""
    return at.astimezone().strftime("%Y%m%d%H%M%S")


def reference_range(test: Test, mapping: SiteMapping) -> tuple[str, ...]:
    """Return R-6: empty until the site enters its interval."""
    if test.low is None or test.high is None:
        return ("",)
    low, high = (f"{value:.{test.decimals}f}" for value in (test.low, test.high))
    return filled(mapping.range, low=low, high=high)


def result_message(
    report: Report, control_id: str, mapping: SiteMapping, order: Order | None = None
) -> list[bytes]:
    """Return a report as records; the same arguments give the same bytes.

    Args:
        report: the released result.
        control_id: H-3; the same each time that this report is sent.
        mapping: of the site.
        order: what the LIS had asked for; its patient goes back only where the site's mapping says so.
    """
    message = _Message(mapping, control_id, processing(report, mapping), report.released)
    status = mapping.status[report.status]
    patient: tuple[Field, ...] = ("1",)
    if order and mapping.patient:
        patient = ("1", order.patient_id, "", "", tuple(order.patient_name.split("^")))
    message.add("P", *patient)
    layouts = (mapping.specimen, mapping.instrument_specimen)
    ids = [filled(layout, specimen=report.specimen) for layout in layouts]
    before: tuple[Field, ...] = ("1", *ids, filled(mapping.order_test_id), "R")
    report_type = "C" if report.status == "corrected" else "P" if report.status == "preliminary" else "F"
    # O-23: when reported; O-26: report type.
    message.add("O", *before, *[""] * 16, astm_time(report.released), "", "", report_type)
    said = comments(report, NOTICE)
    if mapping.model == "comment":
        said.append(model_identity(report))
    for number, text in enumerate(said, 1):
        message.comment(number, text)
    if mapping.model == "manufacturer":
        message.add("M", "1", "MODEL", model_identity(report))
    for number, seen in enumerate(observations(report, mapping), 1):
        test = filled(mapping.test_id, loinc=seen.test.loinc, name=seen.test.name, code=seen.test.code)
        values: tuple[Field, ...] = (
            seen.value,
            seen.test.units,
            reference_range(seen.test, mapping),
            seen.flag,
        )
        after = (report.operator, astm_time(report.started), astm_time(report.released), mapping.sender)
        message.add("R", str(number), test, *values, "", _CANNOT if seen.withdrawn else status, "", *after)
        if seen.comment:
            message.comment(1, seen.comment)
    return message.end()


def query_message(specimen: str, control_id: str, mapping: SiteMapping, at: datetime) -> list[bytes]:
    """Return a host query: what is ordered for this specimen?"""
    message = _Message(mapping, control_id, mapping.processing, at)
    # patient^specimen; Q-13 O: orders and demographics are asked for.
    message.add("Q", "1", ("", specimen), "", (*[""] * 3, "ALL"), *[""] * 7, "O")
    return message.end()


def test_message(control_id: str, mapping: SiteMapping, at: datetime) -> list[bytes]:
    """Return a message without patient, order or result: it shows that the LIS takes our frames."""
    return _Message(mapping, control_id, "D", at).end()


def orders(records: tuple[Record, ...], mapping: SiteMapping) -> list[Order]:
    """Return the orders of an incoming message; records that are not understood are passed over.

    The specimen is in O-3, or in O-4 where that is empty; O-12 C cancels; O-26 Y or Z, or a terminator I,
    say that there is none. What is said last of a test holds.
    """
    # By specimen: each test that is named, in the order in which it was last, and whether it is wanted; "" is
    # the order as a whole.
    found: dict[str, dict[str, bool]] = {}
    patients: dict[str, tuple[str, str]] = {}
    patient = ("", "")
    for record in records:
        if record.kind == "P":
            numbers = (record.get(number) for number in (3, 4, 5))
            patient = (next(filter(None, numbers), ""), "^".join(record.components(6)))
        elif record.kind == "O" and record.get(26) not in {"Y", "Z"}:
            specimen = _specimen(record, mapping)
            if 0 < len(specimen) <= LONGEST_SPECIMEN:
                patients[specimen] = patient
                _note(found.setdefault(specimen, {}), record)
    return [_order(specimen, tests, patients[specimen]) for specimen, tests in found.items()]


def _note(tests: dict[str, bool], record: Record) -> None:
    """Note which tests of a specimen a record orders, or cancels (O-12 C)."""
    named = [next(filter(None, parts[3:]), parts[0]) for parts in record.repeats(5)]
    wanted = record.get(12) != "C"
    if not any(named) and not wanted:
        tests.clear()
    for test in filter(None, named) if any(named) else [""]:
        tests.pop(test, None)
        tests[test] = wanted


def _order(specimen: str, tests: Mapping[str, bool], patient: tuple[str, str]) -> Order:
    wanted = [test for test, wish in tests.items() if wish]
    named = wanted if wanted else [] if "" in tests else list(tests)
    return Order(specimen, tuple(filter(None, named)), *patient, cancelled=not wanted)


def _specimen(record: Record, mapping: SiteMapping) -> str:
    """Return the specimen of an order, "" where it cannot be told.

    Of several components (a Sysmex names rack, place, specimen and how that was read) it is the one where
    the site's own layouts have it.
    """
    parts = [part.strip() for part in record.components(3)]
    if not any(parts):
        parts = [part.strip() for part in record.components(4)]
    given = [part for part in parts if part]
    layouts = (layout.split("^") for layout in (mapping.specimen, mapping.instrument_specimen))
    places = (i for layout in layouts for i, part in enumerate(layout) if SPECIMEN in part)
    place = next(places, 0)
    if len(given) < 2 or not place:
        return next(iter(given), "")
    return parts[place] if place < len(parts) else ""
