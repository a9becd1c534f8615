from pathlib import Path

import pytest

from edge.errors import UserError
from training.claim import check_free, claim
from training.recipe import Recipe


@pytest.mark.parametrize("name", ["backup/3.weights.h5", "model.keras"])
def test_fewer_epochs_than_are_done_are_refused(tmp_path: Path, name: str) -> None:
    claim(tmp_path / "recipe.json", Recipe(epochs=5))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    (tmp_path / "model.json").write_text('{"epochs": 3}')
    claim(tmp_path / "recipe.json", Recipe(epochs=3))
    with pytest.raises(UserError, match="--epochs 2: 3 are done"):
        claim(tmp_path / "recipe.json", Recipe(epochs=2))


def test_a_model_without_its_backup_is_not_trained_anew(tmp_path: Path) -> None:
    claim(tmp_path / "recipe.json", Recipe(epochs=3))
    (tmp_path / "model.keras").touch()
    (tmp_path / "model.json").write_text('{"epochs": 3}')
    with pytest.raises(UserError, match="a model of 3 epochs is there, but no backup"):
        claim(tmp_path / "recipe.json", Recipe(epochs=5))


def test_a_file_is_no_folder_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    with pytest.raises(UserError, match=r"--output .*notes: a file; name a folder"):
        check_free(tmp_path / "notes", Recipe())


def test_a_run_goes_on_with_its_own_recipe_alone(tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    claim(file, Recipe(seed=1))
    claim(file, Recipe(seed=2))  # nothing was learned yet
    (tmp_path / "backup").mkdir()
    claim(file, Recipe(seed=2, epochs=99))
    with pytest.raises(UserError, match="another batch, seed"):
        claim(file, Recipe(seed=3, batch=8))
