"""What picamera2 does without a camera: the same signatures, the same order of colours in the arrays.

`test_camera.py` compares the signatures with the real package's source.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

SCENE = (210, 120, 60)
"""Red, green and blue of what the camera sees, when well exposed."""
CHANNELS = {"RGB888": "BGR", "BGR888": "RGB", "XBGR8888": "RGBX", "XRGB8888": "BGRX"}
"""Order of the colours in the array, by the name of the format."""


class libcamera:
    """Default arguments of the real signatures name it."""

    Transform = object


class Picamera2:
    """One camera whose exposure takes a while to settle, and whose white balance drifts for ever."""

    cameras: ClassVar[list[dict[str, Any]]] = [{"Model": "imx477", "Id": "/base/soc/i2c/imx477@1a", "Num": 0}]
    busy = False
    frames_before_unplugged = math.inf
    restless = False
    """True: exposure never settles."""
    controls: ClassVar[dict[str, tuple[Any, Any, Any]]] = {
        "AeEnable": (False, True, True),
        "AwbEnable": (False, True, True),
        "ExposureTime": (60, 674181621, 20000),
        "AnalogueGain": (1.0, 22.2, 1.0),
        "ColourGains": (0.0, 32.0, None),
    }
    opened: ClassVar[list["Picamera2"]] = []

    @staticmethod
    def global_camera_info():
        return Picamera2.cameras

    def __init__(self, camera_num=0, verbose_console=None, tuning=None, allocator=None):
        if self.busy:
            try:
                raise RuntimeError("Failed to acquire camera: Device or resource busy")
            except RuntimeError as error:
                raise RuntimeError("Camera __init__ sequence did not complete.") from error
        self.opened.append(self)
        self.frame = 0
        self.set: dict[str, Any] = {}
        self.set_at = 0
        self.configuration: dict[str, Any] = {}
        self.started = self.cancelled = self.closed = False

    @property
    def camera_controls(self):
        return self.controls

    def create_video_configuration(
        self,
        main={},
        lores=None,
        raw={},
        transform=libcamera.Transform(),  # noqa: B008
        colour_space=None,
        buffer_count=6,
        controls={},
        display="main",
        encode="main",
        queue=True,
        sensor={},
        use_case="video",
    ):
        return {"main": {"format": "XBGR8888", "size": (1280, 720)} | main, "queue": queue}

    def configure(self, camera_config=None):
        self.configuration = camera_config

    def camera_configuration(self):
        return self.configuration

    def start(self, config=None, show_preview=False):
        self.started = True

    def set_controls(self, controls):
        unknown = set(controls) - set(self.controls)
        if unknown:
            raise RuntimeError(f"Control {unknown.pop()} is not advertised by libcamera")
        for switch, value in (("AeEnable", "ExposureTime"), ("AwbEnable", "ColourGains")):
            if controls.get(switch):
                self.set.pop(value, None)
        self.set |= controls
        self.set_at = self.frame

    def capture_metadata(self, wait=None, signal_function=None):
        return self._next(wait)[1]

    def capture_arrays(self, names=["main"], wait=None, signal_function=None):
        array, metadata = self._next(wait)
        return [array for _ in names], metadata

    def cancel_all_and_flush(self):
        self.cancelled = True

    def close(self):
        if self.frame >= self.frames_before_unplugged and not self.cancelled:
            raise AssertionError("the real one waits here for ever, behind the capture that timed out")
        self.closed = True

    def _next(self, wait: float | None) -> tuple[np.ndarray, Mapping[str, Any]]:
        assert self.started
        assert not self.closed
        if self.frame >= self.frames_before_unplugged:
            assert wait, "the real one waits here for ever"
            raise TimeoutError
        self.frame += 1
        metadata = {
            "SensorTimestamp": 7_000_000_000 + self.frame * 33_333_000,
            "ExposureTime": self.set.get("ExposureTime", self._exposure()),
            "AnalogueGain": 1.0,
        }
        if "ColourGains" in self.controls:
            metadata["ColourGains"] = self.set.get("ColourGains", (3 + self.frame / 500, 1.6))
        main = self.configuration["main"]
        width, height = main["size"]
        colours = dict(zip("RGBX", (*SCENE, 255), strict=True))
        pixel = [colours[channel] for channel in CHANNELS[main["format"]]]
        light = metadata["ExposureTime"] / 20000
        array = np.full((height, width, len(pixel)), np.clip(np.array(pixel) * light, 0, 255), np.uint8)
        return array, metadata

    def _exposure(self) -> int:
        if self.restless:
            return 20000 if self.frame % 2 else 10000
        return round(20000 * (1 - 0.8**self.frame))
