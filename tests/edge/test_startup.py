from pathlib import Path

import pytest

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
