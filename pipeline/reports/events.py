"""Curves, pictures and notes of a training run, for TensorBoard."""

import io
import struct
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import SupportsFloat

from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

_PREFIX = "events.out.tfevents."
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class EventWriter:
    """Writes one TensorBoard event file.

    Events gather in memory until :meth:`flush` writes them. There is no thread, and no
    file stays open, so a full disk or a folder that is gone is an ``OSError`` there and
    nowhere else. What could not be written is kept, and the next flush tries again.

    Each writer makes a file of its own, next to those of earlier writers. It begins
    with the mark of a restart: TensorBoard drops what earlier files say about updates
    after ``update``, which a resumed run repeats.

    Args:
        folder: Where the file goes; made if need be.
        update: The number of updates already done: 0, or that of the checkpoint that
            training resumes from.

    Raises:
        OSError: The file cannot be made.
    """

    def __init__(self, folder: str | Path, *, update: int = 0) -> None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{_PREFIX}{_next_stamp(folder):010d}"
        self._size = 0  # bytes of the file that hold whole records
        self._records = io.BytesIO()
        with open(self.path, "xb"):  # never an existing file
            pass
        # "2" makes readers look for the mark of a restart.
        self._add(event_pb2.Event(file_version="brain.Event:2"))
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        # Readers drop this step too, so it is the first that is repeated.
        self._add(event_pb2.Event(step=update + 1, session_log=start))
        self.flush()

    def scalars(self, update: int, values: Mapping[str, SupportsFloat]) -> None:
        """Adds a point to each of some curves.

        Args:
            update: The number of updates done.
            values: ``{tag: number}``; TensorBoard groups tags by what stands before
                the first slash.
        """
        self._add_summary(
            update,
            (
                summary_pb2.Summary.Value(tag=tag, simple_value=float(value))
                for tag, value in values.items()
            ),
        )

    def picture(self, update: int, tag: str, png: bytes) -> None:
        """Adds a picture; TensorBoard shows those of one tag under a slider.

        Args:
            update: The number of updates done.
            tag: The name of the picture, the same at each update.
            png: The bytes of a PNG file.

        Raises:
            ValueError: The bytes are not a PNG file.
        """
        width, height = _png_size(png)
        image = summary_pb2.Summary.Image(
            width=width, height=height, encoded_image_string=png
        )
        self._add_summary(update, [summary_pb2.Summary.Value(tag=tag, image=image)])

    def text(self, update: int, tag: str, markdown: str) -> None:
        """Adds a note.

        Args:
            update: The number of updates done.
            tag: The name of the note.
            markdown: Its text.
        """
        tensor = tensor_pb2.TensorProto(
            dtype=types_pb2.DT_STRING, string_val=[markdown.encode()]
        )
        metadata = summary_pb2.SummaryMetadata(
            plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name="text"),
            data_class=summary_pb2.DATA_CLASS_TENSOR,
        )
        value = summary_pb2.Summary.Value(tag=tag, tensor=tensor, metadata=metadata)
        self._add_summary(update, [value])

    def flush(self) -> None:
        """Writes what was added since the last flush.

        Raises:
            OSError: The disk is full, or the file is gone or cannot be written. The
                events are kept for the next flush.
        """
        records = self._records.getvalue()
        # "r+": a file that is gone is an error, not a new file without its beginning.
        with open(self.path, "r+b") as file:
            # Over the half of a record that a failed flush may have left.
            file.seek(self._size)
            file.write(records)
        self._size += len(records)
        self._records = io.BytesIO()

    def close(self) -> None:
        """Flushes for the last time.

        Raises:
            OSError: As :meth:`flush`.
        """
        self.flush()

    def _add_summary(
        self, update: int, values: Iterable[summary_pb2.Summary.Value]
    ) -> None:
        summary = summary_pb2.Summary(value=values)
        self._add(event_pb2.Event(step=update, summary=summary))

    def _add(self, event: event_pb2.Event) -> None:
        event.wall_time = time.time()
        RecordWriter(self._records).write(event.SerializeToString())


def _next_stamp(folder: Path) -> int:
    """Returns the seconds for a file's name: now, but after all existing files.

    TensorBoard reads files in the order of their names, also where two were made in
    one second, or where the clock was put back in between.
    """
    stamps = (path.name.split(".")[3] for path in folder.glob(f"{_PREFIX}*"))
    newest = max((int(stamp) for stamp in stamps if stamp.isdecimal()), default=0)
    return max(int(time.time()), newest + 1)


def _png_size(png: bytes) -> tuple[int, int]:
    """Returns the width and the height of a PNG file, in pixels."""
    if not png.startswith(_PNG_SIGNATURE) or len(png) < 24:
        raise ValueError(f"expected the bytes of a PNG file, received {png[:8]!r}")
    # Signature, length and name of the first block, then its content.
    return struct.unpack(">II", png[16:24])
