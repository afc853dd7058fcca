"""LiteRT.js, which runs models in browsers: npm fetches it, once for a version.

It is a package of npm's, 19 MB in the form that a page loads, and not part of this
project. The version, and what its files must be, stand in ``apps/web``.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

from pocketseq.pipeline.errors import UserError, writing
from pocketseq.pipeline.signals import temporary_folder

logger = logging.getLogger(__name__)

_WEB = Path(__file__).parents[2] / "apps" / "web"

# What npm needs, and the program that copies what a browser needs.
_NEEDED = ("package.json", "package-lock.json", "litert.mjs")


def litert_folder() -> Path:
    """Returns the folder with LiteRT.js, which npm fetches if it is not there yet.

    Raises:
        UserError: There is no npm, or it does not succeed.
    """
    package = json.loads((_WEB / "package.json").read_text(encoding="utf-8"))
    version = package["dependencies"]["@litertjs/core"]
    folder = _caches() / "pocketseq" / f"litert-js-{version}"
    if not folder.is_dir():
        _fetch(folder, version)
    return folder


def _caches() -> Path:
    """Returns the folder that the system has for what can be fetched again."""
    if place := os.environ.get("XDG_CACHE_HOME"):
        return Path(place)
    place = "Library/Caches" if sys.platform == "darwin" else ".cache"
    return Path.home() / place


def _fetch(folder: Path, version: str) -> None:
    if not (shutil.which("npm") and shutil.which("node")):
        raise UserError(
            f"LiteRT.js {version}, which runs models in browsers, comes by npm, and "
            f"there is none: expected Node.js with npm, such as by apt install npm"
        )
    logger.info("fetching LiteRT.js %s by npm, once, into %s", version, folder)
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Renamed when it is whole, so that an interruption leaves no half of it.
        with temporary_folder(folder.parent, ".") as work:
            for source in _NEEDED:
                shutil.copyfile(_WEB / source, work / source)
            _run(work, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
            _run(work, "node", "litert.mjs", "litert")
            if not folder.is_dir():  # another process may have been as fast
                (work / "litert").rename(folder)


def _run(folder: Path, *command: str) -> None:
    """Runs a program, whose words are shown only if it fails."""
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        problem = next((line for line in lines if "error" in line.lower()), lines[-1])
        raise UserError(f"LiteRT.js cannot be fetched: {command[0]}: {problem.strip()}")
