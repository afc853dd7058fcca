"""The files of the page, by the paths at which a browser finds them.

All are read before anything is served, so that a request is looked up in a table and
never touches a file system.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from pocketseq.export.contract import MANIFEST
from pocketseq.export.places import BOX, find_model, names_in_box, read_shipped
from pocketseq.export.tflite.container import read_container

#: The media types of what a page is made of, by the endings of files.
TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".tflite": "application/octet-stream",
    ".wasm": "application/wasm",
}

_ROOT = Path(__file__).parents[2]
_WEB = _ROOT / "apps" / "web"

# What the page shares with the pages that Pocketseq writes.
_STYLES = _ROOT / "pipeline" / "reports" / "templates"

# Browsers load one of the variants of the runtime, which the page finds out.
_VARIANT = "/litert/litert_wasm"


@dataclass(frozen=True)
class Resource:
    """What a browser gets for a path: ``content``, of a media type."""

    content: bytes
    media_type: str

    @cached_property
    def tag(self) -> str:
        """By which a browser knows whether it has this content already."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'


Site = dict[str, Resource]


def demo_site(model: str | None, litert: Path) -> Site:
    """Returns the page with the models in the box.

    Args:
        model: The folder of an export, a ``.tflite`` file or the name of a model in the
            box, which the page begins with; None: the first one in the box.
        litert: The folder with LiteRT.js.

    Raises:
        UserError: There is no such model, or it is damaged.
    """
    site = {
        f"/{path.name}": _resource(path)
        for path in (
            *_files(_WEB / "demo"),
            _WEB / "pocketseq.js", _WEB / "worker.js",
            _STYLES / "base.css", _STYLES / "shades.css",
        )
    }  # fmt: skip
    site["/"] = site.pop("/index.html")
    # Some browsers look there, whatever a page says.
    site["/favicon.ico"] = site["/icon.svg"]
    for path in _files(litert):
        site[f"/litert/{path.name}"] = _resource(path)
    models = list(_models(model, site))
    site["/site.json"] = _index(models, site)
    return site


def _files(folder: Path) -> list[Path]:
    """Returns the files in a folder that a page is made of."""
    return sorted(path for path in folder.iterdir() if path.suffix in TYPES)


def _resource(path: Path) -> Resource:
    return Resource(path.read_bytes(), TYPES[path.suffix])


def _index(models: list[dict[str, str]], site: Site) -> Resource:
    """Returns what the page reads first: the models, and what it needs offline."""
    tags = "".join(f"{path} {one.tag}\n" for path, one in sorted(site.items()))
    values = {
        "version": version("pocketseq"),
        "build": hashlib.sha256((tags + json.dumps(models)).encode()).hexdigest()[:16],
        "models": models,
        "files": [
            quote(path) for path in sorted(site) if not path.startswith(_VARIANT)
        ],
    }
    return Resource(json.dumps(values).encode(), TYPES[".json"])


def _models(model: str | None, site: Site) -> Iterator[dict[str, str]]:
    """Adds the files of all models, and yields what the page is told of each."""
    names = names_in_box()
    if model is not None:
        place = find_model(model, "the folder of an export or a .tflite file")
        if place.parent == BOX:
            names.remove(place.name)
            names.insert(0, place.name)
        elif place.is_file():
            site["/given/model.tflite"] = Resource(
                read_container(place).data, TYPES[".tflite"]
            )
            yield {"name": place.name, "file": "given/model.tflite"}
        else:
            yield _bundle(place, "given", site)
    for name in names:
        yield _bundle(BOX / name, f"models/{name}", site)


def _bundle(folder: Path, at: str, site: Site) -> dict[str, str]:
    """Adds the manifest of a bundle, and the file in it that an app would ship."""
    manifest, recipe, file, data = read_shipped(folder)
    site[f"/{at}/{MANIFEST}"] = _resource(folder / MANIFEST)
    site[f"/{at}/{file.name}"] = Resource(data, TYPES[".tflite"])
    return {"name": manifest.name, "folder": f"{at}/", "recipe": recipe}
