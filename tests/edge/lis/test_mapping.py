from pathlib import Path

import pytest

from edge.classify import DEFAULT_MODEL, read_card
from edge.errors import UserError
from edge.lis.mapping import PROFILES, read_mapping
from edge.report import Status

NAMES = sorted(path.stem for path in PROFILES.glob("*.toml"))


@pytest.mark.parametrize("name", ["plain", "sysmex", "horiba"])
def test_the_profiles_are_ready_made(name: str) -> None:
    assert name in NAMES
    mapping = read_mapping(name)
    assert set(mapping.tests["percent"]) == set(mapping.tests["absolute"])


def test_the_loinc_codes_are_those_of_an_unspecified_method() -> None:
    tests = read_mapping("plain").tests
    percent = {name: test.loinc for name, test in tests["percent"].items()}
    absolute = {name: test.loinc for name, test in tests["absolute"].items()}
    assert percent == {
        "neutrophil": "26511-6",
        "lymphocyte": "26478-8",
        "monocyte": "26485-3",
        "eosinophil": "26450-7",
        "basophil": "30180-4",
        "immature_granulocyte": "38518-7",
    }
    assert absolute == {
        "neutrophil": "26499-4",
        "lymphocyte": "26474-7",
        "monocyte": "26484-6",
        "eosinophil": "26449-9",
        "basophil": "26444-0",
        "immature_granulocyte": "",
    }
    assert (tests["per_100"]["erythroblast"].loinc, tests["total"]["cells"].loinc) == ("19048-8", "11282-1")


def test_no_reference_interval_before_the_site_enters_one() -> None:
    for name in NAMES:
        kinds = read_mapping(name).tests.values()
        assert all(test.low is None and test.high is None for tests in kinds for test in tests.values())


def site(tmp_path: Path, text: str) -> str:
    path = tmp_path / "lis.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_site_says_only_what_differs(tmp_path: Path) -> None:
    text = 'profile = "horiba"\nencoding = "Latin-1"\n[percent.neutrophil]\nlow = 40\nhigh = 75.5\n'
    mapping = read_mapping(site(tmp_path, text))
    test = mapping.tests["percent"]["neutrophil"]
    assert (test.code, test.loinc, test.low, test.high) == ("NEU%", "26511-6", 40, 75.5)
    assert (mapping.encoding, mapping.status[Status.PRELIMINARY]) == ("iso8859-1", "W")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("=", "not a TOML file"),
        ("", "percent.*begin it with profile"),
        ('profile = "beckman"', "one of horiba, plain, sysmex"),
        ('profile = "plain"\nsendr = []', "unknown key sendr"),
        ('profile = "plain"\nsend = ["percents"]', "send = "),
        ('profile = "plain"\nsend = []', "send = "),
        ('profile = "plain"\nlimits = 1', "limits = 1"),
        ('profile = "plain"\nmodel = "none"', "model = 'none'"),
        ('profile = "plain"\nprocessing = "Q"', "processing = 'Q'"),
        ('profile = "plain"\nencoding = "utf-16"', "utf-16"),
        ('profile = "plain"\ndelimiters = "|^&"', "four"),
        ('profile = "plain"\ndelimiters = "||^&"', "four different"),
        ('profile = "plain"\ntest_id = "^^^{cod}"', "test_id"),
        ('profile = "plain"\ntest_id = "^^^{code"', "lis.toml"),
        ('profile = "plain"\nrange = "{low:.1f} to {high:.1f}"', "range.*as it stands here"),
        ('profile = "plain"\ntest_id = "^^^{code!x}"', "test_id"),
        ('profile = "plain"\n[percent.neutrophil]\nlow = nan\nhigh = 3', "in order or neither"),
        ('profile = "plain"\n[percent.neutrophil]\nlow = -inf\nhigh = 3', "in order or neither"),
        ('profile = "plain"\n[percent.neutrophil]\nlow = 40.25\nhigh = 60', "no more than its 1 decimals"),
        ('profile = "plain"\nsender = "a\\rb"', "sender"),
        ('profile = "plain"\n[status]\nfinal = 1', "status"),
        ('profile = "plain"\n[percent.neutrophil]\ncode = ""', "percent.neutrophil"),
        ('profile = "plain"\n[percent.neutrophil]\ndecimals = 9', "percent.neutrophil"),
        ('profile = "plain"\n[percent.neutrophil]\nlow = 4', "in order or neither"),
        ('profile = "plain"\n[percent.neutrophil]\nlow = 4\nhigh = 3', "in order or neither"),
        ('profile = "plain"\n[percent.neutrophil]\nlowest = 4', "unknown key lowest"),
        (
            'profile = "plain"\n[percent.blast]\ncode = "BL"',
            r"\[percent.blast\].*mistyped.*loinc, name, units, decimals",
        ),
        ('profile = "plain"\n[percent]\nneutrophil = "NEU"', "percent.neutrophil = 'NEU'"),
        ('profile = "plain"\npercent = 7', "percent = 7"),
        ('profile = "plain"\nsend = ["total", "total"]', "send = "),
        ('profile = "plain"\nspecimen = ""', "specimen or instrument_specimen"),
        ('profile = "plain"\n[status]\nfinal = ""', "status"),
        ('profile = "plain"\nspecimen = "{{specimen}}"', "specimen or instrument_specimen"),
        ('profile = "plain"\ntest_id = "^^^DIFF"', r"have one test_id, \^\^\^DIFF: .*give each its own"),
        (
            'profile = "plain"\ntest_id = "{loinc}"',
            r"\[absolute.immature_granulocyte\] has no name at the LIS",
        ),
        (
            'profile = "sysmex"\n[percent.immature_granulocyte]\ncode = "NEUT%"',
            r"\[percent.immature_granulocyte\] and \[percent.neutrophil\] have one test_id",
        ),
        ('profile = "horiba"\n[total.cells]\ncode = "NRBC%"', "have one code, NRBC%:"),
        ('profile = "sysmex"\n[percent.immature_granulocyte]\nloinc = "26511-6"', "have one loinc, 26511-6:"),
    ],
)
def test_what_is_not_understood_is_told_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as told:
        read_mapping(site(tmp_path, text))
    assert "lis.toml" in str(told.value)


def test_what_is_not_sent_needs_no_name_of_its_own(tmp_path: Path) -> None:
    text = (
        'profile = "plain"\nsend = ["percent"]\ntest_id = "{loinc}"\n[absolute.neutrophil]\ncode = "NEUT%"\n'
    )
    assert read_mapping(site(tmp_path, text)).send == ("percent",)


def test_a_missing_file_is_told_with_the_profiles() -> None:
    with pytest.raises(UserError, match=r"nowhere.*horiba, plain, sysmex"):
        read_mapping("nowhere.toml")


def test_a_class_without_a_code_is_refused(tmp_path: Path) -> None:
    mapping = read_mapping("plain")
    mapping.covers("percent", ["neutrophil"])
    with pytest.raises(UserError, match=r"no code for blast under \[percent\]"):
        mapping.covers("percent", ["neutrophil", "blast"])
    only_total = read_mapping(site(tmp_path, 'profile = "plain"\nsend = ["total"]'))
    only_total.covers("percent", ["blast"])


@pytest.mark.parametrize("name", NAMES)
def test_every_class_of_the_shipped_model_has_a_code(name: str) -> None:
    mapping = read_mapping(name)
    for c in read_card(DEFAULT_MODEL).classes:
        kind = {"counted": "percent", "reported per 100": "per_100"}.get(c.role)
        if kind:
            mapping.covers(kind, [c.name])
