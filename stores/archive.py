r"""Archives: the ledger of an ended run in a file, compressed, checksummed and sufficient by itself.

    offset  size  field                                       all integers little-endian
    0       8     magic "FLTARCH\n"
    8       4     format version, 1
    12      4     size of the header
    16      ..    header: msgpack map {"subject": .., "created": ms since the epoch, "events": .., "blocks": ..,
                  "ends": {writer: position, ...}, "letters": [[writer, sequence, count, reason, message, payload, time], ...]}
    ..            blocks, each: its size (4), msgpack array [place, writer, first sequence, count, body]
    ..      4     0
    ..      32    SHA-256 of all bytes before

`place` is the key that the block had in its store's ledger: blocks of several archives of one store come in the order of their places.
`body` is that of `schema.blocks`. `ends` says how far the store had come with each writer, and `letters` are the dead letters that tell of
events which are in no block. An archive is whole or it is none: whoever reads one looks at the checksum first.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgpack

from flightlog.schema.blocks import Block, decode_body, encode_body
from flightlog.schema.entities import DeadLetter
from flightlog.schema.errors import DecodeError, NotFound
from flightlog.schema.fold import ArtifactState
from flightlog.schema.ids import WriterId
from flightlog.stores.artifacts import open_artifacts
from flightlog.stores.base import Gap, WriterKey
from flightlog.stores.batches import after_positions
from flightlog.stores.replay import without_holes

MAGIC = b"FLTARCH\n"
FORMAT_VERSION = 1
SUFFIX = ".flar"
DIGEST_SIZE = 32
STEP = 1 << 20

Placed = tuple[int, Block]
"""A block and its place in the ledger."""


@dataclass(frozen=True)
class Header:
    """What an archive says of itself."""

    subject: str
    created: int
    events: int
    blocks: int
    ends: Mapping[str, int]
    letters: Sequence[DeadLetter] = ()


@dataclass(frozen=True)
class Written:
    """An archive that was written: its file's name, size and SHA-256 (of the whole file's content before the checksum)."""

    name: str
    size: int
    sha256: str


def write_archive(path: Path, header: Header, blocks: Iterator[Placed]) -> Written:
    """Write an archive to a local file. Raises `OSError`."""
    digest = hashlib.sha256()
    packed = msgpack.packb(_packed_header(header), unicode_errors="surrogatepass")
    first: int | None = None
    with path.open("wb") as file:
        _put(file, digest, MAGIC + FORMAT_VERSION.to_bytes(4, "little") + len(packed).to_bytes(4, "little") + packed)
        for place, block in blocks:
            first = place if first is None else first
            body = block.body or encode_body(block.names, block.records)
            item = msgpack.packb([place, block.writer, block.first_sequence, len(block.records), body])
            _put(file, digest, len(item).to_bytes(4, "little") + item)
        _put(file, digest, bytes(4))
        file.write(digest.digest())
        size = file.tell()
    return Written(f"{file_name(header.subject)}-{first or 0}-{digest.hexdigest()[:12]}{SUFFIX}", size, digest.hexdigest())


def _put(file: BinaryIO, digest: Any, data: bytes) -> None:  # noqa: ANN401 - hashlib names no type
    digest.update(data)
    file.write(data)


def _packed_header(header: Header) -> dict[str, Any]:
    letters = [[item.writer, item.sequence, item.count, item.reason, item.message, item.payload, item.time] for item in header.letters]
    return {
        "subject": header.subject,
        "created": header.created,
        "events": header.events,
        "blocks": header.blocks,
        "ends": dict(header.ends),
        "letters": letters,
    }


def file_name(subject: str) -> str:
    """Return what stands for a subject in a file's name: itself, where every file system can have it."""
    return (
        subject if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", subject) else hashlib.sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()
    )


def read_header(file: BinaryIO) -> Header:
    """Read the header of an archive; the file stands at the first block then. Raises `DecodeError`."""
    head = file.read(16)
    if len(head) < 16 or not head.startswith(MAGIC):
        raise DecodeError("malformed", f"not an archive: it begins {head[:8]!r}")
    version, size = int.from_bytes(head[8:12], "little"), int.from_bytes(head[12:], "little")
    if version != FORMAT_VERSION:
        raise DecodeError("newer-version", f"archive format {version} is not known here, where {FORMAT_VERSION} is; upgrade flightlog")
    try:
        packed = msgpack.unpackb(file.read(size), unicode_errors="surrogatepass", strict_map_key=False)
        subject = packed["subject"]
        letters = [_letter(subject, *item) for item in packed["letters"]]
        return Header(subject, packed["created"], packed["events"], packed["blocks"], packed["ends"], letters)
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
        raise DecodeError("malformed", f"not the header of an archive: {error!r}") from error


def _letter(
    subject: str, writer: str, sequence: int, count: int | None, reason: str, message: str, payload: bytes, time: int
) -> DeadLetter:
    return DeadLetter(subject, writer, sequence, reason, message, payload, time, count)


def read_blocks(file: BinaryIO, subject: str) -> Iterator[Placed]:
    """Yield the blocks of an archive whose header was read. Raises `DecodeError`."""
    while size := int.from_bytes(file.read(4), "little"):
        try:
            place, writer, first, count, body = msgpack.unpackb(file.read(size))
            block = Block(subject, WriterId(writer), first, *decode_body(body), body)
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise DecodeError("malformed", f"not a block of an archive: {error!r}") from error
        if len(block.records) != count:
            raise DecodeError("malformed", f"a block of an archive holds {len(block.records)} events and claims {count}")
        yield place, block


def check_archive(path: Path) -> str:
    """Return the SHA-256 of an archive, 64 hexadecimal digits. Raises `DecodeError` when it is not whole."""
    left = path.stat().st_size - DIGEST_SIZE
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while left > 0:
            part = file.read(min(left, STEP))
            digest.update(part)
            left -= len(part)
        if left < 0 or file.read() != digest.digest():
            raise DecodeError("malformed", f"the archive {path.name} is damaged: its checksum does not match")
    return digest.hexdigest()


@contextmanager
def fetched(folder: str, name: str, sha256: str | None = None) -> Iterator[BinaryIO]:
    """Give an archive that was found whole, open for reading; `folder` is a path or a URI.

    Raises `DecodeError` for one that is damaged or another than the one with this SHA-256, `NotFound` for one that is not there, `OSError`.
    """
    with tempfile.TemporaryDirectory(prefix="flightlog-") as temporary:
        path = Path(temporary) / name
        open_artifacts(folder).get(name, path)
        found = check_archive(path)
        if sha256 not in (None, found):
            raise DecodeError("malformed", f"the archive {name} in {folder} is another than the one that was written there")
        with path.open("rb") as file:
            yield file


def archived(folder: str, name: str, sha256: str | None = None) -> Iterator[Placed]:
    """Yield the blocks of an archive. Raises as `fetched` does."""
    with fetched(folder, name, sha256) as file:
        header = read_header(file)
        yield from read_blocks(file, header.subject)


class Merge:
    """Puts the blocks of archives between those of a ledger, in the order of their places. An archive is opened when its turn comes."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Block | None, Iterator[Placed]]] = []
        self._added = 0

    def add(self, first_place: int, blocks: Iterator[Placed]) -> None:
        """Add an archive whose first block has a place."""
        self._added += 1
        heapq.heappush(self._heap, (first_place, self._added, None, blocks))

    def before(self, place: float) -> Iterator[Block]:
        """Yield the archived blocks that come before a place."""
        while self._heap and self._heap[0][0] < place:
            _, number, block, blocks = self._heap[0]
            if block is not None:
                yield block
            following = next(blocks, None)
            if following is None:
                heapq.heappop(self._heap)
            else:
                heapq.heapreplace(self._heap, (following[0], number, following[1], blocks))


@dataclass(frozen=True)
class ArchiveSource:
    """A folder of archives as a source of a replay; `folder` is a path or an `s3://` URI."""

    folder: str
    run_ids: Sequence[str] = ()

    def items(self, known: Mapping[WriterKey, int]) -> Iterator[Block | Gap]:
        """See `replay.Source.items`."""
        names = self._names(known)
        merge = Merge()
        for name, header in names.items():
            if header is not None:
                merge.add(_place_in(name), archived(self.folder, name))
        headers = [header for header in names.values() if header is not None]
        ends: dict[WriterKey, int] = {}
        for header in headers:
            for writer, end in header.ends.items():
                key = (header.subject, WriterId(writer))
                ends[key] = max(end, ends.get(key, 0))
        blocks = after_positions(merge.before(math.inf), known)
        yield from without_holes(blocks, [letter for header in headers for letter in header.letters], ends, known)

    def events(self, known: Mapping[WriterKey, int]) -> int | None:
        """See `replay.Source.events`."""
        return sum(header.events for header in self._names(known).values() if header is not None)

    def artifacts(self, run_id: str) -> Sequence[ArtifactState]:
        """See `replay.Source.artifacts`. An archive does not know."""
        del run_id
        return ()

    def _names(self, known: Mapping[WriterKey, int]) -> dict[str, Header | None]:
        """Return the files with their headers; without, where nothing in it is wanted."""
        found: dict[str, Header | None] = {}
        for entry in open_artifacts(self.folder).list():
            if entry.path.endswith(SUFFIX):
                with fetched(self.folder, entry.path) as file:
                    header = read_header(file)
                is_known = all(end <= known.get((header.subject, WriterId(writer)), 0) for writer, end in header.ends.items())
                wanted = (not self.run_ids or header.subject in self.run_ids) and not is_known
                found[entry.path] = header if wanted else None
        return found

    def check(self) -> None:
        """Raise `NotFound` unless there are archives, of each of the runs if some are given."""
        entries = open_artifacts(self.folder).list()
        names = [entry.path for entry in entries if entry.path.endswith(SUFFIX)]
        if not names:
            raise NotFound(f"{self.folder} has no archives")
        for run_id in self.run_ids:
            if not any(name.startswith(f"{file_name(run_id)}-") for name in names):
                raise NotFound(f"{self.folder} has no archive of the run {run_id!r}")


def _place_in(name: str) -> int:
    """Return the first place that a file's name tells; 0 for a file that was renamed."""
    found = re.search(rf"-(\d+)-[0-9a-f]{{12}}{re.escape(SUFFIX)}$", name)
    return int(found[1]) if found else 0
