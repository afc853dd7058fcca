import os
import resource
import struct
import threading
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
from tensorboard.backend.event_processing import (
    event_accumulator,
    plugin_event_accumulator,
)

from pocketseq.pipeline.reports.events import EventWriter


def png(width, height):
    """A grey picture, written by hand."""

    def block(name, data):
        checksum = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x80" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [block(b"IHDR", header), block(b"IDAT", rows), block(b"IEND", b"")]
    )


def read(folder):
    """Reads a folder as scripts do, with all that is in it."""
    keep_all = event_accumulator.STORE_EVERYTHING_SIZE_GUIDANCE
    return event_accumulator.EventAccumulator(str(folder), keep_all).Reload()


def read_as_dashboards_do(folder):
    """Reads a folder as TensorBoard's own server does."""
    keep_all = event_accumulator.STORE_EVERYTHING_SIZE_GUIDANCE
    return plugin_event_accumulator.EventAccumulator(str(folder), keep_all).Reload()


def curve(folder, tag="loss"):
    return [(point.step, point.value) for point in read(folder).Scalars(tag)]


def write_losses(writer, updates, value):
    for update in updates:
        writer.scalars(update, {"loss": value})
    writer.flush()


@contextmanager
def files_of_at_most(size):
    """What a disk that is full after some bytes does to a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# What is written is read back.


def test_curves_are_read_back_point_by_point(tmp_path):
    writer = EventWriter(tmp_path)
    writer.scalars(100, {"loss": 0.5, "dev/wer": 30.25})
    writer.scalars(200, {"loss": np.float32(0.25), "dev/wer": 20})
    writer.close()
    assert curve(tmp_path, "loss") == [(100, 0.5), (200, 0.25)]
    assert curve(tmp_path, "dev/wer") == [(100, 30.25), (200, 20.0)]
    assert read(tmp_path).Tags()["scalars"] == ["loss", "dev/wer"]


def test_a_loss_that_is_no_number_is_read_back_as_such(tmp_path):
    writer = EventWriter(tmp_path)
    writer.scalars(1, {"loss": float("nan"), "speed": float("inf")})
    writer.close()
    assert np.isnan(curve(tmp_path)[0][1])
    assert curve(tmp_path, "speed") == [(1, float("inf"))]


@pytest.mark.parametrize(("width", "height"), [(1, 1), (300, 7), (65, 1000)])
def test_a_picture_is_read_back_byte_by_byte_with_its_size(tmp_path, width, height):
    writer = EventWriter(tmp_path)
    writer.picture(50, "attention", png(width, height))
    writer.close()
    (image,) = read(tmp_path).Images("attention")
    assert image.encoded_image_string == png(width, height)
    assert (image.step, image.width, image.height) == (50, width, height)


def test_a_note_is_read_back_in_any_script(tmp_path):
    markdown = "| a | b |\n|---|---|\n| मित्र | 友 😀 |"
    writer = EventWriter(tmp_path)
    writer.text(50, "samples", markdown)
    writer.close()
    (note,) = read(tmp_path).Tensors("samples")
    assert note.step == 50
    assert list(note.tensor_proto.string_val) == [markdown.encode()]


def test_each_kind_stands_in_its_dashboard(tmp_path):
    writer = EventWriter(tmp_path)
    writer.scalars(1, {"loss": 0.5, "dev/wer": 30.0})
    writer.picture(1, "attention", png(3, 2))
    writer.text(1, "samples", "a")
    writer.close()
    found = read_as_dashboards_do(tmp_path)
    assert set(found.PluginTagToContent("scalars")) == {"loss", "dev/wer"}
    assert set(found.PluginTagToContent("images")) == {"attention"}
    assert set(found.PluginTagToContent("text")) == {"samples"}
    (image,) = found.Tensors("attention")
    assert list(image.tensor_proto.string_val) == [b"3", b"2", png(3, 2)]


@pytest.mark.parametrize("data", [b"", b"GIF89a", png(3, 2)[:20], png(3, 2)[1:]])
def test_what_is_no_png_is_an_error(tmp_path, data):
    with pytest.raises(ValueError, match="expected the bytes of a PNG file, received"):
        EventWriter(tmp_path).picture(1, "attention", data)


def test_the_folder_is_made(tmp_path):
    EventWriter(tmp_path / "a" / "b").close()
    assert len(os.listdir(tmp_path / "a" / "b")) == 1


# Resumed trainings.


def test_a_resumed_training_drops_what_it_repeats_and_keeps_the_rest(tmp_path):
    write_losses(EventWriter(tmp_path), [10, 20, 30, 40], 1.0)
    write_losses(EventWriter(tmp_path, update=20), [30], 2.0)
    assert curve(tmp_path) == [(10, 1.0), (20, 1.0), (30, 2.0)]


def test_pictures_and_notes_of_repeated_updates_are_dropped_by_dashboards(tmp_path):
    for resumed_at in (0, 20):
        writer = EventWriter(tmp_path, update=resumed_at)
        for update in (resumed_at + 10, resumed_at + 20, resumed_at + 30):
            writer.scalars(update, {"loss": 1.0})
            writer.picture(update, "attention", png(resumed_at + 1, 1))
            writer.text(update, "samples", str(resumed_at))
        writer.flush()
    found = read_as_dashboards_do(tmp_path)
    for tag in ("loss", "attention", "samples"):
        assert [event.step for event in found.Tensors(tag)] == [10, 20, 30, 40, 50]
    widths = [e.tensor_proto.string_val[0] for e in found.Tensors("attention")]
    assert widths == [b"1", b"1", b"21", b"21", b"21"]


def test_a_training_that_starts_again_drops_everything(tmp_path):
    write_losses(EventWriter(tmp_path), [1, 2, 3], 1.0)
    write_losses(EventWriter(tmp_path), [2], 2.0)
    assert curve(tmp_path) == [(2, 2.0)]


@pytest.mark.parametrize("clock", [[1e9] * 12, [1e9 - 1e4 * i for i in range(12)]])
def test_files_are_read_in_order_whatever_the_clock_says(tmp_path, monkeypatch, clock):
    for number, now in enumerate(clock):
        monkeypatch.setattr("time.time", lambda now=now: now)
        writer = EventWriter(tmp_path, update=number)
        write_losses(writer, [number + 1, number + 2], float(number))
    assert len(os.listdir(tmp_path)) == 12
    expected = [(number + 1, float(number)) for number in range(12)]
    assert curve(tmp_path) == [*expected, (13, 11.0)]


def test_files_of_earlier_writers_and_other_files_stay_as_they_are(tmp_path):
    contents = {"config.toml": b"a", "events.out.tfevents.x": b"", "events.out": b"b"}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    for _ in range(3):
        writer = EventWriter(tmp_path)
        write_losses(writer, [1], 1.0)
        assert writer.path.name not in contents
        contents[writer.path.name] = writer.path.read_bytes()
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found == contents


def test_a_file_is_named_after_the_time(tmp_path, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1e9)
    assert EventWriter(tmp_path).path.name == "events.out.tfevents.1000000000"
    monkeypatch.setattr("time.time", lambda: 2e9 + 0.5)
    assert EventWriter(tmp_path).path.name == "events.out.tfevents.2000000000"


def test_a_file_that_another_program_makes_meanwhile_is_not_overwritten(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("time.time", lambda: 1e9)
    first = EventWriter(tmp_path)
    before = first.path.read_bytes()
    monkeypatch.setattr("pathlib.Path.glob", lambda *_: [])  # not there yet
    with pytest.raises(FileExistsError):
        EventWriter(tmp_path, update=10)
    assert first.path.read_bytes() == before


def test_a_file_torn_by_a_killed_program_does_not_matter(tmp_path):
    first = EventWriter(tmp_path / "whole")
    write_losses(first, [10], 1.0)
    before = first.path.stat().st_size
    write_losses(first, [20], 1.0)
    whole = first.path.read_bytes()
    for size in range(before, len(whole)):
        folder = tmp_path / str(size)
        folder.mkdir()
        (folder / first.path.name).write_bytes(whole[:size])
        write_losses(EventWriter(folder, update=10), [20], 2.0)
        assert curve(folder) == [(10, 1.0), (20, 2.0)]


# Writing.


def test_events_are_in_the_file_after_each_flush(tmp_path):
    writer = EventWriter(tmp_path)
    for update in range(1, 5):
        before = writer.path.read_bytes()
        writer.scalars(update, {"loss": 1.0})
        assert writer.path.read_bytes() == before
        writer.flush()
        assert writer.path.read_bytes().startswith(before)
        assert curve(tmp_path) == [(u, 1.0) for u in range(1, update + 1)]


def test_a_flush_without_events_changes_nothing(tmp_path):
    writer = EventWriter(tmp_path)
    before = writer.path.read_bytes()
    writer.flush()
    writer.close()
    assert writer.path.read_bytes() == before


def test_there_is_no_thread_and_no_open_file(tmp_path):
    threads, files = threading.active_count(), os.listdir("/dev/fd")
    writer = EventWriter(tmp_path)
    write_losses(writer, [1], 1.0)
    assert threading.active_count() == threads
    assert os.listdir("/dev/fd") == files


@pytest.mark.parametrize("room", [0, 1, 11, 12, 40, 4095, 4096, 5000, 40_000])
def test_a_full_disk_is_an_error_at_flush_and_nothing_is_lost(tmp_path, room):
    writer = EventWriter(tmp_path)
    write_losses(writer, [10], 1.0)
    size = writer.path.stat().st_size
    writer.scalars(20, {"loss": 1.0})
    writer.picture(20, "attention", png(300, 100) + bytes(50_000))
    for _ in range(2):
        with files_of_at_most(size + room), pytest.raises(OSError, match="too large"):
            writer.flush()
        # Nothing that was there has suffered.
        assert curve(tmp_path)[0] == (10, 1.0)
    write_losses(writer, [30], 1.0)
    assert curve(tmp_path) == [(10, 1.0), (20, 1.0), (30, 1.0)]
    (image,) = read(tmp_path).Images("attention")
    assert image.encoded_image_string == png(300, 100) + bytes(50_000)


def test_a_full_disk_at_the_start_is_an_error(tmp_path):
    with files_of_at_most(10), pytest.raises(OSError, match="too large"):
        EventWriter(tmp_path)


def test_a_folder_that_vanishes_is_an_error_at_flush(tmp_path):
    writer = EventWriter(tmp_path / "events")
    (tmp_path / "events").rename(tmp_path / "moved")
    writer.scalars(1, {"loss": 1.0})
    for finish in (writer.flush, writer.close):
        with pytest.raises(FileNotFoundError, match="events"):
            finish()
    (tmp_path / "moved").rename(tmp_path / "events")
    writer.close()
    assert curve(tmp_path / "events") == [(1, 1.0)]


def test_a_file_that_was_removed_is_an_error_and_not_begun_anew(tmp_path):
    writer = EventWriter(tmp_path)
    writer.path.unlink()
    with pytest.raises(FileNotFoundError):
        writer.flush()
    assert os.listdir(tmp_path) == []


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path):
    (tmp_path / "events").write_text("")
    with pytest.raises(OSError, match="events"):
        EventWriter(tmp_path / "events")
