"""What messages say, whatever their format: orders, results with values as text, and comments."""

from dataclasses import dataclass

from edge.differential import shown
from edge.lis.mapping import SiteMapping, Test
from edge.report import LEAST_CELLS, Report, Status


@dataclass(frozen=True, slots=True)
class Order:
    """A specimen that the LIS asked to be counted, or (`cancelled`) no longer does."""

    specimen: str
    tests: tuple[str, ...] = ()
    """Local codes."""
    patient_id: str = ""
    patient_name: str = ""
    """Family^given^middle, as components; empty unless the LIS sent it."""
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """One result."""

    test: Test
    value: str
    flag: str
    """L, N or H by the site's reference interval; "" without one."""
    comment: str
    """Its 95 % limits; "" without."""
    withdrawn: bool = False
    """An earlier report had it, and it holds no longer; there is no value."""


def observations(report: Report, mapping: SiteMapping) -> list[Observation]:
    """Return the results that go out, in the order of the mapping's `send`, then of its tests.

    Raises:
        UserError: the mapping lacks a class of the report; one left out would falsify the rest.
    """
    result = report.result
    values: dict[str, dict[str, float | None]] = {
        "percent": {name: share["percent"] for name, share in result["differential"].items()},
        "per_100": dict(result["per_100"]),
        "total": {"cells": result["total"]},
        "absolute": {},
    }
    if report.wbc is not None:
        shares = values["percent"].items()
        values["absolute"] = {n: None if v is None else report.wbc * v / 100 for n, v in shares}
    found = []
    for kind in mapping.send:
        mapping.covers(kind, values[kind])
        for name, test in mapping.tests[kind].items():
            value = values[kind].get(name)
            if kind == "absolute" and report.withdrawn and name in values["percent"]:
                found.append(Observation(test, "", "", "", withdrawn=True))
            if value is not None:
                comment = _limits(report, name) if kind == "percent" and mapping.limits else ""
                found.append(Observation(test, shown(value, test.decimals), _flag(test, value), comment))
    return found


def comments(report: Report, notice: str) -> list[str]:
    """Return what must be read with the results: the research-use `notice`, and why they are not final."""
    result = report.result
    said = [notice]
    if report.demo:
        said.append("Demonstration: counted from a drawn smear, no specimen of a patient")
    if result["review"]:
        said.append(f"Cells that await review, their classes not confirmed: {result['review']}")
    if result["total"] < LEAST_CELLS:
        said.append(f"Few cells were counted: {result['total']}")
    if not result["complete"]:
        said.append(f"Not a final result: the count was released at {result['total']} cells")
    if result["skipped"]:
        said.append(
            "Images, or parts of a film, that could not be read, or were of no use, and were left out: "
            f"{len(result['skipped'])}"
        )
    if result["lost_frames"]:
        said.append(f"{result['lost_frames']} images could not be placed on the slide and were left out")
    if report.status is Status.CORRECTED:
        said.append(f"Correction: replaces the earlier report (this is version {report.version})")
    return said


def processing(report: Report, mapping: SiteMapping) -> str:
    """Return the processing ID of H-12 and MSH-11: a drawn smear is T, training, whatever the site says."""
    return "T" if report.demo else mapping.processing


def model_identity(report: Report) -> str:
    """Return which model counted."""
    model = report.result["model"]
    return f"Counted by model {model['name']} sha256 {model['sha256']}"


def _limits(report: Report, name: str) -> str:
    share, total = report.result["differential"][name], report.result["total"]
    return f"95 % limits {shown(share['low'])} to {shown(share['high'])} ({share['count']} of {total} cells)"


def _flag(test: Test, value: float) -> str:
    """Return the flag of the value as it is shown, so that flag and number never disagree."""
    if test.low is None or test.high is None:
        return ""
    sent = float(shown(value, test.decimals))
    return "L" if sent < test.low else "H" if sent > test.high else "N"
