"""Compares the number of bytes that a file's header promises with the actual number.

FFmpeg reads a truncated file to its last byte without a message if the container has no index, or takes the file's size
as the stated one. This module reads what a header promises, for each kind of container; nothing is decoded.

A writer that could not go back to its header, as when writing to a pipe, leaves a size of 0 or the largest possible
one: such a file promises nothing. MPEG program streams, raw MP3 and AAC never promise anything. If a container consists
only of packets that state their size, the last one tells whether the file is complete.
"""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal

# Some headers count themselves, or omit the byte that pads a chunk to an even size.
_SLACK_BYTES = 64
# If the size is unknown, writers leave a 32-bit value from here to 0x80000000, or close to 0xFFFFFFFF; no corpus has
# audio of 2 GB.
_UNKNOWN_FROM = 0x7FFF_0000
_MAX_CHUNKS = 1000
_HEAD_BYTES = 3 * 204
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_W64_RIFF, _W64_DATA = (
    b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00",
    b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a",
)
_ASF, _ASF_PROPERTIES = (
    bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
    bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"),
)
_FLV_TAGS = (8, 9, 18)  # audio, video, data
_MP4_FIRST = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_MP4_NEEDED = (b"mdat", b"moov", b"moof")
_TRANSPORT_SYNC = 0x47
# Packets of a transport stream have 188 bytes; discs and cameras (m2ts, mts) put a time stamp of 4 bytes before each,
# broadcasters a checksum of 16 bytes after it.
_TRANSPORT_FORMS = ((188, 0), (192, 4), (204, 0))
_TRANSPORT_PACKETS_LOOKED_AT = 3
_OGG_PAGE_HEAD_BYTES = 27
_OGG_PAGE_MAX_BYTES = _OGG_PAGE_HEAD_BYTES + 255 + 255 * 255


def shortfall(path: Path) -> str:
    """Describes what is missing of a truncated file; empty if nothing is, or if its headers do not tell.

    Args:
        path: an existing media file; one of an unknown kind promises nothing.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        for known, read, slack in _KINDS:
            if known(head):
                promised = read(file, size)
                missing = promised is not None and promised - size > slack
                return f"cut off: its headers promise {promised} bytes, {size} are there" if missing else ""
    return ""


def _number(file: BinaryIO, at: int, length: int, order: Literal["little", "big"] = "little") -> int:
    """The unsigned integer of this many bytes at an offset; 0 after the end of the file."""
    file.seek(at)
    return int.from_bytes(file.read(length).ljust(length, b"\0"), order)


def _end(begin: int, length: int) -> int | None:
    return begin + length if 0 < length < _UNKNOWN_FROM else None


def _wav(file: BinaryIO, size: int) -> int | None:
    """By the size of the samples: many recorders never correct that of the whole file."""
    file.seek(0)
    order: Literal["little", "big"] = "big" if file.read(4) == b"RIFX" else "little"
    at, long_length = 12, 0
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        name = file.read(4)
        length = _number(file, at + 4, 4, order)
        if name == b"ds64":
            long_length = _number(file, at + 16, 8)
        if name == b"data":
            return at + 8 + long_length if long_length and length == 0xFFFF_FFFF else _end(at + 8, length)
        at += 8 + length + length % 2
        if len(name) < 4 or at >= size:
            break
    return None


def _avi(file: BinaryIO, size: int) -> int | None:
    """By its RIFF chunks: one, or with OpenDML several in a row."""
    at = 0
    while at + 12 <= size:
        file.seek(at)
        name, length = file.read(4), _number(file, at + 4, 4)
        if name != b"RIFF" or _end(at, length) is None:
            break
        at += 8 + length + length % 2
    return at or None


def _w64(file: BinaryIO, size: int) -> int | None:
    at = 40
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        name, length = file.read(16), _number(file, at + 16, 8)
        if name == _W64_DATA:
            return at + length if 24 < length < 2**62 else None
        at += max(24, length + -length % 8)
        if len(name) < 16 or at >= size:
            break
    return None


def _au(file: BinaryIO, size: int) -> int | None:
    return _end(_number(file, 4, 4, "big"), _number(file, 8, 4, "big"))


def _matroska(file: BinaryIO, size: int) -> int | None:
    """By the size of the Segment; in an unknown one all bits are set (RFC 8794, 6.2)."""
    at = 0
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        mark = file.read(1)
        if not mark or not mark[0]:
            break
        id_bytes = 9 - mark[0].bit_length()
        file.seek(at)
        name = file.read(id_bytes)
        first = _number(file, at + id_bytes, 1)
        if not first:
            break
        length_bytes = 9 - first.bit_length()
        most = (1 << 7 * length_bytes) - 1
        length = _number(file, at + id_bytes, length_bytes, "big") & most
        if name == _SEGMENT:
            return at + id_bytes + length_bytes + length if 0 < length < most else None
        if length == most:
            break
        at += id_bytes + length_bytes + length
        if at >= size:
            break
    return None


def _mp4(file: BinaryIO, size: int) -> int | None:
    """By the boxes that hold the media and its index; anything may follow the last box."""
    at = 0
    for _ in range(_MAX_CHUNKS):
        file.seek(at + 4)
        name = file.read(4)
        length = _number(file, at, 4, "big")
        if length == 1:
            length = _number(file, at + 8, 8, "big")
        if len(name) < 4 or length < 8:
            break
        if name in _MP4_NEEDED and at + length > size:
            return at + length
        at += length
        if at >= size:
            break
    return None


def _flv(file: BinaryIO, size: int) -> int | None:
    """By its tags, the last of which must be complete; each is followed by its size."""
    at = _number(file, 5, 4, "big") + 4
    while _number(file, at, 1) & 0x1F in _FLV_TAGS and at < size:
        at += 15 + _number(file, at + 1, 3, "big")
    return at


def _asf(file: BinaryIO, size: int) -> int | None:
    """By the file properties, unless they say that the file was streamed while being recorded."""
    at = 30
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        name, length = file.read(16), _number(file, at + 16, 8)
        if name == _ASF_PROPERTIES:
            broadcast = _number(file, at + 88, 4) & 1
            return None if broadcast else _number(file, at + 40, 8) or None
        at += length
        if len(name) < 16 or length < 24 or at >= size:
            break
    return None


def _ogg(file: BinaryIO, size: int) -> int | None:
    """By its last page. (A missing end-of-stream page means little: many writers forget it.)"""
    begin = max(0, size - _OGG_PAGE_MAX_BYTES)
    file.seek(begin)
    tail = file.read()
    at = tail.rfind(b"OggS\0")
    if at < 0:
        return None
    segments = tail[at + _OGG_PAGE_HEAD_BYTES - 1 : at + _OGG_PAGE_HEAD_BYTES]
    if not segments:
        return begin + at + _OGG_PAGE_HEAD_BYTES
    table = tail[at + _OGG_PAGE_HEAD_BYTES : at + _OGG_PAGE_HEAD_BYTES + segments[0]]
    return begin + at + _OGG_PAGE_HEAD_BYTES + segments[0] + sum(table)


def _transport_packet_bytes(head: bytes) -> int:
    """The size of the packets of a transport stream; 0 for anything else."""
    for length, before in _TRANSPORT_FORMS:
        marks = head[before : _TRANSPORT_PACKETS_LOOKED_AT * length : length]
        if len(marks) == _TRANSPORT_PACKETS_LOOKED_AT and set(marks) == {_TRANSPORT_SYNC}:
            return length
    return 0


def _transport(file: BinaryIO, size: int) -> int | None:
    """By its packets, all of one size."""
    file.seek(0)
    return size + -size % _transport_packet_bytes(file.read(_HEAD_BYTES))


# A check of the first bytes, the function that reads the rest, and the number of bytes that may be missing.
_KINDS: tuple[tuple[Callable[[bytes], bool], Callable[[BinaryIO, int], int | None], int], ...] = (
    (lambda head: head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE", _wav, _SLACK_BYTES),
    (lambda head: head[:4] == b"RIFF" and head[8:11] == b"AVI", _avi, _SLACK_BYTES),
    (lambda head: head[:16] == _W64_RIFF, _w64, _SLACK_BYTES),
    (lambda head: head[:4] == b".snd", _au, _SLACK_BYTES),
    (lambda head: head[:4] == _EBML, _matroska, 0),
    (lambda head: head[4:8] in _MP4_FIRST, _mp4, 0),
    (lambda head: head[:3] == b"FLV", _flv, 0),
    (lambda head: head[:16] == _ASF, _asf, _SLACK_BYTES),
    (lambda head: head[:4] == b"OggS", _ogg, 0),
    (lambda head: bool(_transport_packet_bytes(head)), _transport, 0),
)
