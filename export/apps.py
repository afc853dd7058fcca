"""The sources that an app copies: for each platform a wrapper, and a description.

A wrapper stands in ``apps/``, the same for all models. What it has to know of one, the
file and its signatures, is written from the manifest: in Kotlin, Swift and C as a short
source; on the web and in Python the manifest itself is read. Imports no TensorFlow.
"""

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2

from pocketseq.export.contract import Manifest
from pocketseq.export.recipes import shipped_recipe
from pocketseq.pipeline.errors import UserError, writing

#: The folder in a bundle that has a folder for each platform.
FOLDER = "apps"

# The wrappers, a folder each.
_APPS = Path(__file__).parents[1] / "apps"

# Of the sources that describe a model.
_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class _Platform:
    """What an app for one platform copies.

    ``sources``: the wrapper, files in the platform's folder in ``apps/``; a bundle has
    them side by side.
    ``description``: what describes a model, a template whose name becomes the file's,
    with the model's name for ``model``; None: the manifest does.
    """

    sources: tuple[str, ...]
    description: str | None = None


#: By name, in the order in which they are listed.
PLATFORMS: Mapping[str, _Platform] = {
    "web": _Platform(("pocketseq.js", "pocketseq.d.ts", "worker.js", "litert.mjs")),
    "android": _Platform(
        ("pocketseq/Pocketseq.kt", "pocketseq/LiteRtRuntime.kt"), "Model.kt"
    ),
    "ios": _Platform(("Sources/Pocketseq.swift",), "Model.swift"),
    "c": _Platform(("pocketseq.h", "pocketseq.c", "example.c"), "_model.h"),
    "python": _Platform(("pocketseq_model.py",)),
}

_README = "README.md"


def platforms_named(names: str) -> tuple[str, ...]:
    """Parses names such as ``web,android``, or ``all`` or ``none`` of them.

    Raises:
        UserError: There is no such platform.
    """
    if names == "none":
        return ()
    if names == "all":
        return tuple(PLATFORMS)
    chosen = [name.strip() for name in names.split(",")]
    for name in chosen:
        if name not in PLATFORMS:
            known = ", ".join(PLATFORMS)
            raise UserError(f"--apps {names}: expected none, or some of {known}")
    return tuple(name for name in PLATFORMS if name in chosen)


def write_apps(manifest: Manifest, platforms: Iterable[str], folder: Path) -> None:
    """Writes the sources for some platforms into a folder each.

    Args:
        manifest: Of the bundle.
        platforms: Keys of :data:`PLATFORMS`.
        folder: The bundle; the sources go into ``apps`` in it.

    Raises:
        UserError: A file cannot be written.
    """
    for name in platforms:
        place = folder / FOLDER / name
        with writing(place):
            place.mkdir(parents=True)
            for source in (*PLATFORMS[name].sources, _README):
                shutil.copyfile(_APPS / name / source, place / Path(source).name)
            if template := PLATFORMS[name].description:
                path = place / description_name(manifest.name, template)
                path.write_text(description(manifest, template), encoding="utf-8")


def description_name(model: str, template: str) -> str:
    """Returns the file name of what describes a model.

    Args:
        model: The name in its manifest.
        template: Such as ``Model.kt``.
    """
    snake, _, pascal = _identifiers(model)
    return f"{snake if template.startswith('_') else pascal}{template}"


def description(manifest: Manifest, template: str) -> str:
    """Returns a source that describes the file of a bundle that an app would ship."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    recipe = shipped_recipe(manifest.models) or ""
    snake, camel, pascal = _identifiers(manifest.name)
    return environment.get_template(template).render(
        snake=snake,
        camel=camel,
        pascal=pascal,
        model=manifest.models[recipe],
        # Name, N, M, K.
        signatures=[
            (name, *one.inputs[0].shape[1:], *reversed(one.outputs[0].shape))
            for name, one in manifest.signatures.items()
        ],
    )


def _identifiers(name: str) -> tuple[str, str, str]:
    """Returns a name as ``snake_case``, ``camelCase`` and ``PascalCase``.

    Each begins with a letter of ASCII; what follows them in the templates keeps them
    apart from the words of a language.
    """
    words = re.findall("[a-z0-9]+", name.lower())
    if not words or words[0][0].isdecimal():
        words = ["my", *words]
    pascal = "".join(word.capitalize() for word in words)
    return "_".join(words), pascal[0].lower() + pascal[1:], pascal


def foreign_files(folder: Path) -> Iterator[Path]:
    """Yields what is in the ``apps`` of a bundle and no export has written.

    Args:
        folder: Of the bundle, ``apps``; it need not exist.
    """
    if folder.is_symlink() or folder.is_file():
        yield folder
        return
    for path in sorted(folder.rglob("*")):
        is_folder = path.is_dir() and not path.is_symlink()
        if path.parent == folder:
            is_ours = is_folder and path.name in PLATFORMS
        else:
            is_ours = not is_folder and path.parent.parent == folder
            is_ours = is_ours and _is_written(path.name, path.parent.name)
        if not is_ours:
            yield path


def _is_written(name: str, platform: str) -> bool:
    """Whether a file has a name that an export writes for a platform."""
    if platform not in PLATFORMS:
        return False
    sources = (*PLATFORMS[platform].sources, _README)
    description = PLATFORMS[platform].description
    return name in {Path(source).name for source in sources} or (
        description is not None and name.endswith(description)
    )
