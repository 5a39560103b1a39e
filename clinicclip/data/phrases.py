"""Every name of a finding or of anatomy in one place; `cues` holds the words that turn a mention round.

All patterns are written for lower-cased text, are matched at word boundaries, and name no group. A finding is
listed once, under the most specific name of `schema.FINDINGS`; what it implies follows from `schema.PARENTS`.
"""

from collections.abc import Mapping

# A few words of the same noun phrase.
_GAP = r"(?: (?!and\b|or\b|with\b|but\b|without\b|which\b|borderline\b)[a-z-]+){0,5}?"
_HEART = r"(?:heart|(?:cardiac|cardio ?pericardial) (?:size|silhouette|shadow|contour|outline)s?)"
_MEDIASTINUM = (
    r"(?:cardio-?(?: and )?)? ?(?:superior |upper )?"
    r"mediastin(?:um|al(?: (?:silhouette|contour|shadow|width)s?)?)"
)
_AIRSPACE = r"(?:air ?-?space|alveolar|parenchymal|pulmonary|lung)"

# Order matters inside one text position only: the first list that matches there wins.
MENTIONS: Mapping[str, tuple[str, ...]] = {
    "pleural_thickening": (
        r"pleural(?:[- ]parenchymal)? (?:[a-z]+ ){0,2}?thickening",
        r"thickening of (?:the )?(?:[a-z]+ ){0,3}?(?:pleura|fissures?)",
        r"thickened (?:pleura|fissures?)",
        r"(?:apical|fissural|biapical) thickening",
    ),
    "pleural_other": (
        r"pleural(?:[- ]?parenchymal)? (?:scar(?:ring|s)?|fibrosis|plaques?|calcifications?|abnormality|"
        r"disease)",
        r"pleuro-?parenchymal scar(?:ring|s)?",
        r"calcified pleura(?:l plaques?)?",
        r"fibrothorax",
    ),
    "pleural_effusion": (
        r"(?:pleural |subpulmonic |parapneumonic )?(?<!pericardial )(?<!joint )effusions?",
        r"pleural (?:fluid|spaces? fluid|collections?)",
        r"h[ae]?emothorax",
    ),
    "pneumothorax": (r"(?:hydro)?pneumothora(?:x|ces|xes)", r"ptx", r"pleural air(?: collections?)?"),
    "hernia": (r"hernias?", r"herniation"),
    "emphysema": (
        r"(?<!subcutaneous )emphysem(?:a|atous)(?: (?:changes?|disease))?",
        r"bullous (?:disease|changes?)",
        r"bullae?",
    ),
    "hyperinflation": (
        r"hyper-?(?:inflat(?:ed|ion)|expan(?:ded|sion)|aerat(?:ed|ion)|lucen(?:t|cy))",
        r"flatten(?:ed|ing)(?: of)?(?: [a-z]+){0,3}? ?(?:hemi-?)?diaphragms?",
        r"(?:hemi-?)?diaphragms? (?:are |is )?(?:[a-z]+ )?flattened",
        r"(?:copd|chronic obstructive (?:pulmonary|lung|airways?) disease)",
        r"air trapping",
    ),
    "atelectasis": (
        r"atelecta(?:sis|ses|tic)(?: (?:changes?|opacit(?:y|ies)|disease))?",
        r"(?:volume loss|loss of volume)",
        r"(?:lobar|lung|lobe|segmental) collapse",
        r"collapse of (?:the )?(?:[a-z]+ ){0,5}?(?:lungs?|lobes?)",
        r"collapsed (?:(?:left|right|upper|middle|lower) )*(?:lungs?|lobes?)",
    ),
    "edema": (r"(?:pulmonary |interstitial |alveolar |airspace )*o?edema",),
    "consolidation": (r"consolidat(?:ions?|ive|ed)(?: (?:changes?|opacit(?:y|ies)|process(?:es)?))?",),
    "pneumonia": (
        r"(?:broncho)?pneumoni(?:as?|c)(?: (?:infiltrates?|process))?",
        r"pneumonitis",
    ),
    "infiltration": (r"infiltrat(?:es?|ions?|ive(?: changes?)?)",),
    "granuloma": (
        r"granulom(?:as?|ata)",
        r"granulomatous(?: (?:disease|changes?|calcifications?|process|infection))?",
    ),
    "nodule": (r"(?:micro)?nodules?", r"fibro-?nodular", r"nodularity"),
    "mass": (r"mass(?:es)?(?:-? ?like)?(?: (?:lesions?|opacit(?:y|ies)|opacification|density))?",),
    "lung_lesion": (
        r"nodular (?:[a-z]+ )?(?:opacit(?:y|ies)|densit(?:y|ies)|lesions?|foc(?:us|i))",
        r"(?:lung|pulmonary|cavitary|parenchymal) lesions?",
        r"(?:neoplasms?|malignan(?:cy|t)|carcinomas?|tumou?rs?|metasta(?:sis|ses|tic)(?: disease)?)",
    ),
    "fibrosis": (
        r"(?<!cystic )(?:pulmonary |interstitial )?fibro(?:sis|tic)(?: (?:changes?|scarring|"
        r"disease))?",
    ),
    "fracture": (r"fractur(?:es?|ed)", r"compression deformit(?:y|ies)"),
    "scoliosis": (r"(?:dextro|levo|kypho|roto)?-?scolio(?:sis|tic)(?: (?:curvature|deformity))?",),
    "degenerative_change": (
        r"degenerative(?: (?:[a-z]+ ){0,2}?(?:changes?|disease))?",
        r"spondylo(?:sis|tic)(?: changes?)?",
        r"osteophyt(?:es?|osis|ic)(?: (?:formation|changes?))?",
        r"(?:osteo)?arthriti[cs](?: changes?)?",
        r"(?:osteo)?arthrosis",
    ),
    "tortuous_aorta": (
        r"(?:tortuous|ectatic|unfolded|uncoiled)(?: [a-z]+){0,4}? aorta",
        r"(?:tortuosity|ectasia|unfolding|uncoiling)(?: [a-z/]+){0,5}? aorta",
        r"aorta(?: [a-z]+){0,5}? (?:tortuous|ectatic|unfolded|uncoiled)",
        r"aortic (?:tortuosity|ectasia|unfolding)",
    ),
    "calcification": (
        r"calcifications?",
        r"calcified(?! (?:[a-z0-9.-]+ ){0,4}?(?:granuloma\w*|nodul\w+|mass\w*|pleural?))",
        r"calcific(?: [a-z]+)?",
        r"atherosclero(?:sis|tic)(?: [a-z]+)?",
    ),
    "cardiomegaly": (
        r"cardiomegaly",
        rf"{_HEART}{_GAP} (?:enlarged|enlargement|prominent|large|increased)",
        rf"(?:enlarged|(?:enlargement|prominence) of(?: the)?|prominent)(?: [a-z]+)?? {_HEART}",
        r"cardiac (?:[a-z]+ )?enlargement",
        r"(?:ventricular|atrial) enlargement",
    ),
    "enlarged_cardiomediastinum": (
        rf"{_MEDIASTINUM}{_GAP} (?:enlarged|enlargement|prominent|prominence|widened|widening|wide|fullness)",
        rf"(?:enlarged|enlargement of(?: the)?|prominent|widened|widening of(?: the)?|wide) {_MEDIASTINUM}",
    ),
    "lung_opacity": (
        r"opaci(?:ty|ties|fications?|fied)",
        rf"{_AIRSPACE} (?:disease|process|densit(?:y|ies)|infection)",
        r"(?<!bone )(?<!bony )densit(?:y|ies)",
        r"(?:interstitial|reticular|reticulonodular|bronchovascular|lung|bronchial)(?: [a-z]+)?? "
        r"(?:markings?|disease|changes?|pattern|prominence|thickening)",
        r"(?:pulmonary |lung |parenchymal )?scar(?:ring|s)?",
        r"haziness",
        r"ground[- ]glass",
    ),
    "support_devices": (
        r"(?:endotracheal|tracheostomy|nasogastric|orogastric|enteric|feeding|dobbhoff|chest|thoracostomy|"
        r"ng|og|et)"
        r"(?:/[a-z]+)? tubes?",
        r"(?:venous|central|picc|ij|jugular|subclavian|swan-?ganz|pulmonary artery|dialysis|"
        r"port(?:-?a-?cath)?|mediport|infusion)"
        r"(?: [a-z]+){0,2}? (?:lines?|catheters?|ports?)",
        r"catheters?",
        r"picc",
        r"port-?a-?cath",
        r"(?:pace-?makers?|pacer|icd|aicd|defibrillators?)(?: (?:leads?|wires?))?",
        r"(?:pacer|pacing|icd|monitor(?:ing)?|ekg|ecg)(?: [a-z]+)? (?:leads?|wires?|pads?|device)",
        r"support devices?",
        r"(?:sternotomy|sternal) (?:wires?|sutures?)",
        r"(?:surgical|mediastinal|cabg|vascular) (?:clips?|sutures?|staples?)",
        r"(?:orthopedic|spinal|surgical|fixation|fusion) (?:hardware|rods?|plates?|devices?)",
        r"(?:prosthe(?:tic|sis)|stents?|neurostimulators?|stimulators?|"
        r"intra-?aortic balloon(?: pump)?)(?: (?:valves?|devices?))?",
        r"(?:valve|joint|shoulder) (?:replacement|prosthesis|arthroplasty)",
    ),
    "no_finding": (
        r"(?:normal|unremarkable|negative) (?:[a-z]+ )?(?:chest|cxr|examination|exam|study|radiographs?)",
        r"chest (?:radiograph |x-?ray |examination )?(?:is |appears )?(?:within )?(?:normal|unremarkable)",
        r"(?:no|without|negative for) (?:[a-z]+ ){0,3}?(?:acute|active|significant|"
        r"visible)(?: (?:cardio-?pulmonary|cardiac|"
        r"cardiovascular|pulmonary|pleural|lung|intra-?thoracic|thoracic|chest|radiographic|disease|"
        r"process|or|and|acute|"
        r"active|visible|preoperative|inflammatory|pathologic),?)*? "
        r"(?:abnormalit(?:y|ies)|disease|process(?:es)?|findings?|pathology)",
        r"no (?:[a-z]+ )?acute(?: disease)?$",
    ),
}
# Signs that speak for a finding without naming it: affirmed they leave it uncertain, denied they deny it.
SIGNS: Mapping[str, tuple[str, ...]] = {
    "cardiomegaly": (
        r"borderline (?:cardiomegaly|cardiac (?:[a-z]+ )?enlargement)",
        rf"borderline (?:enlarged|prominent)(?: [a-z]+)?? {_HEART}",
    ),
    "pleural_effusion": (
        r"(?:fluid|effusion) (?:in|within|tracking along) (?:the )?(?:[a-z]+ ){0,3}?(?:fissures?|"
        r"pleural space)",
        r"blunting(?: of)?(?: the)?(?: [a-z]+){0,3}? (?:costophrenic|cp|costo phrenic)(?: [a-z]+)?",
        r"(?:costophrenic|cp)(?: [a-z]+){0,4}? (?:blunted|blunting)",
        r"blunted (?:[a-z]+ ){0,2}?(?:costophrenic|cp) [a-z]+",
        r"empyema",
    ),
    "edema": (
        r"(?:congestive (?:heart|cardiac) failure|heart failure|chf)",
        r"(?:(?:pulmonary|vascular|venous|interstitial) )*congest(?:ion|ive changes?)",
        r"(?:vascular(?:ity|ature)?|vasculature|vessels) (?:[a-z]+ ){0,3}?(?:congested|engorged)",
        r"(?:pulmonary )?vascular (?:engorgement|redistribution|cephalization)",
        r"cephalization",
        r"kerley(?:[- ]b)? lines?",
        r"(?:fluid|volume) overload",
    ),
    "pneumonia": (r"infect(?:ion|ious)(?: (?:process|etiology|infiltrates?))?",),
    "fracture": (
        r"(?:bony|osseous|skeletal|bone|rib) (?:[a-z]+ ){0,4}?(?:abnormalit(?:y|ies)|findings?|injur(?:y|"
        r"ies)|trauma)",
    ),
}
# Nouns that lists deny beside the findings; knowing them keeps "adenopathy" apart from the item behind it.
OTHER_NOUNS = (
    r"(?:lymph)?adenopathy",
    r"free (?:[a-z]+ )?air",
    r"pneumomediastinum",
    r"pneumoperitoneum",
    r"foreign bod(?:y|ies)",
    r"abnormalit(?:y|ies)",
    r"dislocations?",
    r"subluxation",
    r"bronchiectasis",
    r"lucenc(?:y|ies)",
    r"lesions?",
    r"aneurysm",
    r"(?:destructive|bony) (?:process|change)s?",
    r"hilar enlargement",
    r"cavit(?:y|ies|ation)",
)

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
    "heart": ((_HEART, r"cardiac"), ("cardiomegaly",)),
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
    r"normal(?:ly)?",
    r"clear",
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
# Neither normal nor abnormal: the reader hedges on purpose.
BORDERLINE = (
    r"(?:upper|top) (?:limits? of )?normal(?: limits)?",
    r"high normal",
    r"borderline",
    r"(?:near|at)(?: the)? (?:top|upper) (?:limits? of )?normal",
)
VERBS = r"\b(?:is|are|was|were|appears?|remains?|shows?|has|have|demonstrates?|seen|noted|reveals?)\b"
ABNORMAL = r"\b(?:abnormal|enlarged|prominent|tortuous|elevated|hyper\w+|widened|low|increased|decreased)\b"

# How a finding is named when it is denied. Every name is one that MENTIONS recognises.
DENIED_NAMES: Mapping[str, tuple[str, ...]] = {
    "enlarged_cardiomediastinum": ("mediastinal widening",),
    "cardiomegaly": ("cardiomegaly", "cardiac enlargement"),
    "lung_opacity": ("pulmonary opacity", "lung opacity"),
    "lung_lesion": ("lung lesion", "pulmonary lesion"),
    "edema": ("pulmonary edema",),
    "consolidation": ("consolidation", "focal consolidation"),
    "pneumonia": ("pneumonia",),
    "atelectasis": ("atelectasis",),
    "pneumothorax": ("pneumothorax",),
    "pleural_effusion": ("pleural effusion",),
    "pleural_other": ("pleural scarring", "pleural plaque"),
    "fracture": ("fracture",),
    "support_devices": ("support device",),
    "emphysema": ("emphysema", "emphysematous change"),
    "fibrosis": ("fibrosis", "pulmonary fibrosis"),
    "hernia": ("hiatal hernia",),
    "nodule": ("nodule",),
    "mass": ("mass", "mass lesion"),
    "infiltration": ("infiltrate", "pulmonary infiltrate"),
    "pleural_thickening": ("pleural thickening",),
    "granuloma": ("granuloma",),
    "calcification": ("calcification",),
    "scoliosis": ("scoliosis",),
    "degenerative_change": ("degenerative change",),
    "tortuous_aorta": ("aortic tortuosity",),
    "hyperinflation": ("hyperinflation",),
}
