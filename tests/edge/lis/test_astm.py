from dataclasses import replace
from datetime import UTC, datetime

import pytest

from edge.lis.astm import astm_time, orders, query_message, result_message
from edge.lis.astm import test_message as message_without_content
from edge.lis.content import Order
from edge.lis.frame import envelopes
from edge.lis.mapping import SiteMapping, read_mapping
from edge.lis.records import Record, parse
from edge.report import NOTICE, Status
from tests.edge.lis.reports import SHA, report

PLAIN = read_mapping("plain")
AT = datetime(2026, 3, 1, 9, 41, 7, tzinfo=UTC)


def records(message: list[bytes], encoding: str = "ascii") -> tuple[Record, ...]:
    return parse(b"".join(message), encoding)


def of(kind: str, message: list[bytes]) -> list[Record]:
    return [r for r in records(message) if r.kind == kind]


def test_a_message_is_header_patient_order_results_terminator() -> None:
    kinds = "".join(r.kind for r in records(result_message(report(), "7-000001", PLAIN)))
    assert kinds == "HPO" + "CC" + "RC" * 5 + "RR" + "L"


def test_the_header_names_message_sender_and_time() -> None:
    (header,) = of("H", result_message(report(), "7-000001", PLAIN))
    assert [header.get(n) for n in (3, 5, 12, 13)] == ["7-000001", "WBC-DIFF", "P", "LIS2-A2"]
    assert header.get(14) == astm_time(report().released)
    assert len(header.get(14)) == 14


def test_a_result_has_its_code_value_units_status_and_times() -> None:
    first = of("R", result_message(report(), "7", PLAIN))[0]
    assert first.components(3) == ("26511-6", "Neutrophils/100 leukocytes", "LN", "NEUT%")
    assert [first.get(n) for n in (4, 5, 6, 7, 9, 11)] == ["60.0", "%", "", "", "F", "Dr A"]
    assert (first.get(12), first.get(13)) == (astm_time(report().started), astm_time(report().released))


def test_withdrawn_absolute_counts_have_no_value_and_status_x() -> None:
    results = of("R", result_message(report(status=Status.CORRECTED, withdrawn=True), "7", PLAIN))
    absolute = [r for r in results if r.get(5) == "10*9/L"]
    assert [r.components(3)[3] for r in absolute] == ["NEUT#", "LYMPH#", "MONO#", "EO#", "BASO#"]
    assert {(r.get(4), r.get(7), r.get(9)) for r in absolute} == {("", "", "X")}
    assert {r.get(9) for r in results if r not in absolute} == {"C"}


def test_notice_and_model_travel_with_the_result() -> None:
    texts = [c.get(4) for c in of("C", result_message(report(), "7", PLAIN))]
    assert texts[0] == NOTICE
    assert texts[1] == f"Counted by model wbc sha256 {SHA}"
    made = result_message(report(), "7", replace(PLAIN, model="manufacturer"))
    (m,) = of("M", made)
    assert m.get(4) == f"Counted by model wbc sha256 {SHA}"


@pytest.mark.parametrize(
    ("status", "r9", "o26"),
    [(Status.PRELIMINARY, "P", "P"), (Status.FINAL, "F", "F"), (Status.CORRECTED, "C", "C")],
)
def test_the_status_is_told_of_each_result_and_of_the_order(status: Status, r9: str, o26: str) -> None:
    made = result_message(report(status=status), "7", PLAIN)
    assert {r.get(9) for r in of("R", made)} == {r9}
    assert of("O", made)[0].get(26) == o26


@pytest.mark.parametrize(
    ("profile", "test_id", "o3", "o4", "preliminary"),
    [
        ("plain", "26511-6^Neutrophils/100 leukocytes^LN^NEUT%", "S-1", "", "P"),
        ("sysmex", "^^^^NEUT%^1", "", "^^S-1^M", "P"),
        ("horiba", "^^^NEU%^26511-6", "S-1", "", "W"),
    ],
)
def test_the_profiles_write_as_the_vendors_do(
    profile: str, test_id: str, o3: str, o4: str, preliminary: str
) -> None:
    made = result_message(report(status=Status.PRELIMINARY), "7", read_mapping(profile))
    first, (order,) = of("R", made)[0], of("O", made)
    assert "^".join(first.components(3)) == test_id
    assert ("^".join(order.components(3)), "^".join(order.components(4))) == (o3, o4)
    assert first.get(9) == preliminary


def test_the_reference_interval_of_the_site_is_sent_in_its_layout() -> None:
    horiba = read_mapping("horiba")
    test = replace(horiba.tests["percent"]["neutrophil"], low=40, high=75)
    percent = {**horiba.tests["percent"], "neutrophil": test}
    made = result_message(report(), "7", replace(horiba, tests={**horiba.tests, "percent": percent}))
    assert "^".join(of("R", made)[0].components(6)) == "40.0 - 75.0^REFERENCE_RANGE"
    assert [r.get(7) for r in of("R", made)[:2]] == ["N", ""]


def test_a_patient_is_sent_only_when_the_site_says_so() -> None:
    order = Order("S-1", patient_id="P7", patient_name="Doe^Jane")
    assert of("P", result_message(report(), "7", PLAIN, order))[0].fields == ("P", "1")
    (patient,) = of("P", result_message(report(), "7", replace(PLAIN, patient=True), order))
    assert (patient.get(3), patient.components(6)) == ("P7", ("Doe", "Jane"))


def test_the_same_report_is_the_same_bytes() -> None:
    assert result_message(report(), "7", PLAIN) == result_message(report(), "7", PLAIN)


def test_every_message_can_be_framed() -> None:
    order = Order("S-1", patient_id="P\x02|7", patient_name="Dœ\r^Jäne")
    for mapping in (PLAIN, replace(PLAIN, patient=True), replace(PLAIN, patient=True, encoding="utf-8")):
        assert envelopes(result_message(report(operator="Jürgen|^\\&"), "7", mapping, order))


def test_a_query_asks_for_a_specimen() -> None:
    (query,) = of("Q", query_message("S-9", "7", PLAIN, AT))
    assert (query.components(3), query.get(5, 4), query.get(13)) == (("", "S-9"), "ALL", "O")


def test_the_test_message_holds_no_result() -> None:
    header, end = records(message_without_content("T1", PLAIN, AT))
    assert (header.get(12), end.kind) == ("D", "L")


def order_of(text: str, mapping: SiteMapping = PLAIN) -> list[Order]:
    return orders(parse(f"H|\\^&\r{text}L|1|N\r".encode(), "ascii"), mapping)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("P|1\rO|1|S-1||^^^DIFF\r", [Order("S-1", ("DIFF",))]),
        ("P|1\rO|1|S-1||^^^A\\^^^^B^1\\26511-6\r", [Order("S-1", ("A", "B", "26511-6"))]),
        ("P|1\rO|1|S-1||^^^A\rO|2|S-1||^^^B\r", [Order("S-1", ("A", "B"))]),
        ("P|1\rO|1||^^S-2^B|^^^A\r", [Order("S-2", ("A",))]),
        ("P|1|7||9|Doe^J\rO|1|S-1\r", [Order("S-1", (), "7", "Doe^J")]),
        ("P|1||9||Doe^J\rO|1|S-1\r", [Order("S-1", (), "9", "Doe^J")]),
        ("P|1||||Doe^J\rO|1|S-1\r", [Order("S-1", (), "", "Doe^J")]),
        ("P|1|||9|Doe^J\rO|1| S-1  \r", [Order("S-1", (), "9", "Doe^J")]),
        ("P|1\rO|1|S-1||^^^A|||||||C\r", [Order("S-1", ("A",), cancelled=True)]),
        (
            "P|1\rO|1|S-1||^^^A|||||||N\rO|2|S-1||^^^B|||||||C\r",
            [Order("S-1", ("A",))],
        ),
        ("P|1\rO|1|S-1||^^^A\rO|2|S-1||^^^A|||||||C\rO|3|S-1||^^^A\r", [Order("S-1", ("A",))]),
        ("P|1\rO|1|S-1||^^^A\rO|2|S-1||^^^A|||||||C\rO|3|S-1||^^^B\r", [Order("S-1", ("B",))]),
        ("P|1\rO|1|S-1||^^^A\rO|2|S-1|||||||||C\rO|3|S-1||^^^B\r", [Order("S-1", ("B",))]),
        ("P|1\rO|1|S-1||^^^A|||||||C\rO|2|S-1||^^^A\rO|3|S-1||^^^B|||||||C\r", [Order("S-1", ("A",))]),
        ("P|1\rO|1|S-1||^^^A\rO|2|S-1||^^^A|||||||C\r", [Order("S-1", ("A",), cancelled=True)]),
        ("P|1\rO|1|S-1||^^^A\rO|2|S-1|||||||||C\r", [Order("S-1", cancelled=True)]),
        ("P|1\rO|1|S-1\rO|2|S-1||^^^A|||||||C\r", [Order("S-1")]),
        ("P|1\rO|1|S-1||^^^A" + "|" * 21 + "Y\r", []),
        ("P|1\rO|1|S-1||^^^A" + "|" * 21 + "Z\r", []),
        ("O|1\r", []),
        ("Q|1|^S-1\r", []),
    ],
)
def test_orders_are_read(text: str, found: list[Order]) -> None:
    assert order_of(text) == found


@pytest.mark.parametrize(
    ("field", "specimen"),
    [
        ("2^1^     1234567890^B|", "1234567890"),
        ("1234567890|", "1234567890"),
        ("|^^  S-1^M", "S-1"),
        ("2^1|", None),
    ],
)
def test_an_order_has_its_specimen_where_the_site_has_it(field: str, specimen: str | None) -> None:
    found = order_of(f"O|1|{field}|^^^^WBC\r", read_mapping("sysmex"))
    assert [order.specimen for order in found] == ([specimen] if specimen else [])


@pytest.mark.parametrize(("length", "kept"), [(64, 1), (65, 0)])
def test_an_order_of_an_endless_specimen_is_passed_over(length: int, kept: int) -> None:
    message = b"H|\\^&\rO|1|" + b"S" * length + b"||^^^DIFF\rL|1|N\r"
    assert len(orders(parse(message, "ascii"), PLAIN)) == kept
