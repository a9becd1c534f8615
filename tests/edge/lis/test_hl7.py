"""HL7 messages, validated strictly by a library of others."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.core import Message
from hl7apy.parser import parse_message

from edge.lis.content import Order
from edge.lis.hl7 import Acknowledgement, acknowledge, escaped, read_acknowledgement, result_message
from edge.lis.mapping import read_mapping
from edge.report import NOTICE, Status
from tests.edge.lis.reports import report

PLAIN = read_mapping("plain")
KINDS = [(False, "ORU_R01"), (True, "OUL_R22")]
ODD = Order("S-1", patient_id="P|7", patient_name="D&e^Jä\rne")


def strict(message: list[bytes], encoding: str = "ascii") -> Message:
    made = parse_message(b"".join(message).decode(encoding), validation_level=VALIDATION_LEVEL.STRICT)
    assert made.validate()
    return made


def fields(message: list[bytes], kind: str) -> list[list[str]]:
    rows = [segment.decode().rstrip("\r").split("|") for segment in message]
    return [row for row in rows if row[0] == kind]


@pytest.mark.parametrize(("law", "name"), KINDS)
@pytest.mark.parametrize(
    ("profile", "patient", "wbc"), [("plain", False, None), ("sysmex", True, None), ("horiba", True, 7.25)]
)
def test_each_kind_is_strictly_valid(
    law: bool, name: str, profile: str, patient: bool, wbc: float | None
) -> None:
    mapping = replace(read_mapping(profile), patient=patient)
    assert strict(result_message(report(wbc=wbc), "5f3a9c1e-000012", mapping, ODD, law=law)).name == name


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize(("law", "name"), KINDS)
def test_the_status_is_hl7s_own(status: Status, law: bool, name: str) -> None:
    made = result_message(report(status=status), "7", read_mapping("horiba"), law=law)
    letter = {Status.PRELIMINARY: "P", Status.FINAL: "F", Status.CORRECTED: "C"}[status]
    assert {obx[11] for obx in fields(made, "OBX")} == {letter}
    assert fields(made, "OBR")[0][25] == letter
    assert strict(made).name == name


@pytest.mark.parametrize(("law", "name"), KINDS)
def test_withdrawn_absolute_counts_have_no_value_and_status_x(law: bool, name: str) -> None:
    made = result_message(report(status=Status.CORRECTED, withdrawn=True), "7", PLAIN, law=law)
    absolute = [obx for obx in fields(made, "OBX") if obx[6].startswith("10*9/L")]
    assert len(absolute) == 5
    assert {(obx[5], obx[11]) for obx in absolute} == {("", "X")}
    assert strict(made).name == name


@pytest.mark.parametrize(("law", "name"), KINDS)
def test_values_codes_and_identity_are_the_reports(law: bool, name: str) -> None:
    made = result_message(report(), "5f3a9c1e-000012", PLAIN, law=law)
    (header,) = fields(made, "MSH")
    assert (header[8], header[9], header[10], header[11]) == (
        f"{name[:3]}^{name[4:]}^{name}",
        "5f3a9c1e-000012",
        "P",
        "2.5.1",
    )
    assert header[20:] == (["LAB-29^IHE"] if law else [])
    first = fields(made, "OBX")[0]
    label = "Neutrophils/100 leukocytes"
    assert first[2:7] == ["NM", f"26511-6^{label}^LN^NEUT%^{label}^L", "", "60.0", "%^^UCUM"]
    assert fields(made, "SPM")[0][2] == fields(made, "OBR")[0][3] == "S-1"
    assert fields(made, "NTE")[0][3] == NOTICE


def test_a_patient_is_sent_only_when_the_site_says_so() -> None:
    assert fields(result_message(report(), "7", PLAIN, ODD, law=False), "PID") == []
    made = result_message(report(), "7", replace(PLAIN, patient=True), ODD, law=False)
    assert fields(made, "PID")[0][3:] == ["P\\F\\7", "", "D\\T\\e^Ja\\X0D\\ne"]


def test_a_drawn_smear_is_for_training() -> None:
    assert fields(result_message(report(demo=True), "7", PLAIN, law=False), "MSH")[0][10] == "T"


def test_a_letter_spelt_as_a_delimiter_does_not_part_fields() -> None:
    made = result_message(report(operator="Li\uff5cWei\uff3eM\uff06\u2028A"), "7", PLAIN, law=False)
    assert {row[16] for row in fields(made, "OBX")} == {"Li\\F\\Wei\\S\\M\\T\\ A"}
    strict(made)


def test_the_reference_interval_is_written_as_hl7_has_it() -> None:
    tests = PLAIN.tests["percent"] | {
        "neutrophil": replace(PLAIN.tests["percent"]["neutrophil"], low=40, high=75)
    }
    made = result_message(report(), "7", replace(PLAIN, tests=PLAIN.tests | {"percent": tests}), law=False)
    assert [row[7] for row in fields(made, "OBX") if "NEUT%" in row[3]] == ["40.0-75.0"]


@pytest.mark.parametrize(("law", "wanted"), [(False, ["", ""]), (True, ["NE", "AL"])])
def test_law_says_which_acknowledgement_it_wants(law: bool, wanted: list[str]) -> None:
    (header,) = fields(result_message(report(), "7", PLAIN, law=law), "MSH")
    assert header[14:16] == wanted


def test_text_is_escaped() -> None:
    assert escaped("a|b^c&d~e\\f\r") == "a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f\\X0D\\"


@pytest.mark.parametrize("encoding", ["ascii", "iso8859-1", "utf-8"])
def test_the_character_set_is_told_and_kept(encoding: str) -> None:
    mapping = replace(PLAIN, encoding=encoding, sender="Zähler")
    made = result_message(report(), "7", mapping, law=False)
    header = made[0].decode(encoding).split("|")
    assert header[2] == ("Zahler" if encoding == "ascii" else "Zähler")
    assert header[17].strip() in {"ASCII", "8859/1", "UNICODE UTF-8"}
    strict(made, encoding)


ACKS = [
    ("MSH|^~\\&|L||W||1||ACK|9|P|2.5.1\rMSA|AA|7\r", Acknowledgement("AA", "7", "")),
    ("MSH|^~\\&|L\rMSA|AE|7|no such specimen\r", Acknowledgement("AE", "7", "no such specimen")),
    ("MSH|^~\\&|L\nMSA|AR|7\nERR|||207|E||||wrong type\n", Acknowledgement("AR", "7", "wrong type")),
    ("MSH#^~\\&#L\rMSA#CA#7\r", Acknowledgement("CA", "7", "")),
    ("MSH|^~\\&|L\rMSA|AA\r", Acknowledgement("AA", "", "")),
    ("MSH|^~\\&|L||W||1||ACK|9|P|2.5.1\r", Acknowledgement("", "", "")),
    ("MSH|^~\\&|L\rPID|1\r", None),
    ("MSA|AA|7\r", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "found"), ACKS)
def test_acknowledgements_are_read(text: str, found: Acknowledgement | None) -> None:
    assert read_acknowledgement(text.encode(), "ascii") == found


@pytest.mark.parametrize(("law", "name"), KINDS)
def test_our_acknowledgement_is_strictly_valid_and_names_the_message(law: bool, name: str) -> None:
    message = b"".join(result_message(report(), "5f3a9c1e-000012", PLAIN, law=law))
    answer = acknowledge(message, "AA", "ascii", datetime.now(UTC))
    assert strict(answer).name == "ACK"
    assert read_acknowledgement(b"".join(answer), "ascii") == Acknowledgement("AA", "5f3a9c1e-000012", "")
    assert name
