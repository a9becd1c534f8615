"""The content of an image file -> RGB picture, or a plain reason why not."""

import re
import struct
import zlib

import cv2
import numpy as np

from edge.cells import Image

MIN_SIDE_PX = 16
"""A smaller image cannot show a cell."""
MAX_PIXELS = 50_000_000
"""A larger image does not fit into a small computer's memory."""

_JPEG = b"\xff\xd8"
_BLANK, _BLANKS = 128, 32
_DIM, _BURNT = 32, 250
"""Brightest and darkest value (0..255) of a grey picture that has light enough to show a colour."""


class BadImage(Exception):
    """An image that cannot be counted; the text says why."""


def decode_image(data: bytes, *, grey: bool = False) -> Image:
    """Decode an image file's content to RGB, 8 bits.

    16 bits are scaled by the bit depth in use: the fewest of 8, 10, 12, 14 and 16 bits that hold the
    brightest value, since cameras store their 12 bits in 16. What is transparent gets white behind it.
    The orientation that a camera may have noted (EXIF) is ignored, so boxes are in stored pixels.

    Args:
        data: content of the file.
        grey: take a picture without colour too; a stream shows one where bare glass lies.

    Raises:
        BadImage: it is empty, cut short, damaged, too small, too large, not an image, or grey.
    """
    check_content(data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise BadImage(f"cannot be decoded ({error.err})") from None
    if image is None:
        raise BadImage("damaged: it cannot be decoded")
    if not grey and data[:2] == _JPEG and _ends_blank(image):
        raise BadImage("damaged: a part of the JPEG was lost")
    if grey and image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    return _plain(image, grey=grey)


def _ends_blank(image: cv2.typing.MatLike) -> bool:
    """Tell whether a JPEG's last pixels are what the decoder fills in where the data have run out: 128.

    A picture that begins so too may have a frame of that grey.
    """
    # One row: no more of the last blocks may lie within the picture.
    first, last = image[0, :_BLANKS], image[-1, -_BLANKS:]
    return bool((last == _BLANK).all() and not (first == _BLANK).all())


def rgb(image: cv2.typing.MatLike) -> Image:
    """Return OpenCV's 8 bits BGR picture as RGB."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def encode_crop(crop: Image) -> bytes:
    """Return a cell's picture as it is stored: a JPEG of quality 95."""
    bgr = cv2.cvtColor(crop, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def decode_crop(stored: bytes) -> Image | None:
    """Return a cell's stored picture; None where there is none, or it is damaged."""
    picture = cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_COLOR) if stored else None
    return None if picture is None else rgb(picture)


def _plain(image: cv2.typing.MatLike, *, grey: bool) -> Image:
    """Turn OpenCV's BGR or BGRA, 8 or 16 bits, into RGB of 8 bits."""
    if image.dtype not in (np.uint8, np.uint16):
        raise BadImage(f"values are {image.dtype}; 8 or 16 bits expected")
    if image.ndim == 2 or image.shape[2] < 3 or (not grey and _is_grey(image[..., :3])):
        raise BadImage("grey: a stain is told by its colour")
    deep = image.dtype == np.uint16
    colour, alpha = image[..., :3], image[..., 3:]
    if deep:
        bits = max(8, int(colour.max()).bit_length())
        colour = np.right_shift(colour.astype(np.uint16), bits + bits % 2 - 8)
    opaque = 65535 if deep else 255
    if alpha.any() and alpha.min() < opaque:  # 0 everywhere is a channel that nobody filled
        share = np.asarray(alpha, np.float32) / opaque
        colour = colour * share + 255 * (1 - share)
    return rgb(colour.astype(np.uint8))


def _is_grey(colour: cv2.typing.MatLike) -> bool:
    if not (colour == colour[..., :1]).all():
        return False
    # Without light, or burnt out, a colour camera shows no colour either: that is for the quality gates.
    return colour.dtype == np.uint16 or (int(colour.max()) >= _DIM and int(colour.min()) <= _BURNT)


def check_content(data: bytes) -> None:
    """Check that an image file's content is whole and of a fit size, before it is decoded.

    OpenCV shows a JPEG that was cut short with grey at its bottom, and says nothing.

    Raises:
        BadImage: it is empty, cut short, too small, too large, or not an image.
    """
    if not data:
        raise BadImage("empty: no data")
    try:
        width, height = _inspect(data)
    except struct.error:
        raise BadImage("cut short") from None
    if min(width, height) < MIN_SIDE_PX:
        raise BadImage(f"{width} x {height} pixels: too small to show a cell")
    if width * height > MAX_PIXELS:
        raise BadImage(f"{width} x {height} pixels: more than {MAX_PIXELS // 10**6} megapixels")


def _inspect(data: bytes) -> tuple[int, int]:
    """Return the size; raise BadImage or struct.error where the file is not whole."""
    if data[:2] == _JPEG:
        return _jpeg_size(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _png_size(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _tiff_size(data, "<" if data[:1] == b"I" else ">")
    if data[:2] == b"BM":
        old = data[14:18] == struct.pack("<I", 12)
        width, height = struct.unpack_from("<HH" if old else "<ii", data, 18)
        return abs(width), abs(height)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_size(data)
    raise BadImage("not a PNG, JPEG, TIFF, BMP or WebP image")


# The next marker; in a scan, 0xff00 is data and ffd0 to ffd7 restart it.
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
_LOST = bytes(32)
"""Zeros stand where a file lost a block. OpenCV shows grey from there on."""


def _jpeg_size(data: bytes) -> tuple[int, int]:
    width = height = planes = 0
    at = 2
    sequential = whole = full = False
    while marker := _JPEG_MARKER.search(data, at):
        (code,) = marker[1]
        if whole and full and _LOST in data[at : marker.start()].rstrip(b"\0"):
            raise BadImage("damaged: a part of the JPEG was lost")
        if code == 0xD9:
            return width, height
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            height, width, planes = struct.unpack_from(">HHB", data, marker.end() + 3)
            sequential = code in (0xC0, 0xC1)
        if code == 0xDA:  # a scan of one colour alone may be blank in zeros
            whole = sequential and struct.unpack_from("B", data, marker.end() + 2) == (planes,)
        at = marker.end() + int(struct.unpack_from(">H", data, marker.end())[0])
        full = full or (code == 0xC4 and _never_only_zeros(data[marker.end() + 2 : at]))
    raise BadImage("cut short: a JPEG without its end")


def _never_only_zeros(tables: bytes) -> bool:
    """Tell whether one of these Huffman tables ends no block by zeros: no part is only zeros then."""
    at = 0
    while at + 17 < len(tables):
        if tables[at] & 0x10 and tables[at + 17] != 0:  # a table of AC coefficients; its shortest code
            return True
        at += 17 + sum(tables[at + 1 : at + 17])
    return False


def _png_size(data: bytes) -> tuple[int, int]:
    width = height = 0
    kind, at = b"", 8
    view = memoryview(data)
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        (checksum,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(view[at + 4 : at + 8 + length]) != checksum:
            raise BadImage("damaged: a checksum in the PNG is wrong")
        if kind == b"IHDR":
            width, height = struct.unpack_from(">II", data, at + 8)
        at += 12 + length
    return width, height


def _tiff_size(data: bytes, order: str) -> tuple[int, int]:
    (at,) = struct.unpack_from(order + "I", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, at)
    found = {}
    for entry in range(at + 2, at + 2 + 12 * entries, 12):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        (found[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, entry + 8)
    if struct.unpack_from(order + "I", data, at + 2 + 12 * entries) != (0,):
        raise BadImage("a TIFF of several pages: save each page as a file of its own")
    return found.get(256, 0), found.get(257, 0)


def _webp_size(data: bytes) -> tuple[int, int]:
    if 8 + int(struct.unpack_from("<I", data, 4)[0]) > len(data):
        raise BadImage("cut short")
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF
