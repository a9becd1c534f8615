from collections.abc import Iterator

import pytest

from convert import equalise


@pytest.fixture(scope="session", autouse=True)
def few_values() -> Iterator[None]:
    """Fit the ranges to fewer values than the shipped file's: the tests ask whether, not how well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(equalise, "_SAMPLE", 2_000)
        yield
