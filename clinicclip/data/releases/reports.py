"""The report texts of a release, one file each, from the zip they come in or the folder it was unpacked to."""

import re
import zipfile
import zlib
from pathlib import Path
from types import TracebackType

from clinicclip.errors import UserError

MOST_BYTES = 2**24  # of a report
_DAMAGES = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeDecodeError)


class Reports:
    """Texts by key, the part of a file's path that ``pattern`` matches at its end; a context manager."""

    def __init__(self, path: Path, pattern: str, release: str) -> None:
        """Lists what is in ``path``. Raises UserError when it is neither a zip nor a folder, or holds no report."""
        self._zip: zipfile.ZipFile | None = None
        if path.is_dir():
            names = [str(file) for file in path.rglob("*.txt")]
        else:
            try:
                self._zip = zipfile.ZipFile(path)
            except FileNotFoundError:
                raise UserError(f"{release}: no reports at {path}; correct --reports") from None
            except zipfile.BadZipFile:
                raise UserError(f"{release}: {path.name} is not a whole zip file; fetch it again") from None
            names = self._zip.namelist()
        matches = ((re.search(rf"(?:^|/)({pattern})$", name), name) for name in names)
        self.names: dict[str, str] = {}
        for match, name in matches:
            if match is None:
                continue
            if match[1] in self.names:
                raise UserError(f"{release}: {path.name} holds the report {match[1]} twice; remove one of the two")
            self.names[match[1]] = name
        if not self.names:
            raise UserError(f"{release}: no reports in {path}; expected files whose paths end in {pattern}")

    def read(self, key: str) -> str | None:
        """The text of a listed report; None when its file is damaged, or larger than any report is."""
        name = self.names[key]
        try:
            # No more comes out of a member than its entry says.
            size = self._zip.getinfo(name).file_size if self._zip else Path(name).stat().st_size
            if size > MOST_BYTES:
                return None
            return (self._zip.read(name) if self._zip else Path(name).read_bytes()).decode("utf-8-sig")
        except _DAMAGES:
            return None

    def __enter__(self) -> "Reports":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._zip:
            self._zip.close()
