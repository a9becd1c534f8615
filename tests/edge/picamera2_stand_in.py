"""A camera with the signatures of picamera2 0.3.38 and none of its hardware.

`test_camera.py` compares these signatures with the real package's source. Pictures are a red field with
a green corner, in the memory order that the real library uses for the configured format.
"""

import concurrent.futures
from typing import Any

import numpy as np

# picamera2 names a format by its bytes from the last to the first.
MEMORY_ORDER = {"BGR888": (0, 1, 2), "RGB888": (2, 1, 0)}


class Picamera2:
    """Set the class attributes before use to make it fail."""

    attached = True
    busy = False
    frames_until_unplugged = 10**9
    settles_after = 5

    @staticmethod
    def global_camera_info() -> list[dict[str, Any]]:
        return [{"Model": "imx477", "Id": "made", "Num": 0}] if Picamera2.attached else []

    def __init__(self, camera_num=0, verbose_console=None, tuning=None, allocator=None):
        if Picamera2.busy:
            raise RuntimeError("Camera __init__ sequence did not complete.")
        self.taken = 0
        self.fixed: dict[str, Any] = {}
        self.closed = 0
        self.started = False

    def create_video_configuration(
        self,
        main={},
        lores=None,
        raw={},
        transform=None,
        colour_space=None,
        buffer_count=6,
        controls={},
        display="main",
        encode="main",
        queue=True,
        sensor={},
        use_case="video",
    ):
        return {"main": main, "buffer_count": buffer_count}

    def configure(self, camera_config=None):
        width, height = camera_config["main"]["size"]
        if width % 2 or height % 2:
            raise RuntimeError("width and height should be even")
        self.config = camera_config

    def start(self, config=None, show_preview=False):
        self.started = True

    def set_controls(self, controls):
        self.fixed |= controls

    def capture_arrays(self, names=["main"], wait=None, signal_function=None):
        assert self.started
        self.taken += 1
        if self.taken > Picamera2.frames_until_unplugged:
            raise concurrent.futures.TimeoutError
        width, height = self.config["main"]["size"]
        image = np.zeros((height, width, 3), np.uint8)
        image[..., 0] = 200
        image[:8, :8] = (0, 180, 0)
        left = max(0, Picamera2.settles_after - self.taken)
        metadata = {"ExposureTime": 5000 + 900 * left, "AnalogueGain": 1.5, "ColourGains": (2.1 + left, 1.7)}
        return [image[..., MEMORY_ORDER[self.config["main"]["format"]]]], metadata

    def stop(self):
        self.started = False

    def close(self):
        self.closed += 1
        self.stop()
