"""Where records come from: random access to them, with what was read remembered, or what cannot be read left out."""

from typing import Protocol, runtime_checkable

from clinicclip.data.records import CorruptRecord
from clinicclip.data.schema import Record


@runtime_checkable
class Source(Protocol):
    """Random access to records; picklable when worker processes are used."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...


class Remembered:
    """A source that keeps what it has read, as long as `budget` bytes last: small data sets are parsed once.

    Kept records are handed out again, so nobody may change them. Worker processes start with nothing kept, and
    each has the budget for itself.
    """

    BESIDES_IMAGE = 8192  # bytes of a record's text and numbers, about

    def __init__(self, source: Source, budget: int) -> None:
        self._source, self._budget = source, budget
        self._kept: dict[int, Record] = {}
        self._free = budget

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        record = self._kept.get(index)
        if record is None:
            record = self._source[index]
            size = len(record["image"]) + self.BESIDES_IMAGE
            if size <= self._free:
                self._free -= size
                self._kept[index] = record
        return record

    def __reduce__(self) -> tuple[type["Remembered"], tuple[Source, int]]:
        return Remembered, (self._source, self._budget)


class Readable:
    """The records of a source that can be read, under new numbers; all are read once to know them."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._numbers = [number for number in range(len(source)) if self._reads(number)]

    def _reads(self, number: int) -> bool:
        try:
            self._source[number]
        except CorruptRecord:
            return False
        return True

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Record:
        return self._source[self._numbers[index]]
