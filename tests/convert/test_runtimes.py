import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from convert import ask, runtimes
from edge.classify import DEFAULT_MODEL, Classifier
from edge.errors import UserError
from edge.second_look import consider

HERE = runtimes.Asked("here", (sys.executable,))


def test_random_crops_are_the_same_again() -> None:
    first, again = (list(ask.random_crops(4, 20)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    noise, coarse, plain, _ = first
    assert noise.shape == coarse.shape == plain.shape == (20, 20, 3)
    assert len(np.unique(coarse[..., 0])) <= 9
    assert len(np.unique(plain[..., 0])) == 1


def test_a_runtime_answers_from_a_process_of_its_own(tmp_path: Path) -> None:
    classifier = Classifier()
    real = np.random.default_rng(5).integers(0, 256, (2, *[classifier.card.size] * 2, 3), np.uint8)
    np.save(tmp_path / "crops.npy", real)
    noise = list(ask.random_crops(3, classifier.card.size))
    looked = consider(classifier.look, list(real), lambda shares, _: shares)
    exact = np.concatenate([looked.probabilities, classifier.look(noise).probabilities])
    # Without its delegate the runtime rounds in other places; on noise that shows.
    for delegate, within in ((True, 0.01), (False, 0.25)):
        found = runtimes.ask(HERE, DEFAULT_MODEL, tmp_path / "crops.npy", 3, delegate=delegate)
        assert not isinstance(found, str)
        assert found.shape == exact.shape
        assert np.abs(found - exact).max() < within


def test_a_runtime_needs_numpy_and_the_edge_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "crops.npy", np.zeros((1, 192, 192, 3), np.uint8))
    (tmp_path / "bare").mkdir()
    for absent in ("cv2", "tensorflow", "keras"):
        (tmp_path / "bare" / f"{absent}.py").write_text("raise ModuleNotFoundError")
    bare = runtimes.Asked("bare", (sys.executable,), (tmp_path / "bare",))
    found = runtimes.ask(bare, DEFAULT_MODEL, tmp_path / "crops.npy", 1, delegate=True)
    assert not isinstance(found, str), found
    assert len(found) == 2


def test_a_refusal_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "crops.npy", np.zeros((1, 8, 8, 3), np.uint8))
    told = runtimes.ask(HERE, tmp_path / "nowhere.tflite", tmp_path / "crops.npy", 0, delegate=True)
    assert isinstance(told, str)
    assert told.startswith("exit 1: ")
    assert "No such file" in told


def test_the_answers_are_compared_with_the_first() -> None:
    one = np.array([[0.9, 0.1], [0.4, 0.6]], np.float32)
    other = np.array([[0.8, 0.2], [0.55, 0.45]], np.float32)
    lines, agreed = runtimes.compare({"a": one, "b": other, "c": "exit 134: Aborted"}, real=1)
    assert not agreed, "one gives no answer"
    assert "100.00 % the same class (0 differ)" in lines[0]
    assert "2 crops,  50.00 % the same class (1 differ), probabilities within 0.1500" in lines[1]
    assert "FAILED  exit 134: Aborted" in lines[2]
    assert runtimes.compare({"a": one, "b": other}, real=1)[1], "they differ on noise alone"
    assert not runtimes.compare({"a": one, "b": other}, real=2)[1]
    assert runtimes.compare({"a": one, f"b, {runtimes.WITHOUT}": other}, real=2)[1]


def test_an_empty_folder_is_no_emulated_system(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run convert/aarch64\.sh"):
        runtimes.emulated(tmp_path)


@pytest.mark.parametrize(
    "case",
    [
        (["--data", "nowhere"], "nowhere: no such folder"),
        (["--split", "tset"], "no image is of split tset"),
        (["--file", "nowhere.tflite"], "nowhere"),
        (["--aarch64", "nowhere"], "no emulated system"),
    ],
)
def test_what_is_missing_is_told_before_environments_are_made(
    case: tuple[list[str], str],
    made_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(runtimes, "environments", lambda folder: pytest.fail("they were made"))
    (flags, message), work = case, tmp_path / "work"
    assert runtimes.main(["--data", str(made_data), "--work", str(work), *flags]) == 1
    assert message in capsys.readouterr().err
    assert not work.exists()


def test_the_child_tells_what_it_takes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "convert.ask", "--help"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "FILE CROPS RANDOM OUTPUT {default,none}" in done.stdout
