import ast
import importlib.metadata
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from edge.camera import PiCamera, UsbCamera, open_camera
from edge.errors import UserError
from tests.edge import picamera2_stand_in
from tests.edge.picamera2_stand_in import Picamera2


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> type[Picamera2]:
    """`import picamera2` gives the stand-in, without faults."""
    module = ModuleType("picamera2")
    module.Picamera2 = Picamera2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "picamera2", module)
    for name in ("attached", "busy", "frames_until_unplugged", "settles_after"):
        monkeypatch.setattr(Picamera2, name, getattr(Picamera2, name))
    return Picamera2


def signatures(source: str) -> dict[str, list[tuple[str, str | None]]]:
    """Arguments and defaults of each method of class Picamera2, the last definition of each (overloads)."""
    (found,) = (n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == "Picamera2")
    return {
        f.name: [
            (a.arg, ast.unparse(d) if d else None)
            for a, d in zip(
                f.args.args, [None] * (len(f.args.args) - len(f.args.defaults)) + f.args.defaults, strict=True
            )
        ]
        for f in found.body
        if isinstance(f, ast.FunctionDef)
    }


def test_the_stand_in_has_the_signatures_of_the_real_package() -> None:
    distribution = importlib.metadata.distribution("picamera2")  # fails where `make test` did not install it
    assert distribution.version == "0.3.38"
    real = signatures(Path(str(distribution.locate_file("picamera2/picamera2.py"))).read_text())
    made = signatures(Path(picamera2_stand_in.__file__).read_text())
    # libcamera is not here: its default object stands as None.
    real["create_video_configuration"] = [
        (name, "None" if default == "libcamera.Transform()" else default)
        for name, default in real["create_video_configuration"]
    ]
    assert made == {name: real[name] for name in made}


def test_frames_are_rgb(library: type[Picamera2]) -> None:
    camera = open_camera("pi", (64, 48))
    frame = next(iter(camera.frames()))
    assert frame.image.shape == (48, 64, 3)
    assert tuple(frame.image[20, 20]) == (200, 0, 0)
    assert tuple(frame.image[2, 2]) == (0, 180, 0)
    assert camera.moving
    assert camera.live


def test_exposure_and_white_balance_are_fixed_once_settled(library: type[Picamera2]) -> None:
    library.settles_after = 12
    camera = PiCamera((64, 48))
    assert camera._camera.fixed == {
        "AeEnable": False,
        "AwbEnable": False,
        "ExposureTime": 5000,
        "AnalogueGain": 1.5,
        "ColourGains": (2.1, 1.7),
    }
    assert 12 < camera._camera.taken <= 20


def test_a_light_that_never_settles_is_fixed_all_the_same(library: type[Picamera2]) -> None:
    library.settles_after = 100
    assert PiCamera((64, 48), settle_frames=20)._camera.taken == 20


@pytest.mark.parametrize(
    ("fault", "value", "message"),
    [
        ("attached", False, "no Pi camera found"),
        ("busy", True, "busy"),
        ("frames_until_unplugged", 3, "gave no picture"),
    ],
)
def test_a_fault_is_told_with_its_fix(
    library: type[Picamera2], monkeypatch: pytest.MonkeyPatch, fault: str, value: object, message: str
) -> None:
    monkeypatch.setattr(library, fault, value)
    with pytest.raises(UserError, match=message):
        open_camera("pi", (64, 48))


def test_a_camera_unplugged_in_mid_run_is_an_error_after_its_last_frame(library: type[Picamera2]) -> None:
    camera = PiCamera((64, 48))
    library.frames_until_unplugged = camera._camera.taken + 2
    frames = camera.frames()
    assert [next(frames).index for _ in range(2)] == [0, 1]
    with pytest.raises(UserError, match="same --specimen"):
        next(frames)
    camera.close()
    camera.close()
    assert not camera._camera.started


def test_a_size_that_the_camera_refuses_is_told_and_the_camera_released(library: type[Picamera2]) -> None:
    with pytest.raises(UserError, match="should be even"):
        PiCamera((63, 48))


def test_without_libcamera_the_fix_is_named() -> None:
    # The real package is installed here, libcamera is not: the real failure of a wrong environment.
    with pytest.raises(UserError, match="apt install python3-picamera2"):
        open_camera("pi", (64, 48))


def test_a_missing_usb_camera_is_named() -> None:
    with pytest.raises(UserError, match=r"/dev/video99: no such camera; present:"):
        open_camera("99", (640, 480))


def test_a_device_that_is_no_camera_is_told() -> None:
    with pytest.raises(UserError, match="not a camera"):
        open_camera("/dev/null", (640, 480))


class FakeCapture:
    """cv2.VideoCapture with three good reads, one bad one between, then none."""

    def __init__(self, *_: object) -> None:
        self.reads = [True, False, True, True]

    def isOpened(self) -> bool:
        return True

    def set(self, *_: object) -> bool:
        return True

    def read(self) -> tuple[bool, np.ndarray | None]:
        good = self.reads.pop(0) if self.reads else False
        return good, np.full((48, 64, 3), (0, 0, 200), np.uint8) if good else None

    def release(self) -> None: ...


def test_a_usb_camera_survives_a_bad_read_and_tells_when_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    camera = UsbCamera(Path("/dev/null"), (64, 48))
    frames = camera.frames()
    assert [tuple(next(frames).image[0, 0]) for _ in range(3)] == [(200, 0, 0)] * 3
    with pytest.raises(UserError, match="no picture any more"):
        next(frames)
