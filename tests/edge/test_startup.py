import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge.errors import UserError
from edge.startup import complain, run, say
from tests.stand_in import run_without


@pytest.mark.parametrize("program", ["edge.run", "edge.export", "edge.lis"])
@pytest.mark.parametrize(
    ("fault", "code", "told"),
    [
        ("raise KeyboardInterrupt", 130, "stopped\n"),
        (
            "import nowhere",
            1,
            "error: No module named 'nowhere'; start it with the Python of its environment",
        ),
    ],
)
def test_what_ends_the_imports_is_told_in_one_line(
    tmp_path: Path, program: str, fault: str, code: int, told: str
) -> None:
    done = run_without(tmp_path, program, ("numpy", "serial", "anyascii"), fault)
    assert done.returncode == code
    assert done.stderr.startswith(told)
    assert len(done.stderr.splitlines()) == 1


def test_what_ends_the_work_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(fault: BaseException) -> int:
        raise fault

    assert run(lambda: None) == 0
    assert run(lambda: 1) == 1
    for fault, code, told in (
        (UserError("it is so"), 1, "error: it is so\n"),
        (OSError("no space left"), 1, "error: no space left\n"),
        (PermissionError(13, "Permission denied", "/a/b"), 1, "error: /a/b: Permission denied\n"),
        (KeyboardInterrupt(), 130, "stopped; it goes on\n"),
    ):
        assert run(lambda fault=fault: fails(fault), "stopped; it goes on") == code
        assert capsys.readouterr().err == told
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0)


@pytest.mark.parametrize(
    ("output", "code", "told"),
    [
        ("| true", 141, ""),
        ("> /dev/full", 1, r"error: .*No space left on device\n"),
        ("> /dev/full 2>/dev/full", 1, ""),
    ],
)
def test_output_that_nobody_takes_ends_a_program_in_one_line(output: str, code: int, told: str) -> None:
    program = (
        "import sys, time; from edge.startup import run; time.sleep(0.3); sys.exit(run(lambda: print('a')))"
    )
    command = f'{sys.executable} -c "{program}" {output}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert re.fullmatch(told, done.stderr)


def test_a_line_that_nobody_can_read_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    monkeypatch.setattr(sys, "stderr", Full())
    say("it goes on")
    complain("it goes on")


def test_output_that_nobody_takes_hides_no_exit_code(tmp_path: Path) -> None:
    program = (
        "import sys; from edge.startup import begin, run, say; begin('');"
        "sys.exit(run(lambda: [say('\u65e5'), say('b'), 3][-1]))"
    )
    full, log = f'{sys.executable} -c "{program}" > /dev/full 2>&1', tmp_path / "log"
    assert subprocess.run(["bash", "-c", full], check=False).returncode == 3
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    with log.open("w") as file:
        arguments = [sys.executable, "-c", program]
        assert subprocess.run(arguments, stdout=file, env=environment, check=False).returncode == 3
    assert log.read_text() == "?\nb\n"
