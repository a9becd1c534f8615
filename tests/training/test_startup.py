import subprocess
import sys
from pathlib import Path

import pytest

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
    """The fault stands in for the first libraries that the programs import."""
    (tmp_path / "numpy.py").write_text(fault)
    (tmp_path / "keras.py").write_text(fault)
    # As `python -m`, with the stand-ins before the installed packages.
    run = "import runpy, sys; sys.path.insert(0, sys.argv[1]); runpy.run_module(sys.argv[2], alter_sys=True)"
    done = subprocess.run(
        [sys.executable, "-c", run, tmp_path, program], capture_output=True, text=True, check=False
    )
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
