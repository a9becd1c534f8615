"""An hour at the microscope: nothing counted again, memory bounded. `python -m benchmarks.endurance`.

A simulated stage goes over a slide of real cells, forward and back without end, as a live stream of 30 frames
a second; the instrument counts it (`edge.run --url`). Beside its count stand the cells that the first way
shows well, and what a counter that forgets the slide would have counted: these, once for each way. Exit
code 1 where fewer were counted, or more than lie on the slide (totals alone are compared), or where the
memory grew by more than a tenth after the first minute.
"""

import argparse
import itertools
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
from rich.console import Console
from rich.progress import track

from benchmarks.real_slide import build_slide
from benchmarks.simulate_stage import JPEG_QUALITY, film
from benchmarks.stage_script import SCRIPTS, seen_well, stage_truth
from edge.cells import Image
from edge.errors import UserError
from edge.startup import Parser, run

FPS = 30
"""Frames a second of the stream."""
LEAST_MINUTES = 1.0
"""Memory is read once a minute."""
MOST_GROWTH = 1.1
"""Greatest memory over that after the first minute."""


@dataclass(frozen=True, slots=True)
class Endured:
    """What came of a run."""

    result: dict[str, Any]
    """Of `edge.report.result`."""
    memory_mb: list[float]
    """Resident memory of the instrument, minute by minute."""
    database_mb: float


def jpeg(image: Image) -> bytes:
    """Return a frame as the stream sends it."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


@contextmanager
def stream(frames: Sequence[bytes], fps: float = FPS) -> Iterator[str]:
    """Play frames forward and back without end, as MJPEG on this machine; the address is returned.

    Args:
        frames: JPEG files, at least two.
        fps: frames a second, whether or not they are taken so fast.
    """
    way = [*frames, *frames[-2:0:-1]]

    class Player(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            begin = time.monotonic()
            try:
                for number, frame in enumerate(itertools.cycle(way), 1):
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(frame)}\r\n\r\n"
                    self.wfile.write(head.encode() + frame + b"\r\n")
                    time.sleep(max(0.0, begin + number / fps - time.monotonic()))
            except OSError:
                return  # whoever looked has gone

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Player)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def endure(url: str, folder: Path, minutes: float) -> Endured:
    """Let the instrument count from `url` for so long, its files in `folder`; print its memory.

    Raises:
        UserError: it ended before the time.
    """
    database, result = folder / "counts.sqlite", folder / "result.json"
    command = [sys.executable, "-m", "edge.run", "--url", url, "--headless", "--specimen", "endurance"]
    command += ["--database", str(database), "--json", str(result)]
    memory: list[float] = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as instrument:
        try:
            end = time.monotonic() + 60 * minutes
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(left, 60))
                if instrument.poll() is not None:
                    raise UserError(f"the instrument ended after {len(memory)} minutes")
                memory.append(_resident_mb(instrument.pid))
                print(f"minute {len(memory)}: {memory[-1]:.0f} MB", flush=True)
        finally:
            instrument.send_signal(signal.SIGINT)
            instrument.wait(60)
    return Endured(json.loads(result.read_text()), memory, database.stat().st_size / 1e6)


def _resident_mb(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def _work(options: argparse.Namespace) -> int:
    if not options.minutes >= LEAST_MINUTES:
        raise UserError(
            f"--minutes {options.minutes:g}: {LEAST_MINUTES:g} at least, after which memory is read"
        )
    script = SCRIPTS["rows"]
    slide = build_slide(options.data, options.split, options.seed)
    truth = stage_truth(slide.size, script, options.seed)
    shots = track(film(slide, script, options.seed), "filming", len(truth), console=Console(stderr=True))
    frames = [jpeg(image) for image, _ in shots]
    with tempfile.TemporaryDirectory() as folder, stream(frames) as url:
        endured = endure(url, Path(folder), options.minutes)
    well = sum(seen_well(cell, truth, script) for cell in slide.cells)
    ways = 60 * options.minutes * FPS / (len(frames) - 1)
    result, memory = endured.result, endured.memory_mb
    total = result["total"] + sum(result["counts"][name] for name in result["per_100"])
    growth = max(memory) / memory[0]
    print(
        f"{result['frames']} frames in {options.minutes:g} minutes, {sum(result['gated'].values())} refused, "
        f"{result['lost_frames']} lost\n"
        f"{total} cells counted, {well} seen well on the first of {ways:.0f} ways; a counter that forgets "
        f"the slide: {ways * well:.0f}\n"
        f"memory {memory[0]:.0f} MB after a minute, {max(memory):.0f} MB at most ({growth:.2f} times); "
        f"database {endured.database_mb:.1f} MB"
    )
    return int(not well <= total <= len(slide.cells) or growth > MOST_GROWTH)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = Parser(prog="python -m benchmarks.endurance", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with cells.csv")
    parser.add_argument(
        "--split", default="test", choices=("train", "validation", "test"), help="whose cells are shown"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the slide, the stage and the noise")
    parser.add_argument("--minutes", type=float, default=60.0, help="so long")
    options = parser.parse_args(arguments)
    return run(lambda: _work(options))


if __name__ == "__main__":
    sys.exit(main())
