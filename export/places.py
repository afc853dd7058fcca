"""Where models are: paths, the newest run, and the models in the box.

A model in the box is a bundle that comes with the package: a folder in ``models/``,
which has its name. Imports no TensorFlow.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

from pocketseq.export.contract import MANIFEST, Manifest, is_bundle_manifest
from pocketseq.export.recipes import shipped_recipe
from pocketseq.export.tflite.container import read_container
from pocketseq.pipeline.errors import UserError


class Shipped(NamedTuple):
    """The file of a bundle that an app would ship.

    ``manifest``: of the bundle. ``recipe``: of the file. ``file``: where it is.
    ``data``: its bytes.
    """

    manifest: Manifest
    recipe: str
    file: Path
    data: bytes


#: The models in the box, a folder each.
BOX = Path(__file__).parents[1] / "models"


def names_in_box() -> list[str]:
    """Returns the names of the models in the box."""
    return sorted(path.parent.name for path in BOX.glob(f"*/{MANIFEST}"))


def find_model(
    model: str | Path | None,
    expected: str = "a run folder, a SavedModel folder or a .tflite file",
) -> Path:
    """Returns where a model is: a path that exists, or the folder of one in the box.

    What exists under a name comes before the model of that name in the box.

    Args:
        model: A path, or the name of a model in the box; None: the newest run under
            ``runs/``.
        expected: The paths that may be given, for the message.

    Raises:
        UserError: There is no such path and no such model, or no run.
    """
    names = names_in_box()
    others = f", or a model in the box: {', '.join(names)}" if names else ""
    if not model:
        # Imported here because it needs more than a file's answers do.
        from pocketseq.pipeline.runs import newest_run

        return newest_run(others).folder
    if Path(model).exists():
        return Path(model)
    if str(model) in names:
        return BOX / model
    raise UserError(f"{model}: no such model, expected {expected}{others}")


def shipped_file(folder: Path) -> Path | None:
    """Returns the ``.tflite`` file of a bundle that an app would ship.

    Args:
        folder: Any folder; None is returned if it is not a bundle with such a file.

    Raises:
        UserError: The manifest is damaged.
    """
    manifest = _bundle_manifest(folder)
    recipe = shipped_recipe(manifest.models) if manifest else None
    return folder / manifest.models[recipe].file if manifest and recipe else None


def read_shipped(folder: Path) -> Shipped:
    """Reads that file, and makes sure that it is the one that the manifest describes.

    Args:
        folder: A bundle.

    Raises:
        UserError: It is none, its manifest or the file is damaged, or the file is of
            another export or not there.
    """
    manifest = _bundle_manifest(folder)
    recipe = shipped_recipe(manifest.models) if manifest else None
    if manifest is None or recipe is None:
        raise UserError(_no_export(folder))
    entry, path = manifest.models[recipe], folder / MANIFEST
    file = folder / entry.file
    # A name that leads elsewhere would let a manifest give away any file.
    if file.parent != folder or not file.is_file():
        raise UserError(f"{file}: no such file beside {path}, which names it")
    data = read_container(file).data
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise UserError(
            f"{file}: damaged, or of another export: expected the SHA-256 in {path}"
        )
    return Shipped(manifest, recipe, file, data)


def _bundle_manifest(folder: Path) -> Manifest | None:
    """Returns the manifest of a bundle; None: the folder is not one.

    Raises:
        UserError: The manifest is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        return Manifest.from_json(text) if is_bundle_manifest(text) else None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged: {error}") from error


def _no_export(folder: Path) -> str:
    """Returns what is wrong with a folder that should be an export and is not."""
    expected = "expected the folder of an export or a .tflite file"
    if (folder / "saved_model.pb").is_file():
        return f"{folder}: a SavedModel, which no app runs, {expected}"
    if (folder / "config.toml").is_file():
        if (folder / "export" / MANIFEST).is_file():
            return f"{folder}: a run, expected its export: --model {folder}/export"
        return (
            f"{folder}: a run that has no export yet, {expected}: python cli.py export "
            f"--model {folder} --tflite"
        )
    return f"{folder}: no {MANIFEST} of an export in it, {expected}"
