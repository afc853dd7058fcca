"""What an app needs of a model that is exported already: its files and the wrappers.

For who has a model in the box, the folder of an export, or nothing but a ``.tflite``
file, which tells all that is needed of itself. Imports no TensorFlow.
"""

import hashlib
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pocketseq.export.apps import write_apps
from pocketseq.export.contract import (
    LICENSES,
    MANIFEST,
    MODEL_CARD,
    README,
    Manifest,
    ModelFile,
)
from pocketseq.export.folders import put, workplace
from pocketseq.export.places import no_export, shipped_file
from pocketseq.export.recipes import DEFAULT, RECIPES
from pocketseq.export.tflite.container import read_container
from pocketseq.pipeline.errors import UserError, writing

# What goes along from the folder of an export, besides the manifest and the file.
_BESIDE = (README, LICENSES, MODEL_CARD, "golden*.jsonl")


def embed(place: Path, platforms: Iterable[str], output: str | Path) -> None:
    """Writes a model and the wrappers for it into a new folder.

    Args:
        place: The folder of an export, or a ``.tflite`` file.
        platforms: Keys of :data:`pocketseq.export.apps.PLATFORMS`.
        output: The folder to write.

    Raises:
        UserError: There is something at ``output`` already, or it cannot be written;
            or the model is none, or damaged.
    """
    folder = Path(output)
    if folder.exists():
        raise UserError(f"{folder}: exists already, expected another --output")
    file = place if place.is_file() else shipped_file(place)
    if file is None:
        raise UserError(no_export(place))
    container = read_container(file)
    if file == place:
        models = _described(file, container.data)
        manifest = replace(container.manifest, models=models, flatbuffer_sha256=None)
    else:
        manifest = _checked(place / MANIFEST, file, container.data)
    with workplace(folder) as temporary:
        made = temporary / "made"
        with writing(folder):
            made.mkdir()
            (made / file.name).write_bytes(container.data)
            (made / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
            if MODEL_CARD in container.files:
                (made / MODEL_CARD).write_bytes(container.files[MODEL_CARD])
            for pattern in _BESIDE if file != place else ():
                for path in place.glob(pattern):
                    shutil.copyfile(path, made / path.name)
        write_apps(manifest, platforms, made)
        put(made, folder, temporary)


def _checked(path: Path, file: Path, data: bytes) -> Manifest:
    """Returns the manifest at a path, with this file alone, which is as it says."""
    manifest = Manifest.from_json(path.read_bytes())
    models = {key: one for key, one in manifest.models.items() if one.file == file.name}
    (entry,) = models.values()
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise UserError(
            f"{file}: damaged, or of another export: expected the SHA-256 in {path}"
        )
    return replace(manifest, models=models)


def _described(file: Path, data: bytes) -> dict[str, ModelFile]:
    """Returns the entry of a lone file, by the recipe that its name tells."""
    # Imported here because it takes long, and only a lone file needs it.
    from pocketseq.export.tflite.flatbuffer import minimum_runtime, operators

    recipe = file.stem.rpartition("-")[2]
    return {
        recipe if recipe in RECIPES else DEFAULT: ModelFile(
            file=file.name,
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            minimum_runtime=minimum_runtime(data),
            operators=operators(data),
        )
    }
