import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from edge.config import (
    HELP,
    SOURCES,
    Config,
    add_options,
    check_specimen,
    read_config,
    read_lis_config,
)
from edge.errors import UserError
from edge.startup import Parser


def toml(folder: Path, text: str) -> Path:
    file = folder / "edge.toml"
    file.write_text(text)
    return file


def test_an_option_overrules_the_file_and_the_file_the_default(tmp_path: Path) -> None:
    file = toml(tmp_path, 'demo = true\ntarget = 200\nport = 8100\ndatabase = "x.sqlite"\num_per_px = 1')
    config = read_config(file, {"target": 100})
    assert (config.target, config.port, config.database) == (100, 8100, Path("x.sqlite"))
    assert config.um_per_px == 1.0
    assert config.host == Config(demo=True).host


def test_a_source_on_the_command_line_replaces_that_of_the_file(tmp_path: Path) -> None:
    config = read_config(toml(tmp_path, 'camera = "pi"'), {"video": Path("v.avi")})
    assert config.source == "video"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("demo = true\ntarge = 5", "did you mean target"),
        ("demo = true\nzzz = 5", "unknown setting"),
        ("demo = true\ntarget = '5'", "a whole number expected"),
        ("demo = true\ntarget = true", "a whole number expected"),
        ("demo = 1", "true or false expected"),
        ("demo = true\nreview_below = '1'", "a number expected"),
        ("demo = true\ndatabase = 1", "a path expected"),
        ("demo = true\ntarget = 0", "target = 0"),
        ("demo = true\nport = 70000", "port"),
        ("demo = true\nreview_below = 1.5", "review_below"),
        ("demo = true\num_per_px = -1", "um_per_px"),
        ("demo = true\nspecimen = 'S-1'", "specimen: that is of one count alone; give --specimen"),
        ("camera = 'pi'\nflat_field = true", "give --flat-field"),
        ("demo = true\nvideo = 'v.avi'", "--video, --demo given"),
        ("target = 5", "none given"),
        ("images = '.'\nmap = 'm.png'", "have no map"),
        ("demo = true\njson = '/'", "a folder; --json names a file"),
        ("demo = true\ndatabase = '/nowhere/x.sqlite'", "folder is not there; --database names a file"),
        ("demo = true\nmap = 'm.txt'", "a name that ends in .png"),
        ("demo = true\nlis_folder = '.'\nlis_mapping = ''", "lis_mapping = '': a profile or a file expected"),
        ("demo = true\njson = ''", "json = ''; a path expected"),
        ("demo = true\nmap = 'a\\u0000.png'".replace("'", '"'), "without NUL"),
        ("demo = true\nserial = ''", "serial = '': where the LIS is"),
        ("demo = true\nurl = ''", "url = '': where the pictures come from"),
        ("demo = true\ncamera = ''", "camera = '': where the pictures come from"),
        ("demo = true\ndatabase = 'x.png'\nmap = './x.png'", "map = x.png: another file than database"),
        ("demo = true\njson = 'x.png'\nmap = 'x.png'", "map = x.png: another file than json"),
        ("demo = true\ndatabase = 'x'\nmap = 'flat-field.png'", "flat-field.png: another file than map"),
        ("demo = true\ndatabase = 'x'\nflat_field_file = 'x'", "flat_field_file = x: another file"),
        ("demo = true\nmodel = '/'", "model = /: a .tflite file expected"),
        ("demo = true\nserial_parity = ''", "serial_parity = '': one of none"),
        ("demo = ", "not a TOML file"),
        (f"target = {'[' * 5000}", "not a TOML file"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_config(toml(tmp_path, text), {})


def test_what_is_wrong_in_the_file_is_told_with_its_name(tmp_path: Path) -> None:
    file = toml(tmp_path, "port = -1")
    for read in (read_config(file, {"demo": True, "port": 1}), read_lis_config(file, {})):
        assert read.database
    with pytest.raises(UserError, match=rf"^{re.escape(str(file))}: port = -1"):
        read_config(file, {"demo": True})
    with pytest.raises(UserError, match=r"^port = -2"):
        read_config(file, {"demo": True, "port": -2})
    with pytest.raises(UserError, match=r"^one of --camera.* none given"):
        read_config(file, {"port": 8000})
    with pytest.raises(UserError, match=rf"^{re.escape(str(file))}: serial_bits = 9"):
        read_lis_config(toml(tmp_path, "serial_bits = 9"), {})


def test_settings_in_vain_are_told(tmp_path: Path) -> None:
    page = Config(demo=True, headless=True, port=9, password_file=tmp_path / "p").unused
    assert page == {"a live page": ["port", "password_file"]}
    line = {"serial_parity": "even", "serial_baud": 300}
    vain = {"a serial line": ["serial_baud", "serial_parity"]}
    assert Config(demo=True, serial="socket://lis:5000", **line).unused == vain
    assert Config(demo=True, lis_listen="0.0.0.0:5000", **line).unused == vain
    assert Config(demo=True, serial="rfc2217://lis:5000", **line).unused == {}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.toml"):
        read_config(tmp_path / "nowhere.toml", {})


def test_a_file_is_no_serial_line(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Dear colleague")
    with pytest.raises(UserError, match="a serial device expected"):
        Config(demo=True, serial=str(tmp_path / "notes.txt"))


@pytest.mark.parametrize("name", ["S-1", "2026 0042.b", "x" * 64])
def test_good_specimen_identifiers(name: str) -> None:
    check_specimen(name)


def test_a_result_replaces_nothing_but_a_result(tmp_path: Path) -> None:
    file = tmp_path / "x"
    results = {"": True, '{"notice": "For", "total": 1}': True, '{"a": 1}': False, "SQLite 3": False}
    for content, fits in results.items():
        file.write_text(content)
        if fits:
            assert Config(demo=True, json=file).json == file
        else:
            with pytest.raises(UserError, match="holds something else than a result"):
                Config(demo=True, json=file)


def test_a_mark_before_the_settings_is_none_of_them(tmp_path: Path) -> None:
    assert read_config(toml(tmp_path, "\ufeffdemo = true"), {}).demo


def test_a_switch_of_the_file_is_overruled(tmp_path: Path) -> None:
    parser = Parser()
    add_options(parser, Config)
    options = vars(parser.parse_args(["--no-headless", "--demo"]))
    options.pop("config")
    assert not read_config(toml(tmp_path, "headless = true"), options).headless


@pytest.mark.parametrize("name", ["", " ", "a/b", "x" * 65, "Müller", "a\n", " a"])
def test_bad_specimen_identifiers(name: str) -> None:
    with pytest.raises(UserError):
        check_specimen(name)


def test_the_shipped_settings_file_is_valid_and_complete(tmp_path: Path) -> None:
    file = Path(__file__).parents[2] / "deploy" / "edge.toml"
    read_config(file, {})
    text = file.read_text()
    assert [name for name in HELP if name not in text] == []
    shown = [line[2:] for line in text.splitlines() if re.match(r"# \w+ = ", line) and "e.g." not in line]
    settings = tomllib.loads("\n".join(shown))
    defaults = {field.name: field.default for field in dataclasses.fields(Config)}
    for line in text.splitlines():
        if re.match(r"# \w+ = .*e\.g\.", line):
            example = line[2:] if line[2:].split()[0] in SOURCES else f"{line[2:]}\ndemo = true"
            read_config(toml(tmp_path, example), {})
    assert len(settings) > 10
    assert {name: type(defaults[name])(value) for name, value in settings.items()} == {
        name: defaults[name] for name in settings
    }
