"""Frames and spools: whatever happens to the bytes, a reader sees a prefix of what was appended."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.metering import spool
from trimtab.metering.spool import (
    MAX_PAYLOAD,
    START,
    Position,
    SpoolError,
    SpoolReader,
    SpoolWriter,
    encode_frame,
    list_spools,
    parse_frames,
    segment_path,
)
from trimtab.metering.tidying import remove_segments_before, remove_spool, remove_unfinished

PAYLOADS = st.lists(st.binary(min_size=1, max_size=200), max_size=20)


def payloads(data: bytes) -> list[bytes]:
    return [payload for _, payload in parse_frames(data)]


def drain(reader: SpoolReader, limit: int = 100) -> list[bytes]:
    found: list[bytes] = []
    while frames := reader.read(limit):
        found += [frame.payload for frame in frames]
    return found


@given(PAYLOADS)
def test_frames_come_back(records: list[bytes]) -> None:
    assert payloads(b"".join(map(encode_frame, records))) == records


@given(PAYLOADS, st.data())
def test_truncation_leaves_a_prefix(records: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(map(encode_frame, records))
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    found = payloads(cut)
    assert found == records[: len(found)]
    assert len(b"".join(map(encode_frame, found + records[len(found) : len(found) + 1]))) > len(cut) or cut == whole


@given(PAYLOADS.filter(bool), st.data())
def test_damage_leaves_a_prefix(records: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(b"".join(map(encode_frame, records)))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    found = payloads(bytes(whole))
    assert found == records[: len(found)]
    assert len(found) < len(records)


@given(PAYLOADS, st.binary(max_size=300))
def test_rubbish_after_the_end_is_no_record(records: list[bytes], rubbish: bytes) -> None:
    found = payloads(b"".join(map(encode_frame, records)) + b"\0" * 8 + rubbish)
    assert found == records


async def test_what_is_appended_is_read(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    places = [writer.append(b"record %d" % n) for n in range(50)]
    (directory,) = list_spools(tmp_path)
    reader = SpoolReader(directory)
    assert reader.id == writer.id
    frames = reader.read(20)
    assert [Position(*frame[:2]) for frame in frames] == places[:20]
    assert reader.position == places[20]
    again = SpoolReader(directory, reader.position)
    assert drain(again, 7) == [b"record %d" % n for n in range(20, 50)]
    assert reader.writer_is_alive()
    assert not again.is_exhausted()
    await writer.close()
    await writer.close()
    assert not reader.writer_is_alive()
    assert again.is_exhausted()
    with pytest.raises(SpoolError, match="closed"):
        writer.append(b"late")


async def test_segments_rotate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 300)
    writer = SpoolWriter(tmp_path)
    reader = SpoolReader(writer.directory)
    expected = []
    for n in range(40):
        expected.append(bytes([n]) * 50)
        writer.append(expected[-1])
        if n == 17:
            assert drain(reader) == expected
    assert writer.backlog.segments == 8
    assert drain(reader) == expected[18:]
    assert drain(SpoolReader(writer.directory)) == expected
    await writer.close()
    assert writer.backlog.unflushed_bytes == 0


async def test_everything_is_flushed_soon(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    writer.append(b"x")
    writer.flush()
    assert writer.backlog == spool.Backlog(1, 9, 0, 1)
    await writer.close()


@pytest.mark.parametrize("size", [0, MAX_PAYLOAD + 1])
async def test_payloads_have_a_size(tmp_path: Path, size: int) -> None:
    writer = SpoolWriter(tmp_path)
    with pytest.raises(SpoolError, match="1 to"):
        writer.append(b"x" * size)
    writer.append(b"x" * MAX_PAYLOAD)
    assert drain(SpoolReader(writer.directory)) == [b"x" * MAX_PAYLOAD]
    await writer.close()


async def test_a_full_disk_spoils_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SpoolWriter(tmp_path)
    writer.append(b"before")
    whole = os.write

    def partly(fd: int, data: bytes) -> int:
        return whole(fd, data[: len(data) // 2])

    def refused(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    for broken in (partly, refused):
        monkeypatch.setattr(os, "write", broken)
        with pytest.raises(SpoolError):
            writer.append(b"does not fit")
    monkeypatch.setattr(os, "write", whole)
    writer.append(b"after")
    assert drain(SpoolReader(writer.directory)) == [b"before", b"after"]
    await writer.close()


async def test_a_write_that_cannot_be_taken_back_ends_its_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer = SpoolWriter(tmp_path)
    writer.append(b"before")
    whole = os.write

    def refuse(fd: int, size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "write", lambda fd, data: whole(fd, data[:9]))
    monkeypatch.setattr(os, "ftruncate", refuse)
    with pytest.raises(SpoolError):
        writer.append(b"does not fit")
    monkeypatch.undo()
    writer.append(b"after")
    reader = SpoolReader(writer.directory)
    assert drain(reader) == [b"before", b"after"]
    assert reader.skipped_bytes == 9
    assert "no whole record" in caplog.text
    await writer.close()


async def test_a_torn_end_is_waited_for_while_its_writer_lives(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    writer.append(b"first")
    with segment_path(writer.directory, 1).open("ab") as segment:
        segment.write(encode_frame(b"second")[:10])
    reader = SpoolReader(writer.directory)
    assert drain(reader) == [b"first"]
    assert (reader.position.segment, reader.skipped_bytes) == (1, 0)
    await writer.close()
    assert drain(reader) == []
    assert reader.skipped_bytes == 10
    assert reader.is_exhausted()


async def test_removal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 100)
    writer = SpoolWriter(tmp_path)
    for _ in range(3):
        writer.append(b"x" * 90)
    now = segment_path(writer.directory, 3).stat().st_mtime
    assert remove_segments_before(writer.directory, Position(3, 0), now - 60) == 0
    assert remove_segments_before(writer.directory, Position(3, 0), now + 60) == 2
    assert len(drain(SpoolReader(writer.directory, Position(3, 0)))) == 1
    await writer.close()
    assert not remove_spool(writer.directory, now - 60)
    assert remove_spool(writer.directory, now + 60)
    assert list_spools(tmp_path) == []


def test_no_spools_where_there_is_no_directory(tmp_path: Path) -> None:
    assert list_spools(tmp_path / "none") == []
    (tmp_path / "shipper.lock").touch()
    assert list_spools(tmp_path) == []


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match="cannot make a spool"):
        SpoolWriter(tmp_path / "file")


def test_a_reader_begins_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "00000000-0000-7000-8000-000000000000").mkdir()
    reader = SpoolReader(tmp_path / "00000000-0000-7000-8000-000000000000")
    assert reader.position == START
    assert reader.read(10) == []


async def test_segments_that_are_gone_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 100)
    writer = SpoolWriter(tmp_path)
    for n in range(1, 7):
        writer.append(bytes([n]) * 90)
    for gone in (1, 2, 5):
        segment_path(writer.directory, gone).unlink()
    reader = SpoolReader(writer.directory)
    assert not reader.is_exhausted()
    assert reader.position == START
    assert [frame.segment for frame in reader.read(10)] == [3, 4, 6]
    assert "segments 1 to 2 are gone" in caplog.text
    assert "segments 5 to 5 are gone" in caplog.text
    await writer.close()
    late = SpoolReader(writer.directory)
    assert not late.is_exhausted()
    assert [frame.segment for frame in late.read(10)] == [3, 4, 6]
    assert late.is_exhausted()
    for reading in (reader, late):
        reading.close()


async def test_a_reader_never_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 100)
    writer = SpoolWriter(tmp_path)
    for _ in range(3):
        writer.append(b"x" * 90)
    await writer.close()
    segment_path(writer.directory, 3).unlink()
    reader = SpoolReader(writer.directory, Position(3, 98))
    assert reader.read(10) == []
    assert reader.position == Position(3, 98)
    assert reader.is_exhausted()


async def test_what_was_never_finished_is_removed(tmp_path: Path) -> None:
    made = tmp_path / ".00000000-0000-7000-8000-000000000000.new"
    made.mkdir()
    (made / spool.LOCK_NAME).touch()
    writer = SpoolWriter(tmp_path)
    changed = made.stat().st_mtime
    assert remove_unfinished(tmp_path, changed - 60) == 0
    with (made / spool.LOCK_NAME).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert remove_unfinished(tmp_path, changed + 60) == 0
    assert remove_unfinished(tmp_path, changed + 60) == 1
    assert not made.exists()
    assert writer.directory.exists()
    await writer.close()
