import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.imagefile import BadImage, decode_image

RNG = np.random.default_rng(1)
PICTURE = cv2.GaussianBlur(RNG.integers(0, 256, (120, 160, 3), dtype=np.uint8), (0, 0), 3)
"""BGR, as OpenCV writes it."""
KINDS = [".png", ".jpg", ".tif", ".bmp", ".webp"]


def encode(kind: str, image: np.ndarray, *options: int) -> bytes:
    good, data = cv2.imencode(kind, image, options)
    assert good
    return data.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_decodes_to_rgb(kind: str) -> None:
    image = decode_image(encode(kind, PICTURE))
    assert (image.shape, image.dtype) == ((120, 160, 3), np.uint8)
    error = np.abs(image.astype(int) - PICTURE[:, :, ::-1]).mean()
    assert error < (3 if kind == ".jpg" else 0.01)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_refused_when_cut_short(kind: str, share: float) -> None:
    data = encode(kind, PICTURE)
    with pytest.raises(BadImage, match=r"cut short|damaged"):
        decode_image(data[: int(len(data) * share)])


@pytest.mark.parametrize("progressive", [0, 1])
def test_a_jpeg_with_a_whole_preview_but_without_its_own_end_is_cut_short(progressive: int) -> None:
    data = encode(".jpg", PICTURE, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    preview = encode(".jpg", PICTURE[:16, :16])
    block = b"\xff\xe1" + struct.pack(">H", len(preview) + 2) + preview
    decode_image(data[:2] + block + data[2:])
    with pytest.raises(BadImage, match="JPEG without its end"):
        decode_image(data[:2] + block + data[2:-2])


def test_what_follows_the_end_of_a_jpeg_does_not_matter() -> None:
    data = encode(".jpg", PICTURE)
    np.testing.assert_array_equal(decode_image(data + b"\0" * 40), decode_image(data))


def test_one_wrong_bit_in_a_png_is_found() -> None:
    data = bytearray(encode(".png", PICTURE))
    data[len(data) // 2] ^= 4
    with pytest.raises(BadImage, match="checksum"):
        decode_image(bytes(data))


@pytest.mark.parametrize("kind", [".png", ".tif"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_16_bits_are_scaled_by_the_depth_in_use(kind: str, bits: int) -> None:
    deep = PICTURE.astype(np.uint16) << (bits - 8)
    deep[0, 0] = (2**bits - 1, 0, 0)
    image = decode_image(encode(kind, deep))
    assert image[0, 0].tolist() == [0, 0, 255]
    np.testing.assert_array_equal(image[1:], PICTURE[1:, :, ::-1])


def test_8_bits_in_16_stay_as_they_are() -> None:
    np.testing.assert_array_equal(decode_image(encode(".png", PICTURE.astype(np.uint16))), PICTURE[..., ::-1])


@pytest.mark.parametrize(
    ("alpha", "expected"), [(255, (30, 20, 10)), (0, (30, 20, 10)), (51, (210, 208, 206))]
)
def test_what_is_transparent_gets_white_behind_it(alpha: int, expected: tuple[int, ...]) -> None:
    image = np.full((20, 20, 4), (10, 20, 30, alpha), np.uint8)
    np.testing.assert_allclose(decode_image(encode(".png", image))[5, 5], expected, atol=1)


def test_cmyk_has_its_true_colours() -> None:
    image = decode_image((Path(__file__).parent / "data" / "cmyk.jpg").read_bytes())
    np.testing.assert_allclose(image[8, 4], (200, 60, 120), atol=6)
    np.testing.assert_allclose(image[8, 28], (30, 160, 90), atol=6)


def test_the_noted_orientation_is_ignored() -> None:
    data = encode(".jpg", PICTURE)
    # EXIF, big endian, one entry: orientation (0x112) = 6, a quarter turn.
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (160, 120, 3)
    np.testing.assert_array_equal(decode_image(turned), decode_image(data))


def huge_png() -> bytes:
    """A PNG that states 20,000 x 20,000 pixels, in a hundred bytes."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(100))),
        (b"IEND", b""),
    ]
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def two_pages() -> bytes:
    good, data = cv2.imencodemulti(".tif", [PICTURE, PICTURE])
    assert good
    return data.tobytes()


def resized(kind: str, offset: int, packed: bytes) -> bytes:
    """An image whose header states another size."""
    data = bytearray(encode(kind, PICTURE))
    data[offset : offset + len(packed)] = packed
    return bytes(data)


def huge_jpeg() -> bytes:
    data = encode(".jpg", PICTURE)
    at = data.index(struct.pack(">HH", 120, 160))
    return resized(".jpg", at, struct.pack(">HH", 60000, 60000))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"Dear colleague, the slides are in the post.", "not a PNG"),
        (b"\xff\xd8\xff\xe0", "cut short"),
        (b"\xff\xd8" + b"\0" * 50 + b"\xff\xd9", "too small"),
        (b"BM", "cut short"),
        (b"II*\0\xff\xff\xff\xff", "cut short"),
        (encode(".png", PICTURE[:1, :1]), "1 x 1 pixels: too small"),
        (encode(".bmp", PICTURE[:15]), "160 x 15 pixels: too small"),
        (encode(".webp", PICTURE[:, :15]), "15 x 120 pixels: too small"),
        (encode(".webp", PICTURE[:15], cv2.IMWRITE_WEBP_QUALITY, 50), "160 x 15 pixels: too small"),
        (huge_png(), "20000 x 20000 pixels: more than 50 megapixels"),
        (huge_jpeg(), "60000 x 60000 pixels: more than 50 megapixels"),
        (resized(".bmp", 18, struct.pack("<ii", 20000, -20000)), "20000 x 20000 pixels: more than"),
        (encode(".png", PICTURE[:, :, 0]), "grey"),
        (encode(".jpg", PICTURE[:, :, 0]), "grey"),
        (encode(".png", cv2.merge([PICTURE[:, :, 0]] * 3)), "grey"),
        (encode(".png", PICTURE[:, :, 0].astype(np.uint16) * 257), "grey"),
        (encode(".tif", PICTURE.astype(np.float32)), "values are float32"),
        (two_pages(), "several pages"),
    ],
)
def test_what_cannot_be_counted_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        decode_image(data)


@pytest.mark.parametrize("level", [0, 5, 255])
def test_a_camera_without_light_or_burnt_out_is_not_grey(level: int) -> None:
    picture = np.full((120, 160, 3), level, np.uint8)
    assert (decode_image(encode(".jpg", picture)) == level).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_stream_may_show_grey_glass(channels: int) -> None:
    glass = np.full((40, 50, channels), 180, np.uint8)
    data = cv2.imencode(".png", glass)[1].tobytes()
    with pytest.raises(BadImage, match="grey"):
        decode_image(data)
    assert (decode_image(data, grey=True) == 180).all()
    assert decode_image(data, grey=True).shape == (40, 50, 3)


@pytest.mark.parametrize("share", [0.3, 0.55, 0.9])
def test_a_jpeg_that_lost_its_rest_but_not_its_end_is_damaged(share: float) -> None:
    data = encode(".jpg", PICTURE)
    with pytest.raises(BadImage, match="a part of the JPEG was lost"):
        decode_image(data[: int(len(data) * share)] + data[-2:])
    middle = int(len(data) * share) - 200
    with pytest.raises(BadImage, match="a part of the JPEG was lost"):
        decode_image(data[:middle] + data[middle + 400 :])


def test_a_picture_in_a_frame_of_the_decoders_grey_is_whole() -> None:
    framed = cv2.copyMakeBorder(PICTURE, 16, 16, 16, 16, cv2.BORDER_CONSTANT, value=(128, 128, 128))
    assert (decode_image(encode(".jpg", framed))[-1, -1] == 128).all()
    decode_image(encode(".png", np.pad(PICTURE, ((0, 9), (0, 9), (0, 0)), constant_values=128)))


@pytest.mark.parametrize("optimised", [0, 1])
def test_a_jpeg_with_a_lost_block_is_damaged_and_one_with_a_blank_part_is_not(optimised: int) -> None:
    large = np.random.default_rng(4).integers(0, 255, (240, 320, 3)).astype(np.uint8)
    data = encode(".jpg", large)
    middle = len(data) // 2
    with pytest.raises(BadImage, match="a part of the JPEG was lost"):
        decode_image(data[:middle] + bytes(4096) + data[middle + 4096 :])
    decode_image(data[:-2] + bytes(64) + data[-2:])
    large[:] = (250, 230, 255)
    large[:8, :8] = 60
    decode_image(encode(".jpg", large, cv2.IMWRITE_JPEG_OPTIMIZE, optimised))
