"""Journals that belong to somebody else: a folder that was copied from another machine, or is being copied, or may only be read.

Nothing in it is changed, not even a header or a lock. A copy may be cut anywhere, and the rest of it may still come; so what is missing
is told as a `Shortage` and nothing is filed in its place, unless the copy is said to be final.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flightlog.schema import frames
from flightlog.schema.blocks import Block
from flightlog.schema.ids import WriterId
from flightlog.schema.records import Ending
from flightlog.stores.base import Gap
from flightlog.worker.sources.segments import OpenSegment
from flightlog.worker.sources.spool import SpoolSource
from flightlog.worker.sources.tail import Bounds, Tail


@dataclass(frozen=True)
class Shortage:
    """Events of a writer that a copy lacks: from `sequence` to before `end`, which is None where that cannot be known.

    `subject` is None when no segment could be read.
    """

    folder: Path
    subject: str | None
    writer: WriterId
    sequence: int
    end: int | None
    message: str


class CopyTail(Tail):
    """Reads one writer's segments and leaves them as they are. `shortage` says why it came no further, None while it is at a clean end.

    `is_open` says whether the writer may have gone on since the copy was made.
    """

    def __init__(self, folder: Path, writer: WriterId, *, final: bool) -> None:
        super().__init__(folder, writer)
        self.shortage: Shortage | None = None
        self.is_open = False
        self._final = final

    def start_at(self, position: int) -> None:
        """Begin where the store is, and pass over the segments that it has whole."""
        super().start_at(position)
        self.kept.update(self._filed(position))
        if self._current is not None and self._current.header.number in self.kept:
            self.close()
        self.segments = [number for number in self.segments if number not in self.kept]

    def read(self) -> Block | Gap | None:
        """See `Tail.read`."""
        self.shortage, self.is_open = None, False
        return super().read()

    def _filed(self, position: int) -> list[int]:
        """Return the segments before the one in which the position lies, and that one where it says that it ends there."""
        begun = [number for number in self.segments if (first := self._first_sequence(number)) is not None and first <= position]
        return [*begun[:-1], *(number for number in begun[-1:] if self._ends_by(number, position))]

    def _ends_by(self, number: int, position: int) -> bool:
        segment = self._opened(number)
        end = segment.stated_end()
        segment.close()
        return end is not None and end <= position

    def _opened(self, number: int) -> OpenSegment:
        return OpenSegment.open(self.path(number), ours=False)

    def _drop_blank(self, number: int, error: frames.Blank) -> None:
        """Pass over a segment that is prepared, or whose beginning was not copied."""

    def _quarantine_unreadable(self, number: int, error: frames.NotASegment) -> bool:
        """Pass over a segment that cannot be read: what of it the store lacks shows at the next one."""
        self._lack(None, f"{self.path(number).name} cannot be read: {error}")
        return True

    def _gives_up(self, segment: OpenSegment | None) -> bool:
        """Whether what is missing at the end of a segment, or before one (None), counts as lost."""
        del segment
        return self._final

    def _missing_before(self, segment: OpenSegment) -> Gap | None:
        if self._gives_up(None):
            return super()._missing_before(segment)
        self._lack(self._at, f"the segments before {segment.path.name} are not in the copy")
        return None

    def _bounds(self, segment: OpenSegment) -> Bounds | None:
        end = segment.stated_end()
        end = self._later_start(segment) if end is None else end
        if end is None and not self._final:
            self.is_open = True
            return None
        return Bounds(end)

    def _at_end(self, segment: OpenSegment, ending: Ending, end: int | None) -> Gap | None:
        if self._final and end is None and self._at < self.sequence:  # the store has passed the damage already: it was told before
            self._finish(segment)
            return None
        if (end is not None and end <= self.sequence) or self._gives_up(segment):
            return super()._at_end(segment, ending, end)
        self._lack(end, f"the copy of {segment.path.name} ends before its last event")
        return None

    def _lack(self, end: int | None, message: str) -> None:
        self.shortage = Shortage(self._folder, self.subject, self.writer, self.sequence, end, message)


class CopySource(SpoolSource):
    """A `Source` over a folder of journals that are not ours. Any number may read the same folder at once."""

    def __init__(self, folder: Path, position: Callable[[str, WriterId], int], *, final: bool = False) -> None:
        """`position` tells where the store is with a writer; `final` says that nothing will be added to this copy."""
        self._final = final
        self._copies: dict[WriterId, CopyTail] = {}
        super().__init__(folder, position)

    @property
    def shortages(self) -> list[Shortage]:
        """What was missing where reading stopped."""
        unread = [
            Shortage(self._folder, None, writer, 0, None, "the journal cannot be followed; the log says why") for writer in self._aside
        ]
        return [*unread, *(tail.shortage for tail in self._copies.values() if tail.shortage and tail.writer not in self._aside)]

    @property
    def open_journals(self) -> int:
        """How many journals their writers may have gone on with since the copy was made."""
        return sum(tail.is_open for tail in self._copies.values())

    def subjects(self) -> set[str]:
        """Return the runs and experiments of which there are journals."""
        return {tail.subject for tail in self._copies.values() if tail.subject is not None}

    def _hang_bell(self) -> int | None:
        return None

    def _tail(self, writer: WriterId) -> Tail:
        tail = self._copies[writer] = self._copy(writer)
        return tail

    def _copy(self, writer: WriterId) -> CopyTail:
        return CopyTail(self._folder, writer, final=self._final)

    def _pass_over(self, entry: os.DirEntry[str]) -> None:
        """Leave a file alone that is no segment."""
