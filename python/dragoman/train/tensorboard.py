"""Writes TensorBoard event files without TensorFlow: scalars need only a few lines of protobuf and a checksum.

A file is a row of TFRecords: length (uint64), its checksum, an `Event` message, its checksum; all little-endian. See
tensorflow/core/lib/io/record_writer.h and tensorflow/core/util/event.proto.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from pathlib import Path
from typing import BinaryIO

from dragoman.train.callbacks import Callback, Record

_POLYNOMIAL = 0x82F63B78  # of CRC-32C, reversed


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum (RFC 3720, appendix B.4)."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def _masked(data: bytes) -> bytes:
    """The checksum as in a TFRecord: rotated, because data may contain checksums themselves."""
    value = crc32c(data)
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _event(step: int, content: bytes) -> bytes:
    """Event: wall_time = 1 (double), step = 2, and one of file_version = 3, summary = 5, session_log = 7."""
    return b"\x09" + struct.pack("<d", time.time()) + _integer(2, step) + content


def _scalar(tag: str, value: float) -> bytes:
    """Summary.Value: tag = 1, simple_value = 2 (float)."""
    return _bytes(1, _bytes(1, tag.encode()) + b"\x15" + struct.pack("<f", value))


class TensorBoard(Callback):
    """Writes the numbers of the log as scalars: train/loss, train/lr, ..., valid/loss, ..., final/loss.

    Every run and every resumed run writes a new file. A resumed run tells TensorBoard to drop the points that a
    crashed run wrote after its checkpoint.

    Args:
        folder: for `tensorboard --logdir`; created where missing.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._file: BinaryIO | None = None

    def on_begin(self, step: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns():020d}.{socket.gethostname()}.{os.getpid()}"
        self._file = (self.folder / name).open("xb")
        self._write(_event(0, _bytes(3, b"brain.Event:2")))
        if step:
            self._write(_event(step + 1, _bytes(7, _integer(1, 1))))  # SessionLog: status = 1, START

    def on_record(self, record: Record) -> None:
        self._scalars("final" if "final" in record else "train", record)

    def on_validation(self, record: Record) -> None:
        self._scalars("valid", record)

    def on_end(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _scalars(self, group: str, record: Record) -> None:
        numbers = {name: value for name, value in record.items() if name != "step" and isinstance(value, int | float)}
        values = [_scalar(f"{group}/{name.removeprefix('valid_')}", value) for name, value in numbers.items()]
        if values:
            self._write(_event(record["step"], _bytes(5, b"".join(values))))

    def _write(self, event: bytes) -> None:
        assert self._file is not None
        length = struct.pack("<Q", len(event))
        self._file.write(length + _masked(length) + event + _masked(event))
        self._file.flush()
