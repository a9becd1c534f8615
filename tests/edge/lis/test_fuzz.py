"""The fuzzer's corpus, run without the fuzzer."""

from pathlib import Path

import pytest

from tests.edge.lis.fuzz import one

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


@pytest.mark.parametrize("file", CORPUS, ids=lambda f: f.name)
def test_no_bytes_break_a_parser(file: Path) -> None:
    one(file.read_bytes())


def test_the_corpus_is_there_and_small() -> None:
    assert len(CORPUS) >= 20
    assert sum(file.stat().st_size for file in CORPUS) < 200_000
