"""The spool: records on disk, appended by one gateway worker, read by the shipper.

A spool is a directory `<root>/<spool id>/` with a lock file, held by its writer for life, and segments
`<8 digits>.seg`. A segment is a sequence of frames: length of the payload (uint32, little endian), CRC-32 of length
and payload (uint32), payload. What follows a torn or damaged frame in a segment is not read: a reader sees a prefix
of what was appended, never a wrong record.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from uuid import UUID
from zlib import crc32

from trimtab.ids import new_id

log = logging.getLogger(__name__)

SEGMENT_BYTES = 16 * 1024 * 1024
MAX_PAYLOAD = 1024 * 1024
FLUSH_SECONDS = 0.05
"""Pause between two flushes; with the flush itself, data is on disk within 100 ms."""

HEADER = struct.Struct("<II")
LENGTH = struct.Struct("<I")
LOCK_NAME = "lock"
READ_BYTES = 4 * MAX_PAYLOAD


class SpoolError(Exception):
    """A record could not be written to the spool; nothing of it is there."""


class Position(NamedTuple):
    """A place in a spool: number of the segment, byte offset in it."""

    segment: int
    offset: int


START = Position(1, 0)
"""Where every spool is read from first, even where its first segments are gone."""


class Frame(NamedTuple):
    """A record as it lies in a spool: where its frame begins, and its payload."""

    segment: int
    offset: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a writer has on its hands.

    Parameters:
        records: appended since the writer began.
        bytes: the same in bytes, frames included.
        unflushed_bytes: of these, not yet known to be on disk.
        segments: number of segments that are still in the directory, shipped or not.
    """

    records: int
    bytes: int
    unflushed_bytes: int
    segments: int


def encode_frame(payload: bytes) -> bytes:
    """The frame of `payload`."""
    length = LENGTH.pack(len(payload))
    return b"".join((length, LENGTH.pack(crc32(payload, crc32(length))), payload))


def parse_frames(data: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield (offset in `data`, payload) of each whole frame from `start` on; stop before the first that is not."""
    end = len(data)
    offset = start
    while offset + HEADER.size <= end:
        length, checksum = HEADER.unpack_from(data, offset)
        body = offset + HEADER.size
        if not 0 < length <= MAX_PAYLOAD or body + length > end:
            return
        payload = data[body : body + length]
        if crc32(payload, crc32(data[offset : offset + LENGTH.size])) != checksum:
            return
        yield offset, payload
        offset = body + length


def segment_path(directory: Path, segment: int) -> Path:
    """Where segment number `segment` of the spool in `directory` lies."""
    return directory / f"{segment:08d}.seg"


class SpoolWriter:
    """Appends records to a spool of its own. One per process; `append` may be called from any thread.

    Parameters:
        root: directory of all spools, made where absent.

    Raises:
        SpoolError: the spool cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self.id: UUID = new_id()
        self.directory = root / str(self.id)
        try:
            # The lock is taken before the directory has its name: a reader never sees a live spool without it.
            nameless = root / f".{self.id}.new"
            nameless.mkdir(mode=0o700, parents=True)
            self._lock_fd = os.open(nameless / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            nameless.rename(self.directory)
            _sync_directory(root)
            self._directory_fd = os.open(self.directory, os.O_RDONLY | os.O_CLOEXEC)
            self._segment = 0
            self._fd = -1
            self._offset = 0
            self._to_close: list[int] = []
            self._open_next_segment()
        except OSError as error:
            raise SpoolError(f"cannot make a spool in {root}: {error.strerror}") from error
        self._records = 0
        self._bytes = 0
        self._flushed_bytes = 0
        self._must_rotate = False
        self._closed = False
        self._state = threading.Lock()
        self._dirty = threading.Event()
        self._stop = threading.Event()
        self._flusher = threading.Thread(target=self._flush_when_dirty, name="spool-flush", daemon=True)
        self._flusher.start()

    def append(self, payload: bytes) -> Position:
        """Append one record with one write; it survives the death of this process at once, a power loss after 100 ms.

        Parameters:
            payload: 1 byte to 1 MiB.

        Returns:
            Where its frame begins.

        Raises:
            SpoolError: it was not written (disk full, for example); the spool can still be used.
        """
        if not 0 < len(payload) <= MAX_PAYLOAD:
            raise SpoolError(f"a record has 1 to {MAX_PAYLOAD} bytes, this one has {len(payload)}")
        frame = encode_frame(payload)
        with self._state:
            if self._closed:
                raise SpoolError("the spool is closed")
            try:
                if self._must_rotate or (self._offset and self._offset + len(frame) > SEGMENT_BYTES):
                    self._open_next_segment()
                written = os.write(self._fd, frame)
            except OSError as error:
                self._undo()
                raise SpoolError(f"cannot write to the spool {self.directory}: {error.strerror}") from error
            if written != len(frame):
                self._undo()
                raise SpoolError(f"cannot write to the spool {self.directory}: the disk is full")
            position = Position(self._segment, self._offset)
            self._offset += written
            self._records += 1
            self._bytes += written
        if not self._dirty.is_set():
            self._dirty.set()
        return position

    @property
    def backlog(self) -> Backlog:
        """What has been appended, and how much of it is not on disk yet."""
        with self._state:
            records, total, flushed = self._records, self._bytes, self._flushed_bytes
        return Backlog(records, total, total - flushed, sum(1 for _ in self.directory.glob("*.seg")))

    def flush(self) -> None:
        """Wait until all that was appended is on disk. Raises OSError where the disk refuses."""
        with self._state:
            # Closing a segment is the flusher's business, so the descriptor stays valid outside the lock.
            fd, old, total = os.dup(self._fd), self._to_close, self._bytes
            self._to_close = []
        try:
            for descriptor in (*old, fd):
                os.fdatasync(descriptor)
            os.fsync(self._directory_fd)
        finally:
            for descriptor in (*old, fd):
                os.close(descriptor)
        with self._state:
            self._flushed_bytes = max(self._flushed_bytes, total)

    async def close(self) -> None:
        """Flush, and release the spool: readers take what is there as all there will be. May be called twice."""
        with self._state:
            if self._closed:
                return
            self._closed = True
        self._stop.set()
        self._dirty.set()
        await asyncio.to_thread(self._flusher.join)
        for descriptor in (self._fd, self._directory_fd, self._lock_fd):
            os.close(descriptor)

    def _open_next_segment(self) -> None:
        path = segment_path(self.directory, self._segment + 1)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self._fd >= 0:
            self._to_close.append(self._fd)
        self._fd, self._segment, self._offset, self._must_rotate = fd, self._segment + 1, 0, False

    def _undo(self) -> None:
        """Take a partial write back; where even that fails, go on in a new segment: readers skip the torn end."""
        try:
            os.ftruncate(self._fd, self._offset)
        except OSError:
            self._must_rotate = True

    def _flush_when_dirty(self) -> None:
        while True:
            self._dirty.wait()
            self._dirty.clear()
            try:
                self.flush()
            except OSError as error:
                # What the kernel could not write it may have forgotten: a flush of the same file proves nothing now.
                log.error("the spool %s cannot be flushed to disk: %s", self.directory, error)
                with self._state:
                    self._must_rotate = True
            if self._stop.wait(FLUSH_SECONDS) and not self._dirty.is_set():
                return


def _sync_directory(path: Path) -> None:
    """Have the names in a directory survive a power loss."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class SpoolReader:
    """Reads one spool from a position on.

    Parameters:
        directory: of the spool; its name is the spool's id.
        position: where to begin.
    """

    def __init__(self, directory: Path, position: Position = START) -> None:
        self.id = UUID(directory.name)
        self.directory = directory
        self.position = position
        self.skipped_bytes = 0
        self._open: tuple[int, int] | None = None

    def writer_is_alive(self) -> bool:
        """Whether the process that writes this spool still holds its lock."""
        return is_locked(self.directory)

    def read(self, limit: int) -> list[Frame]:
        """Up to `limit` frames from `position` on, which moves behind the last of them.

        A torn or damaged frame ends its segment: skipped with a warning (and counted in `skipped_bytes`) once nothing
        can be appended to that segment any more, waited for until then. Segments that are gone are passed over.
        """
        frames: list[Frame] = []
        while len(frames) < limit:
            # Asked before reading: whatever was appended to an ended segment is then in what we read.
            following = self._following()
            finished = following is not None or not self.writer_is_alive()
            segment, offset = self.position
            data = self._read_at(segment, offset)
            begin = offset
            for at, payload in parse_frames(data):
                if len(frames) == limit:
                    break
                frames.append(Frame(segment, begin + at, payload))
                offset = begin + at + HEADER.size + len(payload)
            self.position = Position(segment, offset)
            if offset > begin:
                continue
            if data and finished:
                self._skip_rest()
            if following is None:
                break
            self._go_on_with(following)
        return frames

    def is_exhausted(self) -> bool:
        """Whether the writer is gone and all it has left is behind `position`."""
        if self.writer_is_alive() or self._following() is not None:
            return False
        try:
            return segment_path(self.directory, self.position.segment).stat().st_size <= self.position.offset
        except FileNotFoundError:
            return True

    def close(self) -> None:
        """Let go of the open segment."""
        self._close_segment()

    def _following(self) -> int | None:
        """The first segment after the present one that is there."""
        following = self.position.segment + 1
        if segment_path(self.directory, following).exists():
            return following
        later = [number for number in segments_in(self.directory) if number >= following]
        if not later:
            return None
        # A listing that others add to meanwhile may lack what is there.
        return following if segment_path(self.directory, following).exists() else min(later)

    def _go_on_with(self, segment: int) -> None:
        missing = range(self.position.segment + (self._open is not None), segment)
        if missing:
            log.warning(
                "spool %s: segments %d to %d are gone, with or without records that were not shipped; going on with %d",
                self.id, missing[0], missing[-1], segment,
            )  # fmt: skip
        self._close_segment()
        self.position = Position(segment, 0)

    def _read_at(self, segment: int, offset: int) -> bytes:
        if self._open is None or self._open[0] != segment:
            self._close_segment()
            try:
                fd = os.open(segment_path(self.directory, segment), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return b""
            self._open = (segment, fd)
        return os.pread(self._open[1], READ_BYTES, offset)

    def _skip_rest(self) -> None:
        segment, offset = self.position
        size = segment_path(self.directory, segment).stat().st_size
        self.skipped_bytes += size - offset
        log.warning(
            "spool %s, segment %d: %d bytes from %d on are no whole record and are skipped",
            self.id, segment, size - offset, offset,
        )  # fmt: skip
        self.position = Position(segment, size)

    def _close_segment(self) -> None:
        if self._open is not None:
            os.close(self._open[1])
            self._open = None


def is_locked(directory: Path) -> bool:
    """Whether a writer holds the lock in a spool's directory."""
    try:
        fd = os.open(directory / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def segments_in(directory: Path) -> list[int]:
    """The numbers of the segments in a spool's directory, in no order."""
    return [int(path.stem) for path in directory.glob("*.seg") if path.stem.isdecimal()]


def list_spools(root: Path) -> list[Path]:
    """The directories of all spools under `root`, oldest first."""
    found: list[Path] = []
    with contextlib.suppress(FileNotFoundError):
        for path in root.iterdir():
            with contextlib.suppress(ValueError):
                UUID(path.name)
                found.append(path)
    return sorted(found)
