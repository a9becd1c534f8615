"""Masks are refused, and cells taken, in what forms they may come."""

import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cells import Image
from training.data import read_image
from training.masks import is_drawn


def jpeg(image: Image, quality: int) -> Image:
    content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR), np.uint8)


def grey(levels: Image) -> Image:
    return np.asarray(cv2.cvtColor(levels, cv2.COLOR_GRAY2RGB), np.uint8)


def shape(image: Image) -> Image:
    """Return 255 where Otsu's threshold finds stain, else 0, shape (height, width)."""
    dark = cv2.threshold(
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 0, 255, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU
    )
    return np.asarray(dark[1], np.uint8)


def alone(image: Image, ground: int) -> Image:
    return np.where(shape(image)[..., None] > 0, image, np.uint8(ground))


def palette(image: Image) -> Image:
    """Return an image of 36 colours."""
    return np.uint8(np.float32(image) / 255 * [2, 3, 2] + 0.5) * np.uint8([127, 85, 127])


CELLS: dict[str, Callable[[Image], Image]] = {
    "as it is": lambda image: image,
    "28 pixels": lambda image: cv2.resize(image, (28, 28), interpolation=cv2.INTER_AREA),
    "JPEG 20": lambda image: jpeg(image, 20),
    "alone on black": lambda image: alone(image, 0),
    "alone on white": lambda image: alone(image, 255),
    "over-exposed": lambda image: cv2.convertScaleAbs(image, alpha=1.8),
    "36 colours": palette,
    "without colour": lambda image: grey(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)),
}


@pytest.fixture(scope="module")
def cells(shared_data: Path) -> list[Image]:
    """Every 300th image of the list."""
    with (shared_data / "cells.csv").open(newline="") as table:
        files = [row["file"] for row in csv.DictReader(table)]
    return [read_image(shared_data / "cells" / file) for file in files[::300]]


@pytest.mark.parametrize("form", CELLS)
def test_a_cell_is_taken_in_any_form(cells: list[Image], form: str) -> None:
    assert not any(is_drawn(np.ascontiguousarray(CELLS[form](image))) for image in cells)


def test_a_mask_is_refused_whatever_it_was_made_of(cells: list[Image]) -> None:
    for image in cells:
        mask = shape(image)
        assert is_drawn(grey(mask))
        assert is_drawn(255 - grey(mask))
        assert is_drawn(grey(mask // 255))  # a label map: black to the eye
        assert is_drawn(jpeg(grey(mask), 75))
        assert is_drawn(np.dstack([mask, mask // 2, 0 * mask]))


@pytest.mark.parametrize("as_stored", [True, False])
def test_drawn_masks_of_nucleus_and_cytoplasm_are_refused(shared_data: Path, as_stored: bool) -> None:
    files = sorted((shared_data / "cells/zheng1").glob("*_mask.png"))
    masks = [grey(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)) for file in files]
    assert len(masks) == 300
    assert all(is_drawn(mask if as_stored else jpeg(mask, 75)) for mask in masks)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 180, 210)])
def test_a_plain_square_shows_nothing(colour: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(0).integers(-2, 3, (40, 40, 3))
    square = np.clip(np.full((40, 40, 3), colour) + noise, 0, 255).astype(np.uint8)
    assert is_drawn(square)
