"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The expert-labelled images beside the repository; a stranger without them skips these tests."""
    if not SHARED_DATA.is_dir():
        if os.environ.get("REQUIRE_SHARED_DATA"):
            pytest.fail(f"{SHARED_DATA} is missing, and REQUIRE_SHARED_DATA is set")
        pytest.skip("real images (../shared/data) are not here")
    return SHARED_DATA
