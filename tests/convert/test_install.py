import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from convert.install import install
from edge.errors import UserError

FINE = "import sys; assert open(sys.argv[1], 'rb').read() == b'model'"


def judge(file: Path) -> Mapping[str, object]:
    assert file.read_bytes() == b"model"
    assert json.loads(file.with_suffix(".json").read_text())["name"] == "it"
    return {"figures": {"right": 0.5}}


def test_the_card_tells_hash_size_and_what_the_judge_found(tmp_path: Path) -> None:
    output = tmp_path / "new" / "it.tflite"
    card = install(b"model", {"name": "it"}, output, FINE, judge)
    assert output.read_bytes() == b"model"
    assert json.loads(output.with_suffix(".json").read_text()) == card
    assert card["bytes"] == 5
    assert card["sha256"].startswith("9372c470")
    assert card["figures"] == {"right": 0.5}
    assert sorted(path.name for path in output.parent.iterdir()) == ["it.json", "it.tflite"]


def refuses(file: Path) -> Mapping[str, object]:
    raise UserError("too bad")


@pytest.mark.parametrize(
    ("program", "judged", "said"),
    [
        ("raise SystemExit('no such operation')", judge, "does not run.*exit 1.*no such operation"),
        ("import os; os.abort()", judge, "does not run"),
        ("pass", refuses, "too bad"),
    ],
    ids=["refused", "dies", "judged"],
)
def test_what_fails_leaves_the_old_pair(tmp_path: Path, program: str, judged: object, said: str) -> None:
    output = tmp_path / "it.tflite"
    install(b"model", {"name": "it"}, output, FINE, judge)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=said):
        install(b"other", {"name": "it"}, output, program, judged)  # type: ignore[arg-type]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
