from pathlib import Path

import pytest

from edge.errors import UserError
from training import page


def test_a_page_that_cannot_be_written_is_named_and_leaves_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    page.write(file, "First", [])
    old = file.read_text()
    assert "<title>First</title>" in old
    (tmp_path / ".part-report.html").mkdir()
    with pytest.raises(UserError, match=r"report\.html: .*the page needs a place to be written to"):
        page.write(file, "Second", [])
    assert file.read_text() == old
