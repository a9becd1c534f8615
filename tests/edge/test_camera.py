import ast
import importlib.util
import os
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from edge.camera import FAILED_READS, SETTLE_FRAMES, PiCamera, UsbCamera, open_camera
from edge.errors import UserError
from tests.edge import picamera2_stand_in as stand_in

USED = [
    "global_camera_info",
    "__init__",
    "camera_controls",
    "create_video_configuration",
    "configure",
    "camera_configuration",
    "start",
    "set_controls",
    "capture_metadata",
    "capture_arrays",
    "cancel_all_and_flush",
    "close",
]


def real_source(name: str) -> Path:
    """A module's file in the installed picamera2, which is not imported: there is no libcamera."""
    spec = importlib.util.find_spec("picamera2")
    assert spec, "picamera2 is missing: pip install --no-deps picamera2==0.3.38"
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / name


def signatures(source: Path) -> dict[str, tuple[list[str], str]]:
    """Decorators and arguments, without type hints, of each method of the class Picamera2."""
    (body,) = (
        node.body
        for node in ast.parse(source.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name == "Picamera2"
    )
    found = {}
    for function in body:
        if not isinstance(function, ast.FunctionDef):
            continue
        decorators = [ast.unparse(decorator) for decorator in function.decorator_list]
        for argument in function.args.args:
            argument.annotation = None
        if "overload" not in decorators:
            found[function.name] = decorators, ast.unparse(function.args)
    return found


@pytest.mark.parametrize("method", USED)
def test_the_stand_in_has_the_signatures_of_picamera2(method: str) -> None:
    assert signatures(Path(stand_in.__file__))[method] == signatures(real_source("picamera2.py"))[method]


def test_every_picamera2_method_in_use_is_compared() -> None:
    assert set(signatures(Path(stand_in.__file__))) - {"_next", "_exposure"} == set(USED)


def test_the_stand_in_has_the_colour_order_of_picamera2() -> None:
    tree = ast.parse(real_source("request.py").read_text(encoding="utf-8"))
    (table,) = (
        ast.literal_eval(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "mode_lookup"
    )
    assert table == stand_in.CHANNELS


@pytest.fixture
def picamera2(monkeypatch: pytest.MonkeyPatch) -> type[stand_in.Picamera2]:
    """Install the stand-in; return its class, of which each test may change what it needs."""

    class Picamera2(stand_in.Picamera2):
        opened: list[stand_in.Picamera2] = []  # noqa: RUF012

    module = ModuleType("picamera2")
    module.Picamera2 = Picamera2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "picamera2", module)
    return Picamera2


def test_pi_frames_are_rgb_in_the_size_asked_for(picamera2: type[stand_in.Picamera2]) -> None:
    camera = open_camera("pi", (64, 48))
    frames = list(islice(camera.frames(), 3))
    camera.close()
    assert (camera.moving, camera.live, camera.length) == (True, True, None)
    assert [f.index for f in frames] == [0, 1, 2]
    np.testing.assert_allclose([f.time_s for f in frames], [0.033333, 0.066666, 0.099999], atol=1e-6)
    assert frames[0].image.shape == (48, 64, 3)
    assert frames[0].image.dtype == np.uint8
    np.testing.assert_allclose(frames[0].image[5, 5], stand_in.SCENE, rtol=0.02)
    assert frames[0].name is None


def test_pi_exposure_settles_and_is_then_fixed(picamera2: type[stand_in.Picamera2]) -> None:
    camera = PiCamera((64, 48))
    (device,) = picamera2.opened
    assert 15 < device.set_at < SETTLE_FRAMES
    assert device.set["ExposureTime"] == pytest.approx(20000, rel=0.03)
    assert (device.set["AeEnable"], device.set["AwbEnable"]) == (False, False)
    gains = device.set["ColourGains"]
    for _ in islice(camera.frames(), 30):
        assert device._next(1)[1]["ColourGains"] == gains
    camera.close()


def test_pi_exposure_settles_anew_for_another_slide(picamera2: type[stand_in.Picamera2]) -> None:
    camera = PiCamera((64, 48))
    (device,) = picamera2.opened
    before = dict(device.set)
    list(islice(camera.frames(), 200))
    camera.settle()
    assert device.set["ColourGains"][0] > before["ColourGains"][0] + 0.3, "the white balance has drifted"
    assert (device.set["AeEnable"], device.set["AwbEnable"]) == (False, False)
    camera.close()


def test_pi_exposure_that_never_settles_is_fixed_after_a_while(picamera2: type[stand_in.Picamera2]) -> None:
    picamera2.restless = True
    PiCamera((64, 48)).close()
    assert picamera2.opened[0].set_at == SETTLE_FRAMES


def test_a_monochrome_sensor_has_no_white_balance_to_fix(
    picamera2: type[stand_in.Picamera2], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AwbEnable", "ColourGains"):
        monkeypatch.delitem(picamera2.controls, name)
    PiCamera((64, 48)).close()
    assert set(picamera2.opened[0].set) == {"AeEnable", "ExposureTime", "AnalogueGain"}


def test_a_pi_camera_unplugged_in_mid_run_is_an_error(picamera2: type[stand_in.Picamera2]) -> None:
    camera = PiCamera((64, 48))
    frames = camera.frames()
    next(frames)
    (device,) = picamera2.opened
    device.frames_before_unplugged = device.frame
    with pytest.raises(UserError, match="no picture for 5 s; it was unplugged"):
        next(frames)
    camera.close()
    assert device.closed


def test_a_pi_camera_that_never_gives_a_picture_is_closed(picamera2: type[stand_in.Picamera2]) -> None:
    picamera2.frames_before_unplugged = 0
    with pytest.raises(UserError, match="ribbon cable"):
        PiCamera((64, 48))
    assert picamera2.opened[0].closed


def test_a_busy_pi_camera_names_what_may_hold_it(picamera2: type[stand_in.Picamera2]) -> None:
    picamera2.busy = True
    with pytest.raises(UserError, match=r"resource busy.*rpicam-hello"):
        PiCamera((64, 48))


@pytest.mark.parametrize("cameras", [[], [{"Model": "UVC", "Id": "/base/pcie/usb@1-1.2:1.0-046d", "Num": 0}]])
def test_no_pi_camera(
    picamera2: type[stand_in.Picamera2], monkeypatch: pytest.MonkeyPatch, cameras: list[dict[str, object]]
) -> None:
    monkeypatch.setattr(stand_in.Picamera2, "cameras", cameras)
    with pytest.raises(UserError, match="no Pi camera found"):
        PiCamera((64, 48))
    assert not picamera2.opened


def test_closing_ends_suspended_pi_frames_and_is_safe_twice(picamera2: type[stand_in.Picamera2]) -> None:
    camera = PiCamera((64, 48))
    frames = camera.frames()
    next(frames)
    camera.close()
    camera.close()
    assert list(frames) == []
    assert picamera2.opened[0].closed


def test_picamera2_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(
        UserError, match=r"picamera2 is not installed.*apt install python3-picamera2.*--system-site"
    ):
        open_camera("pi", (64, 48))


def test_picamera2_is_installed_but_libcamera_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert real_source("picamera2.py").is_file()
    monkeypatch.setitem(sys.modules, "libcamera", None)
    with pytest.raises(UserError, match=r"libcamera is not installed.*--system-site-packages"):
        open_camera("pi", (64, 48))


def test_picamera2_was_built_for_another_numpy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "picamera2.py").write_text("raise ValueError('numpy.dtype size changed')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"does not start \(numpy.dtype size changed\)"):
        open_camera("pi", (64, 48))


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Five frames of red, green and blue as in the other camera's scene."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 15, (64, 48))
    for _ in range(5):
        writer.write(np.full((48, 64, 3), stand_in.SCENE[::-1], np.uint8))
    writer.release()
    return path


class FilmedDevice:
    """A film where the USB camera would be: real reads, and its end is a pulled plug."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self.isOpened = capture.isOpened
        self.release = capture.release
        self.settings: dict[int, float] = {}
        self.failed = 0
        self._capture = capture

    def set(self, name: int, value: float) -> bool:
        self.settings[name] = value
        return True

    def read(self) -> tuple[bool, np.ndarray]:
        good, image = self._capture.read()
        self.failed += not good
        return good, image


@pytest.fixture
def device(film: Path, monkeypatch: pytest.MonkeyPatch) -> FilmedDevice:
    """Put the film where a USB camera of its path is opened."""
    filmed = FilmedDevice(cv2.VideoCapture(str(film), cv2.CAP_FFMPEG))

    def capture(path: str, backend: int) -> FilmedDevice:
        assert (path, backend) == (str(film), cv2.CAP_V4L2)
        return filmed

    monkeypatch.setattr(cv2, "VideoCapture", capture)
    return filmed


def test_usb_frames_are_rgb_until_the_plug_is_pulled(film: Path, device: FilmedDevice) -> None:
    camera = UsbCamera(film, (64, 48))
    assert device.settings[cv2.CAP_PROP_BUFFERSIZE] == 1
    assert device.settings[cv2.CAP_PROP_FRAME_WIDTH] == 64
    assert device.settings[cv2.CAP_PROP_FRAME_HEIGHT] == 48
    source = camera.frames()
    frames = list(islice(source, 5))
    assert [f.index for f in frames] == [0, 1, 2, 3, 4]
    assert frames[0].time_s < frames[4].time_s
    assert frames[0].image.shape == (48, 64, 3)
    np.testing.assert_allclose(frames[0].image[20, 20], stand_in.SCENE, atol=6)
    with pytest.raises(UserError, match=r"film.avi: no more pictures; the camera was unplugged"):
        next(source)
    assert device.failed == FAILED_READS
    camera.close()


def test_closing_ends_suspended_usb_frames_and_is_safe_twice(film: Path, device: FilmedDevice) -> None:
    camera = UsbCamera(film, (64, 48))
    frames = camera.frames()
    next(frames)
    camera.close()
    camera.close()
    assert list(frames) == []


def test_a_device_that_is_no_camera(tmp_path: Path) -> None:
    letter = tmp_path / "letter"
    letter.write_text("Dear colleague")
    with pytest.raises(UserError, match="does not open as a camera; another program may hold it"):
        UsbCamera(letter, (64, 48))


def test_a_device_that_the_account_may_not_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="usermod -aG video"):
        UsbCamera(tmp_path, (64, 48))


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("99", "/dev/video99: no such camera; video devices here: "),
        ("/dev/video98", "/dev/video98: no such camera"),
        ("usb", '"pi", or "0" or "/dev/video0"'),
        ("-1", '"pi", or "0" or "/dev/video0"'),
        ("", '"pi", or "0" or "/dev/video0"'),
    ],
)
def test_a_camera_that_is_not_there(device: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_camera(device, (64, 48))
