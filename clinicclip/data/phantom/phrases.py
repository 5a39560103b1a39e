"""The words of the phantom's radiologist: every phrase is marked for the graph and filled in by `report`.

Marks: `word/o` observation, `word/m` its modifier, `word/a` anatomy; neighbouring words of one mark are one span.
Slots: {size} {side} {zone} {trend} are filled from the item, {s} is the plural, {there} agrees with the noun.
"""

from typing import NamedTuple


class Words(NamedTuple):
    """How one form of a finding is written when it is present."""

    nouns: tuple[str, ...]  # noun phrases, used inside COMMON sentences and alone in an impression
    counted: bool = True  # takes an article
    sentences: tuple[str, ...] = ()  # further whole sentences
    sizes: tuple[str, str, str] = ("small", "moderate", "large")
    places: int = 0  # row of ZONES
    plural: bool = False  # whatever the side


DEGREES = ("mild", "moderate", "severe")
ZONES = (
    ("upper/a lung/a", "mid/a lung/a", "lower/a lung/a"),
    ("upper/a lung/a zone/a", "mid/a lung/a zone/a", "lower/a lung/a zone/a"),
)
COMMON = (
    "{there} {noun}.",
    "{there} {noun}.",
    "{noun} {is} present.",
    "{noun} {is} seen.",
    "{noun} {is} noted.",
    "{noun}.",
)
HEDGED = ("Possible {noun}.", "Questionable {noun}.", "Possible {noun} {is} noted.")
TRENDS = {
    "new": ("new/m", "new/m"),
    "unchanged": ("unchanged/m", "stable/m", "persistent/m"),
    "increased": ("increased/m", "larger/m", "worsened/m"),
    "decreased": ("decreased/m", "smaller/m", "improved/m"),
}
COMPARED = {
    "new": ("new since the prior study", "new from the prior exam"),
    "unchanged": ("unchanged from the prior study", "stable compared to the prior exam", "similar to prior"),
    "increased": ("increased compared to the prior study", "increased since the prior exam"),
    "decreased": ("decreased compared to the prior study", "decreased since the prior exam"),
}
RESOLVING = {
    "pleural_effusion": "pleural/a effusion/o",
    "pneumothorax": "pneumothorax/o",
    "consolidation": "consolidation/o",
    "pneumonia": "pneumonia/o",
}
RESOLVED = (
    "The previously seen {side} {name} has resolved.",
    "Interval resolution of the {side} {name}.",
    "The {side} {name} seen on the prior study has resolved.",
)

PRESENT: dict[tuple[str, str], Words] = {
    ("cardiomegaly", ""): Words(
        ("{trend} {size} cardiomegaly/o", "{trend} {size} cardiac/a enlargement/o"),
        False,
        (
            "The heart/a is {sizely} enlarged/o.",
            "The cardiac/a silhouette/a is {sizely} enlarged/o.",
            "Heart/a size/a is {sizely} enlarged/o.",
            "{size} enlargement/o of the cardiac/a silhouette/a.",
        ),
        DEGREES,
    ),
    ("enlarged_cardiomediastinum", ""): Words(
        ("{trend} {size} mediastinal/a widening/o", "{trend} {size} widening/o of the mediastinum/a"),
        False,
        (
            "The mediastinum/a is {sizely} widened/o.",
            "The superior/a mediastinum/a is {sizely} widened/o.",
            "The mediastinal/a silhouette/a is {sizely} enlarged/o.",
        ),
        DEGREES,
    ),
    ("edema", ""): Words(
        ("{trend} {size} pulmonary/a edema/o", "{trend} {size} interstitial/a pulmonary/a edema/o"),
        False,
        (
            "Findings are consistent with {size} pulmonary/a edema/o.",
            "Pulmonary/a vascular/a congestion/o with {size} edema/o.",
            "{size} bilateral/a pulmonary/a edema/o.",
        ),
        DEGREES,
    ),
    ("pleural_effusion", ""): Words(
        ("{trend} {size} {side} pleural/a effusion{s}/o", "{trend} {size} {side} effusion{s}/o"),
        sentences=("{there} {size} {side} layering/m pleural/a effusion{s}/o.",),
    ),
    ("consolidation", ""): Words(
        (
            "{trend} {side} {zone} consolidation/o",
            "{trend} {size} consolidation/o in the {side} {zone}",
            "{trend} dense/m {side} {zone} consolidation/o",
            "{trend} lobar/m consolidation/o in the {side} {zone}",
        ),
        False,
        ("Dense/m consolidation/o with air/o bronchograms/o in the {side} {zone}.",),
        ("mild", "moderate", "extensive"),
    ),
    ("pneumonia", ""): Words(
        ("{trend} {side} {zone} pneumonia/o", "{trend} multifocal/m pneumonia/o in the {side} {zone}"),
        False,
        (
            "Patchy/m opacities/o in the {side} {zone} consistent with pneumonia/o.",
            "Findings are compatible with {side} {zone} pneumonia/o.",
            "Multifocal/m patchy/m {side} {zone} pneumonia/o.",
        ),
    ),
    ("lung_opacity", ""): Words(
        (
            "{trend} hazy/m opacity/o in the {side} {zone}",
            "{trend} {size} {side} {zone} opacity/o",
            "{trend} ill-defined/m {side} {zone} opacity/o",
        ),
        sentences=("The {side} {zone} shows a hazy/m opacity/o.",),
        sizes=("faint", "hazy", "large"),
        places=1,
    ),
    ("lung_lesion", "nodule"): Words(
        (
            "{trend} {size} {side} {zone} nodule/o",
            "{trend} {size} pulmonary/a nodule/o in the {side} {zone}",
            "{trend} {size} nodular/m opacity/o in the {side} {zone}",
        ),
        sentences=("Well-defined/m pulmonary/a nodule/o in the {side} {zone}.",),
        sizes=("small", "round", "large"),
    ),
    ("lung_lesion", "mass"): Words(
        ("{trend} {size} {side} {zone} mass/o", "{trend} {size} lung/a mass/o in the {side} {zone}"),
        sentences=("Well-defined/m lung/a mass/o in the {side} {zone}.",),
        sizes=("round", "rounded", "large"),
    ),
    ("atelectasis", ""): Words(
        (
            "{trend} {size} {side} basilar/a atelectasis/o",
            "{trend} linear/m atelectasis/o at the {side} lung/a base{s}/a",
            "{trend} plate-like/m {side} basilar/a atelectasis/o",
            "{trend} {size} atelectasis/o at the {side} base{s}/a",
        ),
        False,
        ("{size} {side} basilar/a volume/o loss/o with linear/m atelectasis/o.",),
        ("mild", "moderate", "marked"),
    ),
    ("fracture", "rib"): Words(
        ("{trend} displaced/m {side} rib/a fracture/o", "{trend} {side} rib/a fracture/o"),
        sentences=("There is a displaced/m fracture/o of a {side} rib/a.",),
    ),
    ("fracture", "ribs"): Words(
        ("multiple/m {side} rib/a fractures/o", "multiple/m displaced/m {side} rib/a fractures/o"), plural=True
    ),
    ("fracture", "clavicle"): Words(
        ("{trend} {side} clavicle/a fracture/o", "{trend} displaced/m fracture/o of the {side} clavicle/a"),
        sentences=("The {side} clavicle/a is fractured/o.",),
    ),
    ("pneumothorax", ""): Words(
        ("{trend} {size} {side} pneumothorax/o", "{trend} {size} {side} apical/a pneumothorax/o"),
    ),
    ("pleural_other", "thickening"): Words(
        (
            "{trend} {size} {side} pleural/a thickening/o",
            "{trend} {size} pleural/a thickening/o along the {side} lateral/a chest/a wall/a",
        ),
        False,
        sizes=("mild", "moderate", "marked"),
    ),
    ("pleural_other", "plaque"): Words(
        ("{trend} calcified/m {side} pleural/a plaques/o", "{trend} {side} pleural/a plaques/o"), plural=True
    ),
    ("support_devices", "pacemaker"): Words(
        ("{side} chest/a wall/a pacemaker/o", "{side} pacemaker/o"),
        sentences=("{side} pacemaker/o with leads/o over the heart/a.", "{side} pacemaker/o is in place."),
    ),
    ("support_devices", "port"): Words(
        ("{side} port-a-cath/o", "{side} chest/a port-a-cath/o"),
        sentences=("{side} port-a-cath/o with tip/o in the superior/a vena/a cava/a.",),
    ),
    ("support_devices", "picc"): Words(
        ("{side} PICC/o line/o",),
        sentences=("{side} PICC/o line/o ends in the superior/a vena/a cava/a.", "{side} PICC/o line/o is in place."),
    ),
    ("support_devices", "jugular"): Words(
        ("{side} internal/a jugular/a central/o venous/o catheter/o", "{side} internal/a jugular/a central/o line/o"),
        sentences=("{side} jugular/a catheter/o ends in the superior/a vena/a cava/a.",),
    ),
    ("support_devices", "endotracheal"): Words(
        ("endotracheal/o tube/o",),
        sentences=("Endotracheal/o tube/o ends above the carina/a.", "The endotracheal/o tube/o is in place."),
    ),
    ("support_devices", "enteric"): Words(
        ("enteric/o tube/o", "nasogastric/o tube/o"),
        sentences=("Nasogastric/o tube/o ends in the stomach/a.", "Enteric/o tube/o courses below the diaphragm/a."),
    ),
    ("support_devices", "chest_tube"): Words(
        ("{side} chest/o tube/o", "{side} pleural/a chest/o tube/o"), sentences=("{side} chest/o tube/o is in place.",)
    ),
    ("support_devices", "wires"): Words(("median/m sternotomy/o wires/o", "sternotomy/o wires/o"), plural=True),
}
PLURAL_WHEN_BOTH = ("pleural_effusion",)

# Denials. A list denies several findings at once; "{list}" is joined from LISTED.
LISTED = {
    "consolidation": ("focal/m consolidation/o", "consolidation/o"),
    "pleural_effusion": ("pleural/a effusion/o",),
    "pneumothorax": ("pneumothorax/o",),
    "edema": ("pulmonary/a edema/o",),
    "pneumonia": ("pneumonia/o",),
    "fracture": ("displaced/m rib/a fracture/o", "rib/a fracture/o"),
    "atelectasis": ("atelectasis/o",),
    "lung_lesion": ("suspicious/m pulmonary/a nodule/o", "pulmonary/a nodule/o", "lung/a mass/o"),
}
DENIAL = (
    "No {list}.",
    "No {list}.",
    "There is no {list}.",
    "There is no evidence of {list}.",
    "No {list} {is} seen.",
    "No {list} {is} identified.",
)
_WIDE = "enlarged_cardiomediastinum"
# Normal anatomy: the sentence, what must be absent for it to be true, and the finding it denies first ("" = none).
NORMAL: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("The heart/a is normal/o in size.", ("cardiomegaly",), "cardiomegaly"),
    ("Heart/a size/a is normal/o.", ("cardiomegaly",), "cardiomegaly"),
    ("Heart/a size/a is within/o normal/o limits/o.", ("cardiomegaly",), "cardiomegaly"),
    ("The cardiomediastinal/a silhouette/a is normal/o.", (_WIDE,), _WIDE),
    ("The cardiomediastinal/a silhouette/a is unremarkable/o.", (_WIDE,), _WIDE),
    ("The mediastinal/a contours/a are normal/o.", (_WIDE,), _WIDE),
    ("The lungs/a are clear/o.", ("lung_opacity",), "lung_opacity"),
    ("Lungs/a are clear/o bilaterally/a.", ("lung_opacity",), "lung_opacity"),
    ("The osseous/a structures/a are intact/o.", ("fracture",), "fracture"),
    ("The trachea/a is midline/o.", (), ""),
)
NORMAL_IMPRESSION = (
    "No acute/m cardiopulmonary/a process/o.",
    "No acute/m cardiopulmonary/a abnormality/o.",
    "No acute/m cardiopulmonary/a disease/o.",
    "Normal/o chest/a radiograph.",
    "No evidence of acute/m cardiopulmonary/a disease/o.",
)
