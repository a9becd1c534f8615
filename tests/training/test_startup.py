import subprocess
import sys
from pathlib import Path

import pytest

from tests.stand_in import run_without

PROGRAMS = ("training.train", "convert.quantize", "benchmarks.count_once")


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("fault", "code", "told"),
    [
        ("raise KeyboardInterrupt", 130, "stopped\n"),
        ("import nowhere", 1, "error: No module named 'nowhere'; `make .venv/dev` installs"),
    ],
)
def test_what_ends_the_imports_is_told_in_one_line(
    tmp_path: Path, program: str, fault: str, code: int, told: str
) -> None:
    done = run_without(tmp_path, program, ("numpy", "keras"), fault)
    assert done.returncode == code
    assert done.stderr.startswith(told)
    assert len(done.stderr.splitlines()) == 1


def test_any_other_error_keeps_its_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import training; 1 / 0"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_judging_an_integer_file_does_not_wait_for_keras() -> None:
    program = "import sys, training.evaluate; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"keras", "tensorflow"} & set(done.stdout.split()) == set()
