import pytest

from edge.errors import UserError
from edge.lis.content import comments, observations, processing
from edge.lis.mapping import SiteMapping, read_mapping
from edge.report import NOTICE, Status
from tests.edge.lis.reports import report, result


@pytest.fixture
def plain() -> SiteMapping:
    return read_mapping("plain")


def values(found: list) -> dict[str, str]:
    return {o.test.code: o.value for o in found}


def test_values_are_the_reports_own(plain: SiteMapping) -> None:
    assert values(observations(report(), plain)) == {
        "NEUT%": "60.0",
        "LYMPH%": "30.0",
        "MONO%": "6.0",
        "EO%": "3.0",
        "BASO%": "1.0",
        "NRBC%": "2.0",
        "CELLS": "100",
    }


def test_absolute_counts_need_the_leukocyte_count(plain: SiteMapping) -> None:
    found = values(observations(report(wbc=7.25), plain))
    assert (found["NEUT#"], found["BASO#"]) == ("4.35", "0.07")


def test_limits_come_with_each_percentage(plain: SiteMapping) -> None:
    first, *_, total = observations(report(), plain)
    assert first.comment == "95 % limits 1.3 to 98.8 (60 of 100 cells)"
    assert total.comment == ""


def test_of_two_numbers_as_near_the_larger_is_sent_as_the_page_has_it(plain: SiteMapping) -> None:
    share = {"count": 1, "percent": 0.25, "low": 0.25, "high": 58.25}
    shares = report().result["differential"] | {"neutrophil": share}
    first, *_ = observations(report(result=report().result | {"differential": shares}), plain)
    assert (first.value, first.comment) == ("0.3", "95 % limits 0.3 to 58.3 (1 of 100 cells)")


def with_interval(mapping: SiteMapping, low: float, high: float) -> SiteMapping:
    from dataclasses import replace

    test = replace(mapping.tests["percent"]["neutrophil"], low=low, high=high)
    return replace(mapping, send=("percent",), tests={**mapping.tests, "percent": {"neutrophil": test}})


@pytest.mark.parametrize(
    ("low", "high", "flag"), [(40, 75, "N"), (60.1, 75, "L"), (40, 59.9, "H"), (60, 60, "N")]
)
def test_the_flag_follows_the_sites_interval(plain: SiteMapping, low: float, high: float, flag: str) -> None:
    shares = {"neutrophil": result("S-1")["differential"]["neutrophil"]}
    made = report(result=report().result | {"differential": shares})
    (found,) = observations(made, with_interval(plain, low, high))
    assert found.flag == flag


def test_a_class_without_a_code_stops_the_message(plain: SiteMapping) -> None:
    shares = report().result["differential"] | {"blast": {"count": 1, "percent": 1.0, "low": 0, "high": 5}}
    with pytest.raises(UserError, match="blast"):
        observations(report(result=report().result | {"differential": shares}), plain)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"review": 3}, "Cells that await review, their classes not confirmed: 3"),
        ({"complete": False}, "Not a final result: the count was released at"),
        (
            {"skipped": [1, 2]},
            "Images, or parts of a film, that could not be read, or were of no use, and were left out: 2",
        ),
        ({"lost_frames": 4}, "4 images could not be placed"),
    ],
)
def test_what_limits_the_result_is_said(changes: dict, words: str) -> None:
    plain_said = comments(report(), NOTICE)
    said = comments(report(result=report().result | changes), NOTICE)
    assert plain_said == [NOTICE]
    assert said[0] == NOTICE
    assert words in said[1]


def test_a_correction_says_that_it_is_one() -> None:
    assert "version 3" in comments(report(status=Status.CORRECTED, version=3), NOTICE)[1]


def test_a_drawn_smear_is_never_taken_for_a_patient(plain: SiteMapping) -> None:
    assert (processing(report(), plain), processing(report(demo=True), plain)) == ("P", "T")
    assert "drawn smear" in comments(report(demo=True), NOTICE)[1]
