from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from edge.config import LisConfig
from edge.errors import UserError
from edge.lis.outbox import Entry
from edge.lis.service import LisService
from edge.live import Release
from edge.release import Releases
from edge.session import LEAST_CELLS, Session
from edge.store import Store
from tests.edge.test_session import CARD, begin, step


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """A hundred cells, none of them doubtful."""
    with Store(tmp_path / "c.sqlite") as store:
        counted = begin(store)
        counted.take(step(counted, "a.png", *[0] * LEAST_CELLS))
        counted.settle()
        assert not counted.unsettled
        yield counted


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    (tmp_path / "lis").mkdir()
    config = LisConfig(database=tmp_path / "c.sqlite", lis_folder=tmp_path / "lis")
    return Releases(LisService(config, CARD.classes, print))


def ask(
    releases: Releases, session: Session, phase: str = "finished", status: str = "final", **seen: Any
) -> Future[Entry]:
    """A person's wish, who saw the count as it is but for what is `seen`."""
    answer: Future[Entry] = Future()
    signed = {"specimen": session.specimen, "counts": session.counts, "review": 0} | seen
    releases.answer(Release(**signed, status=status, operator="", wbc=None, answer=answer), session, phase)
    return answer


def test_what_was_signed_is_released(releases: Releases, session: Session) -> None:
    entry = ask(releases, session).result(0)
    assert (entry.status, entry.total) == ("final", LEAST_CELLS)
    state = releases.state(session, broken=False)
    assert state is not None
    assert state["waiting"] == 1
    assert state["release_as"] == "corrected"


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({"phase": "counting"}, "the count goes on"),
        ({"specimen": "S-9"}, "the count is now that of S-1"),
        ({"counts": {"neutrophil": 1}}, "has changed meanwhile"),
        ({"review": 1}, "has changed meanwhile"),
        ({"status": "preliminary"}, "has changed meanwhile"),
    ],
)
def test_what_is_no_longer_as_it_was_seen_is_refused(
    releases: Releases, session: Session, seen: dict[str, Any], words: str
) -> None:
    assert words in str(ask(releases, session, **seen).exception(0))
    state = releases.state(session, broken=False)
    assert state is not None
    assert state["released"] is None


def test_an_unchanged_result_is_not_sent_again(releases: Releases, session: Session) -> None:
    first = ask(releases, session).result(0)
    words = f"released before, unchanged (message {first.id})"
    assert words in str(ask(releases, session, status="corrected").exception(0))


def test_an_input_that_broke_off_gives_no_final_result(releases: Releases, session: Session) -> None:
    state = releases.state(session, broken=True)
    assert state is not None
    assert state["release_as"] == "preliminary"
    assert "has changed" in str(ask(releases, session, "failed").exception(0))
    assert ask(releases, session, "failed", "preliminary").result(0).status == "preliminary"


def test_without_a_way_to_the_lis_a_release_says_so(session: Session) -> None:
    releases = Releases(None)
    assert releases.state(session, broken=False) is None
    assert "no way to the LIS is set" in str(ask(releases, session).exception(0))
    with pytest.raises(UserError, match="no way to the LIS is set"):
        releases.release(session, True, "", None)
