"""Whose run a folder holds: one that has begun goes on with its own recipe, or not at all."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from edge.errors import UserError
from edge.whole import write_json
from training.callbacks import Backup
from training.model import epochs_of
from training.recipe import Recipe, read_recipe


def has_begun(folder: Path) -> bool:
    """Tell whether a run in `folder` has ended an epoch: a start that failed before binds nobody."""
    return any((folder / name).exists() for name in ("backup", "model.keras"))


def check_free(folder: Path, recipe: Recipe) -> None:
    """Check that a run that has begun in `folder`, if any, may go on with `recipe`.

    It may with more epochs, but with nothing else changed.

    Raises:
        UserError: another recipe began it, or more epochs are done.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder}: a file; name a folder")
    file = folder / "recipe.json"
    if not has_begun(folder) or not file.exists():
        return
    check_unchanged(folder, asdict(read_recipe(file)), asdict(recipe))
    done = max(Backup(folder / "backup").done, epochs_of(folder / "model.keras"))
    if recipe.epochs < done:
        raise UserError(
            f"--epochs {recipe.epochs}: {done} are done in {folder}; ask for as many or more, or give "
            "--output another folder"
        )


def claim(file: Path, recipe: Recipe) -> None:
    """Save `recipe` in the folder of its run.

    Raises:
        UserError: as `check_free`.
    """
    check_free(file.parent, recipe)
    write_json(file, asdict(recipe))


def check_unchanged(folder: Path, before: Mapping[str, object], now: Mapping[str, object]) -> None:
    """Check that a run goes on with the settings that began it; the epochs alone may differ.

    Raises:
        UserError: names the folder and the settings that changed.
    """
    changed = [name for name, value in now.items() if name != "epochs" and value != before[name]]
    if changed:
        raise UserError(
            f"{folder}: a run began here with another {', '.join(changed)}; give --output another folder"
        )
