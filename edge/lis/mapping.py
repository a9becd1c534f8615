"""The site's mapping file: how results are named and written for its LIS. Profiles are ready made files."""

import math
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from edge.config import read_toml
from edge.errors import UserError
from edge.lis.records import Delimiters
from edge.lis.text import is_control, safe_encoding
from edge.report import Status

PROFILES = Path(__file__).parent / "profiles"
KINDS = ("percent", "per_100", "total", "absolute")
"""What can be sent."""
SPECIMEN = "{specimen}"
"""Where a layout has it."""
_LAYOUTS = {
    "test_id": {"loinc", "name", "code"},
    "order_test_id": set[str](),
    "specimen": {"specimen"},
    "instrument_specimen": {"specimen"},
    "range": {"low", "high"},
}


@dataclass(frozen=True, slots=True)
class Test:
    """One result that the LIS knows."""

    __test__ = False  # not a pytest class
    code: str
    """The site's own."""
    loinc: str
    name: str
    units: str
    """UCUM where the LIS takes it."""
    decimals: int
    low: float | None = None
    """Of the site's reference interval; None until it enters one."""
    high: float | None = None


@dataclass(frozen=True, slots=True)
class SiteMapping:
    """A mapping file, read and checked; the keys are those of `profiles/plain.toml`, which explains them."""

    delimiters: Delimiters
    encoding: str
    sender: str
    receiver: str
    processing: str
    patient: bool
    test_id: str
    order_test_id: str
    specimen: str
    instrument_specimen: str
    range: str
    send: tuple[str, ...]
    limits: bool
    model: str
    status: Mapping[Status, str]
    tests: Mapping[str, Mapping[str, Test]]
    """By kind (`KINDS`), then by class name; "cells" for the total."""

    def covers(self, kind: str, names: Iterable[str]) -> None:
        """Check that each of these classes has a code, where its `kind` is sent.

        Raises:
            UserError: one has not.
        """
        missing = [name for name in names if kind in self.send and name not in self.tests[kind]]
        if missing:
            raise UserError(
                f"the LIS mapping has no code for {', '.join(missing)} under [{kind}], but the model counts "
                f"it; add it to the mapping file, or take {kind!r} out of send"
            )


def read_mapping(name: str) -> SiteMapping:
    """Return a profile by its name, or a site's file by its path.

    Raises:
        UserError: it cannot be read, or says something that is not understood.
    """
    path = PROFILES / f"{name}.toml"
    if not path.is_file():
        path = Path(name)
    raw = _read(path)
    try:
        return _checked(raw)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: {error}; {PROFILES / 'plain.toml'} explains every key") from None


def _read(path: Path, depth: int = 0) -> dict[str, Any]:
    try:
        raw = read_toml(path)
    except OSError as error:
        names = ", ".join(sorted(p.stem for p in PROFILES.glob("*.toml")))
        raise UserError(f"{path}: {error.strerror}; --lis-mapping is a file, or one of {names}") from None
    if (profile := raw.pop("profile", None)) is None:
        return raw
    base = PROFILES / f"{profile}.toml"
    if depth > 1 or not base.is_file():
        names = ", ".join(sorted(p.stem for p in PROFILES.glob("*.toml")))
        raise UserError(f"{path}: profile = {profile!r}; one of {names} expected")
    return _merged(_read(base, depth + 1), raw)


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    return base | {
        key: _merged(base[key], value)
        if isinstance(value, dict) and isinstance(base.get(key), dict)
        else value
        for key, value in over.items()
    }


def _checked(raw: dict[str, Any]) -> SiteMapping:
    known = {f.name for f in fields(SiteMapping)} - {"tests"}
    if missing := (known | set(KINDS)) - set(raw):
        raise ValueError(f'it lacks {", ".join(sorted(missing))}; begin it with profile = "plain"')
    tests = {kind: _tests(kind, raw.pop(kind)) for kind in KINDS}
    texts: dict[str, Callable[[Any], bool]] = {
        "patient": lambda v: isinstance(v, bool),
        "limits": lambda v: isinstance(v, bool),
        "model": lambda v: v in {"comment", "manufacturer"},
        "processing": lambda v: v in {"P", "T", "D"},
        "send": lambda v: isinstance(v, list) and 0 < len(v) == len(set(v)) and set(v) <= set(KINDS),
        "status": lambda v: (
            isinstance(v, dict) and set(v) == set(Status) and all(_is_text(s) and s for s in v.values())
        ),
    }
    if unknown := set(raw) - known:
        raise ValueError(f"unknown key {', '.join(sorted(unknown))}")
    for key in known:
        if not texts.get(key, _is_text)(raw[key]):
            raise ValueError(f"{key} = {raw[key]!r} is not understood")
    for key, allowed in _LAYOUTS.items():
        _check_layout(key, raw[key], allowed)
    if len(raw["delimiters"]) != 4:
        raise ValueError(f"delimiters = {raw['delimiters']!r}; four characters expected")
    raw |= {"delimiters": Delimiters(*raw["delimiters"]), "encoding": safe_encoding(raw["encoding"])}
    raw |= {"send": tuple(raw["send"])}
    raw |= {"status": {Status(k): v for k, v in raw["status"].items()}}
    mapping = SiteMapping(**raw, tests=tests)
    _check_told_apart(mapping)
    return mapping


def _check_told_apart(mapping: SiteMapping) -> None:
    """Check that the LIS can tell whose results come, and one from the others: it files by codes."""
    layouts = (mapping.specimen, mapping.instrument_specimen)
    if not any("\0" in part for layout in layouts for part in filled(layout, specimen="\0")):
        raise ValueError(f"specimen or instrument_specimen must have {SPECIMEN} in it")
    layout = mapping.test_id
    named: dict[tuple[str, ...], str] = {}
    for kind in mapping.send:
        for name, test in mapping.tests[kind].items():
            place = f"[{kind}.{name}]"
            identity = filled(layout, loinc=test.loinc, name=test.name, code=test.code)
            if not any(identity):
                raise ValueError(f"{place} has no name at the LIS: test_id = {layout!r} is empty for it")
            # A LIS may look at one of them alone.
            for sent in (("test_id", *identity), ("loinc", test.loinc), ("code", test.code)):
                if sent in named:
                    raise ValueError(
                        f"{place} and {named[sent]} have one {sent[0]}, {'^'.join(sent[1:])}: the LIS may "
                        "file one in the place of the other; give each its own"
                    )
                if any(sent[1:]):
                    named[sent] = place


def _tests(kind: str, raw: Any) -> dict[str, Test]:
    if not isinstance(raw, dict):
        raise ValueError(f"{kind} = {raw!r}; tables [{kind}.CLASS] expected")
    return {name: _test(f"{kind}.{name}", test) for name, test in raw.items()}


def _test(place: str, raw: Any) -> Test:
    if not isinstance(raw, dict):
        raise ValueError(f"{place} = {raw!r}; a table [{place}] with the code in it expected")
    names = {f.name: f.default is MISSING for f in fields(Test)}
    if unknown := set(raw) - set(names):
        raise ValueError(f"[{place}]: unknown key {', '.join(sorted(unknown))}; known are {', '.join(names)}")
    if missing := [name for name, needed in names.items() if needed and name not in raw]:
        raise ValueError(
            f"[{place}] is not in the profile: mistyped? If new, it needs {', '.join(missing)} too"
        )
    test = Test(**raw)
    words = (test.code, test.loinc, test.name, test.units)
    numbers = [v for v in (test.low, test.high) if v is not None]
    good = (
        all(map(_is_text, words))
        and test.code
        and type(test.decimals) is int
        and 0 <= test.decimals <= 4
        and len(numbers) in {0, 2}
        and all(type(v) in {int, float} and math.isfinite(v) for v in numbers)
        and numbers == sorted(numbers)
    )
    if not good:
        raise ValueError(
            f"[{place}]: code, loinc, name, units, decimals (0-4), low and high in order or neither expected"
        )
    # A value is judged as it is sent: a finer limit would part two values that read alike.
    if any(round(v, test.decimals) != v for v in numbers):
        raise ValueError(f"[{place}]: low and high with no more than its {test.decimals} decimals expected")
    return test


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not any(map(is_control, value))


def _check_layout(key: str, layout: str, allowed: set[str]) -> None:
    parts = [part for part in string.Formatter().parse(layout) if part[1] is not None]
    # Of what a layout may say of its parts, none fits text alone.
    if not {name for _, name, _, _ in parts} <= allowed or any(spec or kind for _, _, spec, kind in parts):
        words = ", ".join(f"{{{n}}}" for n in sorted(allowed)) or "nothing"
        raise ValueError(f"{key} = {layout!r}; {words} can be filled in, as it stands here")


def filled(layout: str, **values: str) -> tuple[str, ...]:
    """Return the components of a layout of the mapping file."""
    return tuple(part.format(**values) for part in layout.split("^"))
