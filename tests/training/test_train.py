import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from edge.errors import UserError
from training import data, division, model, train
from training.backbones import build_backbone
from training.claim import claim
from training.framing import Framing
from training.history import read as read_history
from training.recipe import HELP, RECIPES, Recipe

pytestmark = pytest.mark.filterwarnings("default")  # Keras' own start-up

TINY = {"size": 96, "epochs": 2, "batch": 16, "rendered": 0, "textbook": 0, "weights": "none"}


def tiny(folder: Path, **changes: object) -> Recipe:
    return Recipe(data=str(folder), **{**TINY, **changes})  # type: ignore[arg-type]


def test_a_run_leaves_a_model_its_card_its_history_and_its_split(made_data: Path, tmp_path: Path) -> None:
    recipe = tiny(made_data)
    file = train.train(recipe, tmp_path / "run")
    trained = model.load(file)
    assert trained.names == tuple(c.name for c in data.CLASSES)
    assert trained.size == 96
    answers = trained.network.predict(np.zeros((2, 96, 96, 3), np.float32), verbose=0)
    assert answers[0].shape == (2, 8)
    assert len(trained.facts["familiar"]["means"]) == 8
    assert [row["epoch"] for row in read_history(tmp_path / "run" / "history.csv")] == [0, 1]
    split = (tmp_path / "run" / "split.csv").read_text().splitlines()
    assert split[0] == "file,class,source,split,film,content"
    assert Counter(line.split(",")[3] for line in split[1:]) == {"train": 32, "validation": 16, "test": 16}
    assert train.train(recipe, tmp_path / "run") == file  # nothing is done twice
    assert len(read_history(tmp_path / "run" / "history.csv")) == 2


@pytest.mark.slow
def test_a_run_on_jax_goes_on_with_tensorflow(made_data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training.train", "--output", str(tmp_path / "run")]
    for name, value in {"data": made_data, **TINY, "epochs": 1}.items():
        command += [f"--{name}", str(value)]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "jax, CPU" in done.stdout
    first = read_history(tmp_path / "run" / "history.csv")
    train.train(tiny(made_data), tmp_path / "run")
    both = read_history(tmp_path / "run" / "history.csv")
    assert len(first) == 1
    assert both[:1] == first
    assert len(both) == 2


SHARED = """
import sys
import keras
from training import hardware, train
hardware.gpus = keras.distribution.list_devices
sys.exit(train.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_two_devices_share_batches_of_any_size(made_data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SHARED, "--output", str(tmp_path / "run")]
    for name, value in {"data": made_data, **TINY, "epochs": 1, "batch": 7}.items():
        command += [f"--{name}", str(value)]
    two = {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    done = subprocess.run(command, env=os.environ | two, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "jax, mixed bfloat16 on cpu:0, cpu:1" in done.stdout
    assert "16 images" not in done.stderr
    assert len(read_history(tmp_path / "run" / "history.csv")) == 1
    assert (tmp_path / "run" / "report.html").is_file()
    assert model.load(tmp_path / "run" / "model.keras").network.dtype_policy.name == "float32"


KILLED = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
from training import train
from training.callbacks import History
from training.recipe import Recipe
whole = History.on_epoch_end
def die_in_the_second(self, epoch, logs=None):
    if epoch == 1:
        os._exit(9)
    whole(self, epoch, logs)
if sys.argv[4] == "in the second epoch":
    History.on_epoch_end = die_in_the_second
else:
    train.finish.finish = lambda *_: os._exit(9)
recipe = Recipe(data=sys.argv[1], size=96, epochs=3, batch=16, rendered=0, textbook=0, weights=sys.argv[3])
train.train(recipe, Path(sys.argv[2]))
"""


def lively_weights(file: Path) -> Path:
    """Write random weights under which features are not next to 0, so that it matters which are dropped."""
    backbone = build_backbone("mobilenet_v3_small", None, 96)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            layer.set_weights([3.4 * w for w in layer.get_weights()])
    backbone.save_weights(file)
    return file


@pytest.mark.parametrize(("when", "epochs"), [("in the second epoch", 1), ("after the last", 3)])
def test_a_killed_run_ends_as_an_uninterrupted_one(
    made_data: Path, tmp_path: Path, when: str, epochs: int
) -> None:
    weights = lively_weights(tmp_path / "lively.weights.h5")
    arguments = [sys.executable, "-c", KILLED, made_data, tmp_path / "a", weights, when]
    killed = subprocess.run(arguments, capture_output=True, check=False)
    assert killed.returncode == 9
    assert len(read_history(tmp_path / "a" / "history.csv")) == epochs
    recipe = tiny(made_data, epochs=3, weights=str(weights))
    networks = [model.load(train.train(recipe, tmp_path / name)).network for name in ("a", "b")]
    # The embedding is left out: its axes may point either way.
    learned = [[np.asarray(w) for w in n.weights if "embedding" not in w.path] for n in networks]
    for resumed, straight in zip(*learned, strict=True):
        assert resumed == pytest.approx(straight, rel=1e-3, abs=1e-4)
    histories = [read_history(tmp_path / name / "history.csv") for name in ("a", "b")]
    assert [row["loss"] for row in histories[0]] == pytest.approx(
        [row["loss"] for row in histories[1]], rel=1e-3
    )


def test_a_folder_of_another_recipe_is_refused_before_anything_is_read(
    made_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(tmp_path / "recipe.json", tiny(made_data))
    (tmp_path / "backup").mkdir()
    claim(tmp_path / "recipe.json", tiny(made_data, epochs=9))
    monkeypatch.setattr(data, "load", lambda _: pytest.fail("the data was read"))
    with pytest.raises(UserError, match="another batch, seed"):
        train.train(tiny(made_data, batch=8, seed=7), tmp_path)


def begun(recipe: Recipe, folder: Path) -> list[data.Sample]:
    """Make a folder in which a run seems to have begun; return its samples, divided as no seed does."""
    (folder / "backup").mkdir(parents=True)
    claim(folder / "recipe.json", recipe)
    samples = data.load(Path(recipe.data))
    parts = [replace(s, split=("train", "validation", "test")[i % 3]) for i, s in enumerate(samples)]
    division.write(folder / "split.csv", parts)
    return parts


def without_splits(folder: Path) -> None:
    lines = (folder / "cells.csv").read_text().splitlines()
    (folder / "cells.csv").write_text("\n".join([lines[0], *(n.rsplit(",", 1)[0] + "," for n in lines[1:])]))


def test_a_run_that_has_begun_keeps_its_division_and_refuses_other_images(
    made_data: Path, tmp_path: Path
) -> None:
    without_splits(made_data)
    recipe, run = tiny(made_data), tmp_path / "run"
    parts = begun(recipe, run)
    assert train.prepare(recipe, None, run) == parts
    assert train.prepare(recipe, None) != parts
    with (made_data / "cells.csv").open("a") as lines:
        lines.write("\nbasophil/0.png,basophil,,pbc,")
    with pytest.raises(UserError, match=r"1 new \(basophil/0\.png\)"):
        train.train(recipe, run)


def test_a_finished_run_reads_no_image_and_is_judged_by_its_own_division(
    made_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_splits(made_data)
    recipe, run = tiny(made_data), tmp_path / "run"
    parts = begun(recipe, run)
    (run / "model.keras").touch()
    (run / "model.json").write_text('{"epochs": 2}')
    monkeypatch.setattr(data, "read_image", lambda _: pytest.fail("an image was read"))
    model_of_all = SimpleNamespace(classes=data.CLASSES)
    monkeypatch.setattr(train.predict, "open_model", lambda file: model_of_all)
    written: list[dict[str, object]] = []
    monkeypatch.setattr(train.evaluate, "judge", lambda model, samples: {"judged": samples})
    monkeypatch.setattr(train.evaluate, "write_report", lambda folder, result, *_: written.append(result))
    train._report(recipe, train.train(recipe, run))
    (result,) = written
    assert result["judged"] == data.of_split(parts, "test")
    assert result["model"] == str(run / "model.keras")
    assert result["images"] == f"test of {made_data}"


def test_a_start_that_failed_binds_the_folder_to_nothing(made_data: Path, tmp_path: Path) -> None:
    unfit = tmp_path / "unfit.weights.h5"
    unfit.write_bytes(b"no weights")
    with pytest.raises(UserError, match="cannot be used"):
        train.train(tiny(made_data, weights=str(unfit), rendered=1), tmp_path / "run")
    assert not (tmp_path / "run" / "rendered").exists()  # told before anything is drawn
    train.train(tiny(made_data, epochs=1), tmp_path / "run")


def test_a_whole_model_is_no_weights(made_data: Path, tmp_path: Path) -> None:
    (tmp_path / "model.keras").touch()
    with pytest.raises(UserError, match=r"a whole model \(\.keras\) is none"):
        train.train(tiny(made_data, weights=str(tmp_path / "model.keras")), tmp_path / "run")


def test_the_study_splits_at_random_and_keeps_the_best_epoch(made_data: Path, tmp_path: Path) -> None:
    table = (made_data / "cells.csv").read_text()
    for split in ("train", "validation", "test"):
        table = table.replace(f",pbc,{split}", ",pbc,")
    (made_data / "cells.csv").write_text(table)
    recipe = replace(
        RECIPES["study"],
        data=str(made_data),
        model="mobilenet_v2",
        size=96,
        weights="none",
        epochs=2,
        batch=8,
    )
    trained = model.load(train.train(recipe, tmp_path / "run"))
    assert trained.names == data.STUDY_CLASSES
    assert (tmp_path / "run" / "best.weights.h5").exists()
    parts = Counter(s.split for s in train.prepare(recipe, None))
    assert parts == {"train": 28, "validation": 8, "test": 4}


def test_a_laboratory_outside_the_splits_may_join_the_training(made_data: Path) -> None:
    table = (made_data / "cells.csv").read_text().replace(",pbc,test", ",bccd,other-laboratory")
    (made_data / "cells.csv").write_text(table)
    apart = train.prepare(tiny(made_data), None)
    joined = train.prepare(tiny(made_data, join="bccd"), None)
    assert {s.split for s in apart if s.source == "bccd"} == {"other-laboratory"}
    assert {s.split for s in joined if s.source == "bccd"} == {"train"}
    with pytest.raises(UserError, match="--join lisc: one of several sources expected; there are bccd, pbc"):
        train.prepare(tiny(made_data, join="lisc"), None)


def test_what_joins_keeps_its_own_test_images(made_data: Path) -> None:
    samples = data.load(made_data)
    second = [replace(s, source="second", file=f"b/{s.file}") for s in samples]
    joined = train.prepare(tiny(made_data, join="second"), [*samples, *second])
    assert [(s.file, s.split) for s in joined] == [(s.file, s.split) for s in [*samples, *second]]
    with pytest.raises(UserError, match="--join pbc: one of several sources expected; there are pbc"):
        train.prepare(tiny(made_data, join="pbc"), samples)


def test_beside_a_source_without_parts_that_joins_the_others_are_divided(made_data: Path) -> None:
    samples = [replace(s, split="") for s in data.load(made_data)]
    second = [replace(s, source="second") for s in samples]
    joined = train.prepare(tiny(made_data, join="second"), [*samples, *second])
    assert {s.split for s in joined if s.source == "pbc"} == {"train", "validation", "test"}
    assert {s.split for s in joined if s.source == "second"} == {"train"}


def test_nothing_learns_from_a_doubted_label(made_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = data.load(made_data)
    doubted = {id(next(s for s in samples if s.split == split)) for split in ("train", "validation", "test")}
    monkeypatch.setattr(data, "undoubted", lambda given: [s for s in given if id(s) not in doubted])
    parts = Counter(s.split for s in train.prepare(tiny(made_data), samples))
    before = Counter(s.split for s in samples)
    assert parts == before - Counter({"train": 1, "validation": 1})


def test_a_run_that_learned_from_doubted_labels_goes_on_and_a_new_one_is_drawn_without(
    made_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [replace(s, split="") for s in data.load(made_data)]
    before = train.prepare(tiny(made_data), samples)
    division.write(tmp_path / "split.csv", before)
    doubted = {s.file for s in before[::3]}
    monkeypatch.setattr(data, "undoubted", lambda given: [s for s in given if s.file not in doubted])
    assert train.prepare(tiny(made_data), samples, tmp_path) == before
    after = train.prepare(tiny(made_data), samples)
    assert after == [s for s in before if s.file not in doubted or s.split == "test"]
    division.write(tmp_path / "split.csv", after)
    assert train.prepare(tiny(made_data), samples, tmp_path) == after


def test_a_folder_called_train_is_no_split(made_data: Path) -> None:
    """A tree's source is the name of its folder, and that may be the name of a split."""
    samples = [replace(s, source="train", split="") for s in data.load(made_data)]
    parts = train.prepare(tiny(made_data), samples)
    sizes = {name: len(data.of_split(parts, name)) for name in ("train", "validation", "test")}
    assert sum(sizes.values()) == len(samples)
    assert sizes["train"] > sizes["validation"] >= sizes["test"] > 0


def test_a_film_is_in_one_part_alone(made_data: Path) -> None:
    samples = [replace(s, split="", film=f"{i % 12}") for i, s in enumerate(data.load(made_data))]
    of_film: dict[str, set[str]] = {}
    for s in train.prepare(tiny(made_data), samples):
        of_film.setdefault(s.film, set()).add(s.split)
    assert all(len(splits) == 1 for splits in of_film.values())
    assert set().union(*of_film.values()) == {"train", "validation", "test"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 0}, "--batch 0: must be at least 1"),
        ({"seed": -1}, "--seed -1"),
        ({"averaging": 2.0}, "--averaging 2.0"),
        ({"classes": "fiv"}, '--classes fiv: must be "all" or "five"'),
        ({"model": "vgg"}, "--model vgg: must be one of"),
        ({"weights": "nope.h5"}, "--weights nope.h5: must be a Keras weights file"),
        ({"patience": 3}, "give --averaging 0"),
        ({"framing": Framing.IMAGE}, "give --no-augment"),
    ],
)
def test_a_wrong_setting_is_told_and_leaves_no_folder(
    made_data: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train.train(tiny(made_data, **changes), tmp_path / "run")
    with pytest.raises(UserError, match="no such folder"):
        train.train(tiny(tmp_path / "typo"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_command_line_names_a_recipe_and_changes_it() -> None:
    parser = train._parser()
    study = train.read_options(parser.parse_args(["--recipe", "study", "--model", "vgg19"]))
    assert study == replace(RECIPES["study"], model="vgg19")
    plain = train.read_options(parser.parse_args(["--no-augment", "--balance", "even"]))
    assert plain == replace(RECIPES["robust"], augment=False, balance="even")


def test_every_setting_is_told_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.main(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert set(HELP) == {f.name for f in fields(Recipe)}
    assert all(text in told for text in HELP.values())
    assert "images to a step (robust: 32, study: 64)" in told


def test_the_command_ends_with_a_report(
    made_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    flags = [f"--{name}={value}" for name, value in (TINY | {"epochs": 1}).items()]
    arguments = [*flags, "--data", str(made_data), "--output", str(tmp_path / "run"), "--h5", "--tensorboard"]
    assert train.main(arguments) == 0
    figures = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert len(figures["predictions"]) == 16
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    ours = keras.models.load_model(tmp_path / "run" / "model.keras")
    image = np.full((1, *ours.input_shape[1:]), 200, np.float32)
    answers = ours.predict(image), keras.models.load_model(tmp_path / "run" / "model.h5").predict(image)
    np.testing.assert_allclose(*(answer[0] for answer in answers), atol=1e-6)
    assert list((tmp_path / "run" / "tensorboard").rglob("events*"))
    assert "epoch 1 of 1" in capsys.readouterr().out


def test_an_error_is_told_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert train.main(["--data", str(tmp_path), "--output", str(tmp_path / "run")]) == 1
    assert str(tmp_path) in capsys.readouterr().err


def test_no_space_left_is_told_before_the_first_epoch(
    made_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr(train.shutil, "disk_usage", lambda folder: full)
    with pytest.raises(UserError, match=r"1 MB are free there, and .* MB are needed"):
        train.train(tiny(made_data), tmp_path / "run")
    assert not (tmp_path / "run" / "history.csv").exists()


def test_parts_without_one_to_learn_from_are_told(made_data: Path) -> None:
    samples = [replace(s, split=s.split.replace("train", "fold1")) for s in data.load(made_data)]
    with pytest.raises(UserError, match="none is called train"):
        train.prepare(tiny(made_data), samples)


def test_what_no_image_shows_is_told_before_the_training(capsys: pytest.CaptureFixture) -> None:
    parts = [
        data.Sample(Path("a"), "a", "monocyte", "pbc", "train"),
        data.Sample(Path("b"), "b", "platelet", "pbc", "test"),
    ]
    train._tell_lacks(parts, ["basophil", "monocyte"])
    told = capsys.readouterr().out
    assert "no training image shows basophil: drawn cells alone do" in told
    assert "the report will leave out platelet" in told
    train._tell_lacks(parts[:1], ["monocyte"])
    assert capsys.readouterr().out == "no image is of split test: there will be no report\n"
