"""The account of a prepared folder: every report and image of the release, used or dropped by name of reason.

``manifest.json`` is written last; a folder without it is not finished.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clinicclip import files
from clinicclip.data.schema import Drop, Sketch, Study
from clinicclip.data.shards import Summary
from clinicclip.errors import UserError

MANIFEST, DROPPED, PARTIAL = "manifest.json", "dropped.jsonl", ".partial"
NEEDED = {"name", "title", "version", "open", "licence", "citation", "published", "settings", "code", "folder"}
NEEDED |= {"splits", "language", "files"}
USED, BEYOND_LIMIT = "used", "beyond_limit"
EXAMPLES = 5  # ids of a reason that a dry run names


class Ledger:
    """Counts what is read against what is written, and refuses a patient in two splits."""

    def __init__(self, release: str, splits: tuple[str, ...]) -> None:
        self.drops: list[Drop] = []
        self._language: Counter[str] = Counter()
        self._flags: Counter[str] = Counter()
        self._release = release
        self._patients: dict[str, str] = {}
        self._owners: dict[str, str] = {}
        self._images: set[str] = set()
        self._used_reports: set[str] = set()
        self._unused_reports: dict[str, str] = {}
        self._records: dict[str, int] = dict.fromkeys(splits, 0)
        self._written: dict[str, set[str]] = {split: set() for split in splits}

    def read(self, study: Study | Sketch) -> None:
        """Notes a study the reader yielded. Raises UserError when it breaks the split by patient."""
        if study.split not in self._records:
            raise UserError(f"{self._release}: image {study.image_id}: unknown split {study.split!r}")
        if study.image_id in self._images:
            raise UserError(f"{self._release}: image {study.image_id} occurs twice; remove one of the two")
        self._images.add(study.image_id)
        split = self._patients.setdefault(study.patient, study.split)
        if split != study.split:
            raise UserError(
                f"{self._release}: patient {study.patient} is in two splits, {split} and {study.split}; "
                "put all images of a patient into one"
            )
        owner = self._owners.setdefault(study.study, study.patient)
        if owner != study.patient:
            raise UserError(
                f"{self._release}: study {study.study} belongs to two patients, {owner} and {study.patient}; "
                "give each study an id of its own"
            )

    def examples(self) -> dict[str, dict[str, list[str]]]:
        """The first ids left out, by kind and reason."""
        found: dict[str, dict[str, list[str]]] = {}
        for drop in self.drops:
            named = found.setdefault(f"{drop.kind}s", {}).setdefault(drop.reason, [])
            named += [drop.id] * (len(named) < EXAMPLES)
        return found

    def drop(self, drop: Drop) -> None:
        """Notes something the reader left out."""
        self.drops.append(drop)

    def add(self, summary: Summary) -> None:
        """Notes what became of the studies of a shard."""
        for _, study, patient in summary.written:
            self._used_reports.add(study)
            self._records[summary.split] += 1
            self._written[summary.split].add(patient)
        for image, study, reason in summary.dropped:
            self.drops.append(Drop("image", image, reason))
            self._unused_reports.setdefault(study, reason)
        self._language.update(summary.language)
        self._flags.update(summary.flags)

    def account(self, expected: Mapping[str, int], *, limited: bool) -> dict[str, Any]:
        """The counts for the manifest; with ``limited`` the unread rest is counted as beyond the limit.

        Raises UserError when used and dropped do not add up to what the release holds.
        """
        if "reports" in expected:
            unused = self._unused_reports.items()
            self.drops += [Drop("report", study, why) for study, why in unused if study not in self._used_reports]
        used = {"reports": len(self._used_reports), "images": sum(self._records.values())}
        account: dict[str, Any] = {}
        for kind in filter(expected.__contains__, used):
            total = expected[kind]
            reasons = Counter(drop.reason for drop in self.drops if f"{drop.kind}s" == kind)
            counts = {USED: used[kind]} | dict(sorted(reasons.items()))
            rest = total - sum(counts.values())
            if limited and rest > 0:
                counts[BEYOND_LIMIT] = rest
            elif rest:
                raise UserError(
                    f"{self._release}: {total} {kind} were found but {total - rest} accounted for; "
                    "the source changed while it was read: run again"
                )
            account[kind] = counts
        rows = Counter(drop.reason for drop in self.drops if drop.kind == "label")
        if rows:
            account["labels"] = dict(sorted(rows.items()))
        splits = {
            split: {"records": self._records[split], "patients": len(patients)}
            for split, patients in self._written.items()
            if patients
        }
        dropped = Counter(drop.reason for drop in self.drops)
        return {
            "source": dict(expected),
            **account,
            "dropped": dict(sorted(dropped.items())),
            "splits": splits,
            "language": dict(sorted(self._language.items())),
            "image_flags": dict(sorted(self._flags.items())),
        }


def read_manifest(data_dir: str | Path, *, checksums: bool = False) -> dict[str, Any]:
    """The manifest of a prepared folder, after checking that every file is there in its full size.

    With ``checksums`` the sha256 of every file is checked too. Raises UserError naming what to do.
    """
    folder = Path(data_dir)
    again = "delete the folder and run python -m clinicclip.prepare again"
    if not (folder / MANIFEST).is_file():
        if (folder / PARTIAL).is_dir():
            raise UserError(f"{folder} is not finished: run the same clinicclip.prepare command again")
        raise UserError(f"{folder} holds no prepared data: run python -m clinicclip.prepare to make it")
    manifest = files.read_json(folder / MANIFEST, NEEDED, again)
    try:
        listed = {folder / name: (at["bytes"], at["sha256"]) for name, at in manifest["files"].items()}
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{folder / MANIFEST} is damaged: {again}") from None
    for path, (size, sha256) in listed.items():
        if not path.is_file():
            raise UserError(f"{path} is missing: {again}")
        if path.stat().st_size != size or (checksums and file_sha256(path) != sha256):
            raise UserError(f"{path} was changed after it was prepared: {again}")
    return manifest


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
