"""How a picture lies on the slide, or on another picture: moved and turned, never scaled."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pose:
    """How a frame lies on the slide: slide = (x, y) + R(angle) frame.

    Both count pixels of the frame, x to the right and y down, from the middle of a pixel.
    """

    x: float
    y: float
    """Where the middle of the frame's upper left pixel lies on the slide, pixels."""
    angle: float
    """How far the frame is turned, radians: a positive angle turns its x axis towards the slide's y axis
    (clockwise on a screen)."""

    def to_slide(self, x: float, y: float) -> tuple[float, float]:
        """Return where the point (x, y) of the frame lies on the slide, pixels."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return self.x + cos * x - sin * y, self.y + sin * x + cos * y

    def to_frame(self, x: float, y: float) -> tuple[float, float]:
        """Return where the point (x, y) of the slide lies in the frame, pixels; maybe outside it."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        x, y = x - self.x, y - self.y
        return cos * x + sin * y, cos * y - sin * x

    def after(self, first: "Pose") -> "Pose":
        """Return the pose that lays a point as `first` and then this one does."""
        return Pose(*self.to_slide(first.x, first.y), turn(self.angle + first.angle))

    def inverse(self) -> "Pose":
        """Return the pose that undoes this one."""
        return Pose(*self.to_frame(0, 0), turn(-self.angle))


def turn(angle: float) -> float:
    """Return the same angle in -pi..pi."""
    return math.remainder(angle, 2 * math.pi)
