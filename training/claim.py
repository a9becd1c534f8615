"""Whose run a folder holds: one that has begun goes on with its own recipe, or not at all."""

from collections.abc import Callable
from dataclasses import Field, asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol

from edge.errors import UserError
from edge.whole import write_json
from training.callbacks import Backup
from training.model import epochs_of
from training.recipe import read_recipe


class _Recipe(Protocol):
    """A dataclass that says how long a run is, among other things."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def epochs(self) -> int: ...


def has_begun(folder: Path) -> bool:
    """Tell whether a run in `folder` has ended an epoch: a start that failed before binds nobody."""
    return any((folder / name).exists() for name in ("backup", "model.keras", "locator.keras"))


def check_free(folder: Path, recipe: _Recipe, read: Callable[[Path], _Recipe] = read_recipe) -> None:
    """Check that a run that has begun in `folder`, if any, may go on with `recipe`.

    It may with more epochs, but with nothing else changed.

    Args:
        folder: of the run.
        recipe: to go on with.
        read: reads a recipe of this kind.

    Raises:
        UserError: another recipe began it, or more epochs are done.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder}: a file; name a folder")
    file = folder / "recipe.json"
    if not has_begun(folder) or not file.exists():
        return
    before = asdict(read(file))
    changed = [name for name, value in asdict(recipe).items() if name != "epochs" and value != before[name]]
    if changed:
        raise UserError(
            f"{folder}: a run began here with another {', '.join(changed)}; give --output another folder"
        )
    backed_up, made = Backup(folder / "backup").done, epochs_of(folder / "model.keras")
    if made and not backed_up and recipe.epochs > made:
        raise UserError(
            f"{folder}: a model of {made} epochs is there, but no backup to go on from; "
            "give --output another folder"
        )
    done = max(backed_up, made)
    if recipe.epochs < done:
        raise UserError(
            f"--epochs {recipe.epochs}: {done} are done in {folder}; ask for as many or more, or give "
            "--output another folder"
        )


def claim(file: Path, recipe: _Recipe, read: Callable[[Path], _Recipe] = read_recipe) -> None:
    """Save `recipe` in the folder of its run.

    Raises:
        UserError: as `check_free`.
    """
    check_free(file.parent, recipe, read)
    write_json(file, asdict(recipe))
