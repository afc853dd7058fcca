"""What an app needs of a model that is exported already: its files and the wrappers.

For who has a model in the box, the folder of an export, or nothing but a ``.tflite``
file, which tells all that is needed of itself. Imports no TensorFlow.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path

from pocketseq.export.apps import write_apps
from pocketseq.export.contract import (
    LICENSES,
    MANIFEST,
    MODEL_CARD,
    README,
    ModelFile,
)
from pocketseq.export.folders import put, workplace
from pocketseq.export.places import read_shipped
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
    if place.is_file():
        file, container = place, read_container(place)
        data = container.data
        models = _described(file, data)
        manifest = replace(container.manifest, models=models, flatbuffer_sha256=None)
        beside = {k: text for k, text in container.files.items() if k == MODEL_CARD}
    else:
        whole, recipe, file, data = read_shipped(place)
        manifest = replace(whole, models={recipe: whole.models[recipe]})
        paths = chain.from_iterable(map(place.glob, _BESIDE))
        beside = {path.name: path.read_bytes() for path in paths}
    texts = {MANIFEST: manifest.to_json().encode(), **beside}
    with workplace(folder) as temporary:
        made = temporary / "made"
        with writing(folder):
            made.mkdir()
            for name, content in {file.name: data, **texts}.items():
                (made / name).write_bytes(content)
        write_apps(manifest, platforms, made)
        put(made, folder, temporary)


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
