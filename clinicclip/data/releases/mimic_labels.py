"""The tables of labels of MIMIC-CXR-JPG: of its reports, as CheXpert, NegBio or CheXbert read them, and by people."""

from collections.abc import Mapping
from pathlib import Path

from clinicclip.data import schema
from clinicclip.data.releases import tables
from clinicclip.errors import UserError, nearest

NAME = "mimic_cxr"


def names(table: str) -> tuple[str, ...]:
    """What the versions of the release call a table."""
    return tuple(f"mimic-cxr-{version}-{table}.csv" for version in ("2.0.0", "2.1.0"))


GOLD = ("mimic-cxr-2.1.0-test-set-labeled.csv",)
LABELS = {"chexpert": names("chexpert"), "negbio": names("negbio"), "text": ()}
# The test labels say "Airspace Opacity" where the report labels say "Lung Opacity".
SPELLING = {"airspace_opacity": "lung_opacity"}
IDS = ("subject_id", "study_id")
IMPRESSION = "Report Impression"  # what CheXbert labels, in its table's first column
# Blank is unmentioned in the report. In its labels, and in the people's labels of its words, that counts as absent.
VALUES = {"1": schema.PRESENT, "0": schema.ABSENT, "-1": schema.UNCERTAIN, "": schema.ABSENT}

Values = tuple[int, ...]  # in the order of schema.CHEXPERT; unknown where a table has no such column
Labels = tuple[dict[str, Values], dict[str, Values]]  # of studies, and of impressions: at most one of the two has any
UNCODED: Values = (schema.UNKNOWN,) * len(schema.CHEXPERT)


def of_reports(source: Path, labels: str) -> Labels:
    """The report labels; none when they are to be read off the text."""
    if labels.endswith((".csv", ".csv.gz")):
        return _of_labeller(Path(labels))
    if labels not in LABELS:
        known = f"{', '.join(LABELS)} or a .csv file"
        raise UserError(f"{NAME}: labels={labels}: expected one of {known}{nearest(labels, LABELS)}")
    return (_by_study(tables.need(source, LABELS[labels], NAME), IDS) if LABELS[labels] else {}), {}


def _of_labeller(path: Path) -> Labels:
    """As `_labels`, from a table that a labeller wrote, such as CheXbert's."""
    if not path.is_file():
        raise UserError(f"{NAME}: labels={path}: no such file")
    header = next(iter(tables.rows(path, (), NAME)))
    if "study_id" in header:
        return _by_study(path, ("study_id",), whole=True), {}
    found: dict[str, Values] = {}
    columns = _columns(path, header, whole=True)
    for number, row in enumerate(tables.rows(path, (IMPRESSION,), NAME), 2):
        impression, where = " ".join(row[IMPRESSION].split()), f"of row {number}"
        values = tuple(_value(path, where, row[columns[name]]) for name in schema.CHEXPERT)
        if found.setdefault(impression, values) != values:
            raise UserError(f"{NAME}: {path.name}: the impression {where} has other labels in a row before it")
    return {}, found


def gold(source: Path) -> tuple[dict[str, Values], list[str]]:
    """{study: test labels}, and the columns of findings that their table lacks."""
    path = tables.find(source, GOLD)
    if path is None:
        return {}, []
    found = _by_study(path, ("study_id",))
    lacking = zip(schema.CHEXPERT, *found.values(), strict=True)
    return found, [f"{path.name}: {name}" for name, *values in lacking if set(values) == {schema.UNKNOWN}]


def _by_study(path: Path, ids: tuple[str, ...], *, whole: bool = False) -> dict[str, Values]:
    found: dict[str, Values] = {}
    columns: dict[str, str] = {}
    for row in tables.rows(path, ids, NAME):
        study = row["study_id"]
        columns = columns or _columns(path, row, whole=whole or ids == IDS)
        if not study:
            raise UserError(f"{NAME}: {path.name}: a row lacks its study_id; fetch it again")
        if study in found:
            raise UserError(f"{NAME}: {path.name} has two rows of study {study}; remove one")
        values = {name: _value(path, f"of study {study}", row[column]) for name, column in columns.items()}
        found[study] = tuple(values.get(name, schema.UNKNOWN) for name in schema.CHEXPERT)
    return found


def _columns(path: Path, row: Mapping[str, str], *, whole: bool) -> dict[str, str]:
    """{finding: column}. Raises UserError for other columns, and unless ``whole`` ones have all fourteen."""
    names = {column: "_".join(column.lower().split()) for column in row if column not in (*IDS, IMPRESSION)}
    columns = {SPELLING.get(name, name): column for column, name in names.items()}
    missing = [name for name in schema.CHEXPERT if name not in columns] if whole else []
    unknown = [column for name, column in columns.items() if name not in schema.CHEXPERT]
    if missing or unknown:
        told = [f"lacks a column of {', '.join(missing)}"] * bool(missing)
        told += [f"has the unknown column {', '.join(unknown)}"] * bool(unknown)
        raise UserError(f"{NAME}: {path.name} {' and '.join(told)}; expected study_id and CheXpert's fourteen findings")
    return columns


def _value(path: Path, where: str, value: str) -> int:
    try:
        return VALUES[value.removesuffix(".0")]
    except KeyError:
        raise UserError(f"{NAME}: {path.name}: {value!r} {where} is no label; expected 1, 0, -1 or blank") from None
