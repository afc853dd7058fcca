"""The ``.tflite`` file as a whole: a FlatBuffer, and files that stand behind it.

The files are a ZIP, whose ``manifest.json`` holds the SHA-256 of the FlatBuffer. The
runtime trusts what it is given, so a file is read and checked here before that.
"""

import hashlib
import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

from pocketseq.export.contract import MANIFEST, Manifest
from pocketseq.pipeline.errors import UserError

# A .tflite file has this at its byte 4.
_FILE_IDENTIFIER = b"TFL3"

# The exceptions of the standard library for a damaged ZIP (RuntimeError for flags that
# say it is encrypted, and for unknown methods and versions) and of a foreign manifest.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, OSError,
    OverflowError, RuntimeError, ValueError,
)  # fmt: skip


class Container(NamedTuple):
    """The contents of a file.

    ``data``: all bytes, which a runtime opens as they are. ``manifest``: the parsed
    ``manifest.json``. ``files``: all files behind the model as bytes, by name.
    ``is_checked``: whether there was a checksum, which agreed.
    """

    data: bytes
    manifest: Manifest
    files: dict[str, bytes]
    is_checked: bool


def read_container(path: str | Path) -> Container:
    """Reads an exported model, and makes sure that it is whole.

    Older files without a checksum are read, too; of them only the manifest and the
    other files behind the model are known to be whole. Damage cannot make a file with a
    checksum look like an older one: the manifest has a checksum of its own in the ZIP.

    Raises:
        UserError: There is no such file, no export has written it, or it is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file, expected a .tflite file")
    data = path.read_bytes()
    if data[4:8] != _FILE_IDENTIFIER:
        raise UserError(f"{path}: expected a run folder or a .tflite file")
    try:
        files, start = _read_files(data)
        manifest = Manifest.from_json(files[MANIFEST])
    except _DAMAGE as error:
        raise UserError(
            f"{path}: no manifest in it that can be read, expected a whole .tflite "
            f"file that an export has written ({type(error).__name__}: {error})"
        ) from error
    stated = manifest.flatbuffer_sha256
    if stated is not None and stated != checksum(memoryview(data)[:start]):
        raise UserError(
            f"{path}: damaged, its checksum is not the one that the manifest in it "
            f"holds: expected a whole file, such as another copy of it"
        )
    return Container(data, manifest, files, is_checked=stated is not None)


def checksum(flatbuffer: bytes | memoryview) -> str:
    """Returns the SHA-256 of a model without the files behind it, as hex digits."""
    return hashlib.sha256(flatbuffer).hexdigest()


def _read_files(data: bytes) -> tuple[dict[str, bytes], int]:
    """Returns the files behind a model by name, and where the first of them starts."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        for entry in entries:
            # Methods that we never write may take much memory or raise otherwise.
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise zipfile.BadZipFile(f"compression method {entry.compress_type}")
        files = {entry.filename: archive.read(entry) for entry in entries}
        start = min((entry.header_offset for entry in entries), default=len(data))
    return files, start
