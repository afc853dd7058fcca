"""Where models are: paths, the newest run, and the models in the box.

A model in the box is a bundle that comes with the package: a folder in ``models/``,
which has its name. Imports no TensorFlow.
"""

from pathlib import Path

from pocketseq.export.contract import MANIFEST, Manifest, is_bundle_manifest
from pocketseq.export.recipes import DEFAULT
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.runs import newest_run

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
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        models = Manifest.from_json(text).models if is_bundle_manifest(text) else {}
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged: {error}") from error
    shipped = models.get(DEFAULT) or next(iter(models.values()), None)
    return folder / shipped.file if shipped else None
