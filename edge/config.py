"""Settings: defaults here, then `edge.toml`, then a command line option of the same name."""

import argparse
import dataclasses
import difflib
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from edge.classify import DEFAULT_MODEL
from edge.errors import UserError
from edge.whole import may_replace

PROTOCOLS = ("astm", "oru", "oul")
PARITIES = ("none", "even", "odd", "mark", "space")
FLOWS = ("none", "rtscts", "dsrdtr", "xonxoff")
DATABASE = Path("counts/counts.sqlite")
"""Where counts are kept unless another file is named; its folder is made."""


@dataclass(frozen=True, slots=True)
class LisConfig:
    """The settings of the link to the laboratory information system, which `edge.lis` reads as well."""

    database: Annotated[Path, "The file that keeps every count, and the outbox."] = DATABASE
    serial: Annotated[
        str | None,
        "Send released results to the LIS over this port: a serial device, or a pyserial URL "
        "(socket://HOST:PORT for TCP). A headless count ends by sending.",
    ] = None
    serial_baud: Annotated[int, "Speed of the serial line."] = 9600
    serial_bits: Annotated[int, "Data bits: 7 or 8."] = 8
    serial_parity: Annotated[str, f"{', '.join(PARITIES)}."] = "none"
    serial_stop: Annotated[float, "Stop bits: 1, 1.5 or 2."] = 1.0
    serial_flow: Annotated[str, f"Flow control: {', '.join(FLOWS)}."] = "none"
    lis_listen: Annotated[
        str | None, "Where the LIS connects to the instrument: the address to listen on, as 0.0.0.0:5000."
    ] = None
    lis_folder: Annotated[Path | None, "Write each released result as a file into this folder."] = None
    lis_protocol: Annotated[
        str, "astm (E1381/E1394), or HL7 v2.5.1 over MLLP: oru (ORU^R01) or oul (OUL^R22, IHE LAW)."
    ] = "astm"
    lis_mapping: Annotated[str, "Codes and layouts: plain, sysmex, horiba, or the site's own file."] = "plain"
    lis_frame: Annotated[int, "Characters of text in a frame: 240 by E1381, up to 64000 by LIS01-A2."] = 240
    lis_trace: Annotated[bool, "Keep what went over the line with each attempt, identifiers masked."] = False

    def __post_init__(self) -> None:
        ways = [name for name in LIS_WAYS if getattr(self, name)]
        if len(ways) > 1:
            raise UserError(f"one way to the LIS expected, {' and '.join(ways)} given")
        for name in ("serial", "lis_listen"):
            _check(getattr(self, name) != "", name, "", "where the LIS is, or no such setting,")
        _check(self.lis_mapping != "", "lis_mapping", "", "a profile or a file")
        a_file = self.serial is not None and os.path.isfile(self.serial)
        _check(not a_file, "serial", self.serial, "a serial device")
        _check(0 < self.serial_baud <= 4_000_000, "serial_baud", self.serial_baud, "1 to 4000000")
        _check(self.serial_bits in {7, 8}, "serial_bits", self.serial_bits, "7 or 8")
        _check(self.serial_stop in {1, 1.5, 2}, "serial_stop", self.serial_stop, "1, 1.5 or 2")
        _check(1 <= self.lis_frame <= 64_000, "lis_frame", self.lis_frame, "1 to 64000")
        for name, known in (("serial_parity", PARITIES), ("serial_flow", FLOWS), ("lis_protocol", PROTOCOLS)):
            _check(getattr(self, name) in known, name, getattr(self, name), f"one of {', '.join(known)}")

    @property
    def lis(self) -> bool:
        """True where a way to the LIS is given."""
        return any(getattr(self, name) for name in LIS_WAYS)


LIS_WAYS = ("serial", "lis_listen", "lis_folder")


@dataclass(frozen=True, slots=True)
class Config(LisConfig):
    """Every setting of the instrument; `_` in a name is `-` on the command line."""

    camera: Annotated[str | None, 'Count from a camera: "pi" (picamera2), or "0" or "/dev/video0" (USB).'] = (
        None
    )
    video: Annotated[Path | None, "Count a video file of a moving stage."] = None
    images: Annotated[
        Path | None,
        "Count the images of a folder and its subfolders (or one image), each a field of view of its own.",
    ] = None
    url: Annotated[
        str | None, "Count from an MJPEG stream or a JPEG snapshot at this address (OpenFlexure and others)."
    ] = None
    demo: Annotated[bool, "Count a drawn smear: no camera, no data."] = False
    specimen: Annotated[
        str | None, "Identifier of the specimen; one that was begun before goes on. Default: date, time."
    ] = None
    target: Annotated[int | None, "Stop at this many counted cells, usually 100 or 200."] = None
    model: Annotated[Path, "The .tflite file; its card (.json) lies beside it."] = DEFAULT_MODEL
    review_below: Annotated[
        float | None,
        "Cells less sure than this (0..1) go to a person's review. Default: the model card's.",
    ] = None
    um_per_px: Annotated[
        float | None, "Size of a frame pixel on the smear in micrometres. Default: measured by the red cells."
    ] = None
    width: Annotated[int, "Camera picture, pixels."] = 1280
    height: Annotated[int, "Camera picture, pixels."] = 960
    flat_field: Annotated[
        bool,
        "Take a flat field from an empty spot of the slide (or images or a film of one), store it, and end.",
    ] = False
    flat_field_file: Annotated[
        Path | None,
        "The flat field that every frame is divided by. Default: flat-field.png beside the database, which a "
        "camera or url uses if it is there; video, images and demo use one only where it is named.",
    ] = None
    map: Annotated[Path | None, "Write the map of what was seen to this PNG file at the end."] = None
    headless: Annotated[bool, "No live page: the terminal alone; ends when the input ends."] = False
    wbc: Annotated[
        float | None, "Leukocytes of the specimen, 10^9/L, by the analyzer: absolute counts are sent as well."
    ] = None
    operator: Annotated[str, "Who releases the result of a headless count; sent with it."] = ""
    lis_wait_s: Annotated[float, "A headless count waits this long for the LIS to take its result."] = 60.0
    json: Annotated[Path | None, "Write the result to this file at the end."] = None
    host: Annotated[str, "Address of the live page; any other than this machine's own needs a password."] = (
        "127.0.0.1"
    )
    port: Annotated[int, "Port of the live page."] = 8000
    password_file: Annotated[Path | None, "File whose first line is the live page's password."] = None

    def __post_init__(self) -> None:
        LisConfig.__post_init__(self)
        for name in ("camera", "url"):
            _check(getattr(self, name) != "", name, "", "where the pictures come from, or no such setting,")
        check_release(self.operator, self.wbc)
        _check(self.lis_wait_s >= 0, "lis_wait_s", self.lis_wait_s, "0 or more")
        _check(self.target is None or self.target > 0, "target", self.target, "a number above 0")
        _check(
            self.review_below is None or 0 <= self.review_below <= 1,
            "review_below",
            self.review_below,
            "a number in 0..1",
        )
        _check(
            self.um_per_px is None or 0.005 <= self.um_per_px <= 2, "um_per_px", self.um_per_px, "0.005 to 2"
        )
        self._check_files()
        _check(min(self.width, self.height) >= 64, "width, height", (self.width, self.height), "64 or more")
        _check(0 <= self.port < 65536, "port", self.port, "0 to 65535")
        if self.specimen is not None:
            check_specimen(self.specimen)
        sources = [name for name in SOURCES if getattr(self, name)]
        if len(sources) != 1:
            given = ", ".join(f"--{name}" for name in sources) or "none"
            raise UserError(f"one of --{', --'.join(SOURCES)} expected, {given} given")
        if self.images and self.map:
            raise UserError("--map shows where a moving stage has been; single images (--images) have no map")

    def _check_files(self) -> None:
        # Only the default's folder is made: a mistyped one would begin another database, unnoticed.
        chosen = None if self.database == DATABASE else self.database
        for name, file in (("json", self.json), ("map", self.map), ("database", chosen)):
            if file is not None and not os.path.isdir(file.parent):
                raise UserError(f"{file}: its folder is not there; --{name} names a file to write to")
            if file is not None and os.path.isdir(file):
                raise UserError(f"{file}: a folder; --{name} names a file to write to")
        if self.map is not None and self.map.suffix.lower() != ".png":
            raise UserError(f"{self.map}: --map writes a PNG file; give it a name that ends in .png")
        if self.json is not None and not may_replace(self.json):
            raise UserError(f"{self.json}: holds something else than a result; --json must not replace it")
        named: dict[str, str] = {}
        for name in ("database", "json", "map", "video", "images", "password_file"):
            if (file := getattr(self, name)) is not None:
                _check_alone(named, name, file)
        _check_alone(named, "flat_field_file", flat_field_place(self))
        _check(self.model.name != "", "model", self.model, "a .tflite file")
        _check_alone(named, "model", self.model.with_suffix(".json"))

    @property
    def source(self) -> str:
        """Which of `SOURCES` is counted."""
        return next(name for name in SOURCES if getattr(self, name))

    @property
    def unused(self) -> dict[str, list[str]]:
        """What was set in vain: the settings, by what they would need."""
        by_network = (self.serial or "").startswith("socket:")
        needs = {
            "a serial line": (
                self.serial and not by_network,
                ("serial_baud", "serial_bits", "serial_parity", "serial_stop", "serial_flow"),
            ),
            "a way to the LIS": (self.lis, ("lis_protocol", "lis_mapping", "lis_frame", "lis_trace")),
            "a headless count into the LIS": (self.headless and self.lis, ("operator", "wbc", "lis_wait_s")),
            "a camera": (self.camera, ("width", "height")),
            "a live page": (not self.headless, ("host", "port", "password_file")),
        }
        default = {field.name: field.default for field in dataclasses.fields(self)}
        vain = {
            need: [name for name in names if getattr(self, name) != default[name]]
            for need, (met, names) in needs.items()
            if not met
        }
        return {need: names for need, names in vain.items() if names}


def _check_alone(named: dict[str, str], name: str, file: Path) -> None:
    """Check that no setting before, by the path that it named, names this file too."""
    other = named.setdefault(os.path.realpath(file), name)
    _check(other == name, name, file, f"another file than {other}")


def flat_field_place(config: Config) -> Path:
    """Return where the flat field is kept: `flat_field_file`, or flat-field.png beside the database."""
    return config.flat_field_file or config.database.with_name("flat-field.png")


HELP: dict[str, str] = {
    name: hint.__metadata__[0] for name, hint in typing.get_type_hints(Config, include_extras=True).items()
}
"""What each setting means, for the command line."""


def check_release(operator: str, wbc: float | None) -> None:
    """Check what a person gives with a release.

    Raises:
        UserError: the name is longer than 64 characters or holds control characters, or the leukocyte
            count is not within 0.01 to 1000 x 10^9/L.
    """
    if len(operator) > 64 or not operator.isprintable():
        raise UserError(
            "the name of who releases must be at most 64 characters, none of them control characters"
        )
    if wbc is not None and not 0.01 <= wbc <= 1000:
        raise UserError(f"wbc = {wbc}: leukocytes in 10^9/L expected, 0.01 to 1000")


SOURCES = ("camera", "video", "images", "url", "demo")


def check_specimen(name: str) -> None:
    """Check a specimen identifier.

    Raises:
        UserError: it is blank, longer than 64 characters, or has one outside letters, digits, ` ._-`.
    """
    strange = [c for c in name if not ((c.isascii() and c.isalnum()) or c in " ._-")]
    if strange or not 0 < len(name) <= 64 or name.strip() != name:
        found = f"; {strange[0]!r} is none of these" if strange else ""
        raise UserError(
            "the specimen identifier must be 1 to 64 letters (a-z), digits, spaces, dots, hyphens or "
            f"underscores, without a space at either end{found}"
        )


def path_of(text: str) -> Path:
    """Return the path that an option names; Path("") is the current folder, hardly what nothing was to mean.

    Raises:
        ArgumentTypeError: it names none.
    """
    if not text:
        raise argparse.ArgumentTypeError("a path expected, none given")
    return Path(text)


_Settings = TypeVar("_Settings", bound=LisConfig)

_OF_ONE_COUNT = ("specimen", "wbc", "flat_field")
"""Settings that a file must not give to every count that comes."""


def add_options(parser: argparse.ArgumentParser, settings: type[LisConfig]) -> None:
    """Add --config, and an option for each setting; one that is not given is not in what is parsed."""
    parser.add_argument("--config", type=path_of, default=None, help="settings file, see deploy/edge.toml")
    for field in dataclasses.fields(settings):
        kind: Any = value_type(field.type)
        kind = path_of if kind is Path else kind
        extra: dict[str, Any] = {"action": argparse.BooleanOptionalAction} if kind is bool else {"type": kind}
        if field.name == "camera":
            extra |= {"nargs": "?", "const": "pi", "metavar": "DEVICE"}
        name = "--" + field.name.replace("_", "-")
        parser.add_argument(name, help=HELP[field.name], default=argparse.SUPPRESS, **extra)


def read_lis_config(file: Path | None, options: Mapping[str, Any]) -> LisConfig:
    """Return the LIS's part of the settings of `file` overruled by `options`; see `read_config`."""
    known = {field.name for field in dataclasses.fields(LisConfig)}
    return _made(LisConfig, file, {key: value for key, value in options.items() if key in known})


def read_config(file: Path | None, options: Mapping[str, Any]) -> Config:
    """Return the settings of `file` (TOML, may be None) overruled by `options` (by setting name).

    A source, or a way to the LIS, given in `options` replaces that of the file.

    Raises:
        UserError: the file cannot be read, a key is unknown, or a value has the wrong type or range.
    """
    return _made(Config, file, options)


def _made(kind: type[_Settings], file: Path | None, options: Mapping[str, Any]) -> _Settings:
    known = {field.name for field in dataclasses.fields(kind)}
    settings = {key: value for key, value in (_read_toml(file) if file else {}).items() if key in known}
    for choice in (SOURCES, LIS_WAYS):
        if any(options.get(name) for name in choice):
            settings = {key: value for key, value in settings.items() if key not in choice}
    try:
        return kind(**{**settings, **options})
    except UserError as error:
        if set(settings) <= set(options) or str(error) == _refusal(kind, options):
            raise
        raise UserError(f"{file}: {error}") from None


def _refusal(kind: type[LisConfig], options: Mapping[str, Any]) -> str:
    """Return what is wrong with the options by themselves."""
    try:
        kind(**options)
    except UserError as error:
        return str(error)
    return ""


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        raw = read_toml(file)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}; --config names the settings file") from None
    known = {field.name: field.type for field in dataclasses.fields(Config)}
    settings = {}
    for key, value in raw.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
            raise UserError(f"{file}: unknown setting {key!r}{hint}")
        if key in _OF_ONE_COUNT:
            option = key.replace("_", "-")
            raise UserError(f"{file}: {key}: that is of one count alone; give --{option} with it")
        settings[key] = _typed(file, key, value, known[key])
    return settings


def read_toml(file: Path) -> dict[str, Any]:
    """Return what a TOML file says.

    Raises:
        OSError: it cannot be read.
        UserError: it is none.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))  # an editor may have put a mark before it
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not a TOML file ({error})") from None


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
"""What a settings file calls the types."""


def _typed(file: Path, key: str, value: Any, annotation: Any) -> Any:
    kind = value_type(annotation)
    if isinstance(value, str) and "\0" in value:
        raise UserError(f"{file}: {key} = {value!r}; text without NUL expected")
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise UserError(f"{file}: {key} = {value!r}; {_KINDS[kind]} expected")
    return value


def value_type(annotation: Any) -> type:
    """Return X of an annotation Annotated[X, ...] or Annotated[X | None, ...]."""
    annotation = annotation.__origin__
    if isinstance(annotation, types.UnionType):
        (annotation,) = (t for t in typing.get_args(annotation) if t is not type(None))
    return typing.cast("type", annotation)


def _check(good: bool, name: str, value: object, expected: str) -> None:
    if not good:
        shown = repr(value) if isinstance(value, str) else value
        raise UserError(f"{name} = {shown}: {expected} expected")
