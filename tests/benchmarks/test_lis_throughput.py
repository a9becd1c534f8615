import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_both_senders_are_measured_on_both_lines() -> None:
    program = [sys.executable, "-m", "benchmarks.lis_throughput", "--messages", "5"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    rows = [line.split() for line in done.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == ["pty", "TCP"]
    assert all(float(value) > 0 for row in rows for value in row[1:])
