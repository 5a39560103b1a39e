"""CXR-Align: reports of MIMIC-CXR, the same with a finding denied, and the same without it; joined to their images.

``source`` is the folder of the released JSON, {"mimic": {DICOM_ID: {"report", "negation", "omitted", "chosen",
"location"}}}; ``images`` that of MIMIC-CXR-JPG. Items of other sources than MIMIC are named and left out.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clinicclip import files
from clinicclip.data import schema
from clinicclip.data.mentions import mentions
from clinicclip.data.releases import mimic_cxr, tables
from clinicclip.data.schema import Altered, Drop, Study
from clinicclip.errors import UserError

NAME = "cxr_align"
TITLE = "CXR-Align on MIMIC-CXR"
LICENCE = mimic_cxr.LICENCE
CITATION = (
    "Ko and Park. Bringing CLIP to the clinic: dynamic soft labels and negation-aware learning for medical analysis. "
    "CVPR 2025. arXiv:2505.22079"
)
OPEN = False
SPLITS = ("test",)
HAS_REPORTS = True
GENERATED = False
OPTIONS: Mapping[str, Any] = {"images": ""}
PUBLISHED = {"reports": 3_276}

JOINED = "mimic"
TEXTS = ("report", "negation", "omitted", "chosen")


def count(source: Path, *, images: str = "") -> dict[str, int]:
    """How many items the file holds, with an image each."""
    items = sum(map(len, _items(source).values()))
    return {"reports": items, "images": items}


def read(source: Path, *, images: str = "") -> Iterator[Study | Drop]:
    """Every item of MIMIC-CXR with its image; r^n and r^o are those of the release, and a Drop names an empty r^o.

    ``images`` is the folder of MIMIC-CXR-JPG, with its metadata ('' = the source itself). Raises UserError when a file
    is missing, the JSON is none, or an item lacks a text.
    """
    items = _items(source)
    root = mimic_cxr.root(images or source, NAME)
    facts = mimic_cxr.by_image(root, mimic_cxr.METADATA, "ViewPosition")
    for group, own in items.items():
        for image_id, item in own.items():
            report, negated, omitted, chosen = (item[key] for key in TEXTS)
            finding = _finding(chosen)
            reason = _unused(group, image_id in facts, finding, report, negated)
            if reason:
                yield from (Drop(kind, image_id, reason) for kind in ("report", "image"))
                continue
            if not omitted:
                yield Drop("label", image_id, "omitted_missing")
            patient, study, view = facts[image_id]
            yield Study(
                patient=patient,
                study=image_id,
                image_id=image_id,
                split="test",
                image=mimic_cxr.image_file(root, patient, study, image_id),
                findings=report,
                impression="",
                view=view.upper(),
                altered=Altered(negated, omitted, finding),
                altered_by=NAME,
            )


def _unused(group: str, found: bool, finding: int, report: str, negated: str) -> str:
    if group != JOINED:
        return f"not_of_{JOINED}"
    if not found:
        return "metadata_missing"
    if finding < 0:
        return "finding_unknown"
    if not negated:
        return "negation_missing"
    return "negation_unchanged" if negated == report else ""


def _finding(chosen: str) -> int:
    """The finding that an item turns on, by its name or as a report would name it; -1 = none of ours."""
    name = "_".join(chosen.lower().split())
    named = {mention.finding for mention in mentions(f"There is {chosen.lower()}.") if mention.explicit}
    return schema.INDEX.get(name, named.pop() if len(named) == 1 else -1)


def _items(source: Path) -> dict[str, dict[str, dict[str, str]]]:
    """{source: {image: texts}} of the one JSON file of the folder."""
    paths = sorted(source.glob("*.json"))
    if len(paths) != 1:
        raise UserError(f"{NAME}: {len(paths)} JSON files in {source}; expected CXR-Align's alone")
    try:
        content = tables.objects(files.content(paths[0], "fetch it again"))
    except ValueError as fault:
        raise UserError(f"{NAME}: {paths[0].name}: {fault}; fetch it again") from None
    groups = content.values() if isinstance(content, dict) else ()
    if not groups or not all(isinstance(group, dict) for group in groups) or not content.get(JOINED):
        raise UserError(f'{NAME}: {paths[0].name} is no object such as {{"{JOINED}": {{DICOM_ID: ...}}}}')
    return {
        name: {image_id: _item(image_id, item, paths[0]) for image_id, item in group.items()}
        for name, group in content.items()
    }


def _item(image_id: str, item: Any, path: Path) -> dict[str, str]:
    missing = [key for key in TEXTS if not isinstance(item, dict) or not isinstance(item.get(key), str)]
    if missing:
        raise UserError(f"{NAME}: {path.name}: item {image_id} lacks the text of {', '.join(missing)}")
    return {key: item[key].strip() for key in TEXTS}
