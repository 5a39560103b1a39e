"""Names of anatomy, what calls it normal, and the findings that such a statement denies.

All patterns are written for lower-cased text, are matched at word boundaries, and name no group.
"""

from collections.abc import Mapping

HEART = r"(?:heart|(?:cardiac|cardio ?pericardial) (?:size|silhouette|shadow|contour|outline)s?)"

# Anatomy and the findings a statement of its normality denies; the first is the statement's main finding.
_LUNG = (
    "lung_opacity",
    "consolidation",
    "pneumonia",
    "atelectasis",
    "lung_lesion",
    "edema",
    "infiltration",
    "nodule",
    "mass",
)
ANATOMY: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "cardiomediastinum": (
        (
            r"cardio ?-?mediastinal(?: (?:silhouette|contour|structure|border|outline)s?)?",
            r"(?:heart|cardiac) and mediastin(?:um|al)(?: (?:silhouette|contour|shadow|structure)s?)?",
        ),
        ("enlarged_cardiomediastinum", "cardiomegaly"),
    ),
    "heart": ((HEART, r"cardiac"), ("cardiomegaly",)),
    "mediastinum": (
        (
            r"(?:hilar and )?mediastin(?:um|al(?: and hilar)?(?: (?:silhouette|contour|shadow|structure|"
            r"border)s?)?)",
        ),
        ("enlarged_cardiomediastinum",),
    ),
    "pleura": (
        (r"pleura", r"pleural (?:spaces?|surfaces?|margins?)", r"costophrenic (?:angles?|sulci|sulcus)"),
        ("pleural_effusion", "pneumothorax", "pleural_other", "pleural_thickening"),
    ),
    "vessels": (
        (r"(?:pulmonary |lung )?(?:vascular(?:ity|ature)?(?: markings?)?|vasculature|vessels|interstitium)",),
        ("edema",),
    ),
    "lungs": ((r"lungs?(?: (?:fields?|parenchyma|zones?|bases|apices))?", r"hemithora(?:x|ces)"), _LUNG),
    "bones": (
        (
            r"(?:bony|osseous|skeletal) (?:[a-z]+ )??(?:structures?|thorax|skeleton)",
            r"bones",
            r"ribs",
            r"skeleton",
            r"(?:bony|osseous) thorax",
        ),
        ("fracture",),
    ),
    "hila": ((r"hil(?:a|ar|um)(?: (?:contour|structure|region)s?)?",), ()),
    "aorta": ((r"aort(?:a|ic (?:arch|contour|knob|xxxx))",), ("tortuous_aorta",)),
    "soft tissue": (
        (r"soft tissues?", r"trachea", r"airways?", r"(?:hemi-?)?diaphragms?", r"upper abdomen"),
        (),
    ),
}
NORMAL = (
    r"(?:with)?in (?:the )?(?:broad )?(?:limits? of normal|normal limits?)",
    r"(?:(?:near|at) (?:the )?)?(?:(?:upper|top|high) (?:limits? of )?)?normal(?:ly)?(?: limits)?",
    r"clear",
    r"(?:has|have)(?: now| since| completely)? cleared",
    r"(?:(?<=angle is )|(?<=angles are )|(?<=sulcus is )|(?<=sulci are ))sharp",
    r"unremarkable",
    r"intact",
    r"not (?:[a-z]+ )?(?:enlarged|congested|engorged|widened|increased|dilated)",
    r"negative(?! for)",
    r"without (?:[a-z]+ )?abnormality",
    r"(?:no|without) (?:[a-z]+ )?(?:acute|active|focal|significant) (?:[a-z]+ ){0,3}?"
    r"(?:abnormalit(?:y|ies)|findings?|disease|process)",
    r"grossly clear",
    r"midline",
)
VERBS = r"\b(?:is|are|was|were|appears?|remains?|shows?|has|have|demonstrates?|seen|noted|reveals?)\b"
ABNORMAL = r"\b(?:abnormal|enlarged|prominent|tortuous|elevated|hyper\w+|widened|low|increased|decreased)\b"
