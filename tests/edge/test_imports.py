import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = {
    "tensorflow",
    "keras",
    "torch",
    "jax",
    "scipy",
    "pandas",
    "matplotlib",
    "training",
    "convert",
    "picamera2",
}


def test_the_instrument_imports_nothing_heavy() -> None:
    program = "import sys, edge.run; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "edge" in loaded
    assert loaded & HEAVY == set()


def test_the_page_is_not_imported_before_it_is_served() -> None:
    program = "import sys, edge.run; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {"starlette", "uvicorn"} & set(done.stdout.split()) == set()
