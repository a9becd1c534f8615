"""What the guides tell a person to type the programs take, and where they point there is something."""

import argparse
import re
import runpy
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name

import cv2
import pytest

from edge.demo import DemoSource

ROOT = Path(__file__).resolve().parents[1]
GUIDES = [ROOT / "README.md", *sorted(ROOT.glob("[a-z]*/*.md"))]
_CODE = re.compile(r"`([^`\n]+)`|^ {4,}(\S.*)$", re.MULTILINE)
_PROGRAM = re.compile(r"(?:\S*bin/python -m )?((?:edge|training|convert|benchmarks)\.\w+)(?: ([^|>]+))?$")
_NAME = re.compile(r"(?!.*\.toml)(?:edge|training|convert|benchmarks|tests)(?:\.[a-z_0-9]+)+$")
_LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")


class ParsedError(BaseException):
    """Options were taken; nothing is done with them. No program catches it."""


def code(guide: Path) -> Iterator[str]:
    """Yield the guide's lines of code and what stands in backticks, without comments and sudo."""
    for found in _CODE.finditer(guide.read_text(encoding="utf-8")):
        told = (found[1] or found[2] or "").partition("  #")[0]
        yield told.rpartition("&& ")[2].strip().removeprefix("time ").removeprefix("sudo -u wbc ")


def commands() -> list[tuple[str, str, str]]:
    """Return each command once: the guide that has it first, the program, its options."""
    known: dict[tuple[str, str], str] = {}
    for guide in GUIDES:
        for told in code(guide):
            if found := _PROGRAM.match(told):
                if found[2] is None and "python -m" not in told:
                    continue  # a module's name
                known.setdefault((found[1], (found[2] or "").strip()), str(guide.relative_to(ROOT)))
    return [(guide, *command) for command, guide in known.items()]


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")  # imported by other tests
@pytest.mark.parametrize(("guide", "program", "options"), commands())
def test_the_program_takes_the_options(
    guide: str, program: str, options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse = argparse.ArgumentParser.parse_args

    def parse_only(parser: argparse.ArgumentParser, *arguments: list[str] | None) -> None:
        for action in parser._actions:  # a guide's sentence names only the options that it speaks of
            action.required &= not action.option_strings
        parse(parser, *arguments)
        raise ParsedError

    def refuse(parser: argparse.ArgumentParser, message: str) -> None:
        pytest.fail(f"{guide}: {program} {options}: {message}")

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
    monkeypatch.setattr(argparse.ArgumentParser, "error", refuse)
    monkeypatch.setattr(sys, "argv", [program, *shlex.split(options)])
    with pytest.raises(ParsedError):
        runpy.run_module(program, run_name="__main__", alter_sys=True)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: str(guide.relative_to(ROOT)))
def test_links_and_modules_are_there(guide: Path) -> None:
    for told in code(guide):
        if _NAME.match(told):
            resolve_name(told)
    for path, anchor in _LINK.findall(guide.read_text(encoding="utf-8")):
        target = (guide.parent / path) if path else guide
        assert target.exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with a drawn field of view."""
    folder = tmp_path / "images"
    folder.mkdir()
    frame = next(iter(DemoSource(pace=False).frames()))
    cv2.imwrite(str(folder / "field.png"), cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))
    return folder


def test_a_result_reaches_the_lis_as_the_readme_says(images: Path, tmp_path: Path) -> None:
    told = (
        (ROOT / "README.md")
        .read_text(encoding="utf-8")
        .partition("## Results into the LIS")[2]
        .partition("## Figures")[0]
    )
    simulate, count, _, status = re.findall(r"^ {4}\.venv/bin/python (.+?) +#", told, re.MULTILINE)

    def start(line: str, **places: str) -> subprocess.Popen[str]:
        words = [places.get(word, word) for word in line.split()]
        return subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    database = f" --database {tmp_path / 'wbc.sqlite'}"
    with start(simulate) as lis:
        assert lis.stdout is not None
        line = next(re.findall(r"connect to (\S+)", told)[0] for told in lis.stdout if "connect to" in told)
        try:
            counted = start(count + database, DIR=str(images), LINE=line)
            output = counted.communicate(timeout=60)[0]
            waits = start(status + database).communicate(timeout=60)[0]
        finally:
            lis.send_signal(signal.SIGINT)
        received = lis.communicate(timeout=10)[0]
    assert counted.returncode == 0, output
    assert "received" in waits
    assert "OBX" in received or "R|1" in received


def test_the_messages_that_the_guide_explains_are_said() -> None:
    table = (ROOT / "deploy" / "README.md").read_text().partition("## When something is wrong")[2]
    told = re.findall(r"^\| [^|`]*`([^`]+)`", table, re.MULTILINE)
    said = " ".join(file.read_text() for file in (ROOT / "edge").glob("*.py"))
    assert len(told) >= 5
    assert [m for m in told if m.rpartition("png: ")[2] not in said] == []
