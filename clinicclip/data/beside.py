"""What reports say beside the vocabulary of findings, as far as denying one of them must know it.

All patterns are written for lower-cased text.
"""

import re
from collections.abc import Mapping

from clinicclip.data import phrases

# Observations that must not be lost with a finding that shares their sentence, beside those of `phrases`.
OBSERVED = (
    *phrases.OTHER_NOUNS,
    r"elevat(?:ed|ion)",
    r"eventration",
    r"hypo-?(?:inflat|aerat|expan|ventilat)\w+",
    r"(?:low|diminished|decreased|small|poor)(?: [a-z]+)? (?:volumes?|inspirat\w+|inspiratory effort)",
    r"volumes are (?:[a-z]+ )?(?:low|small|decreased|diminished)",
    r"crowding",
    r"(?<!volume )shift(?:ed)?",
    r"(?:deviat|displac|depress)(?:ed|ion|ement)",
    r"demineralization",
    r"post-?(?:surgical|operative|radiation)",
    r"surgical",
    r"surgery",
    r"sternotomy",
    r"(?:resection|lobectomy|mastectomy|thoracotomy|pneumonectomy|cholecystectomy)",
    r"cabg",
    r"(?:(?<!interstitial )(?<!markings ))prominence(?! of (?:the )?(?:[a-z]+ )?(?:interstiti\w+|markings))",
    r"fullness",
    r"prominent (?:hil\w+|pulmonary|central|vascul\w+|epicardial|azygos)",
    r"(?:dilated|distended|distention)(?! (?:[a-z]+ )?aorta)(?! [a-z]+ tortuous)",
    r"hypertension",
    r"(?:left|right) (?:ventricular|atrial) (?:prominence|hypertrophy)",
    r"obscur(?:ed|ation|ing)",
    r"rotat(?:ed|ion)",
    r"nipple",
    r"cardiomediastinal",
    r"bronchial (?:wall|cuffing)",
    r"(?:peri)?bronchial",
    r"aspiration",
    r"azygos",
    r"retract(?:ed|ion)",
    r"tenting",
    r"pericardial",
    r"collaps(?:e[ds]?|ing)",
    r"wedg(?:ed|ing)",
    r"(?:loss of|vertebral)(?: body)? height",
    r"radiopaque",
    r"metallic",
    r"artifact\w*",
    r"clothing",
    r"overl(?:ying|ies) the patient",
    r"mass effect",
    r"dissection",
    r"history",
    r"tendin\w+",
)
_FOCAL = r"nodul\w*|mass(?:es)?\b|masslike|lesions?\b|neoplas\w*|malignan\w*|carcinoma\w*|metasta\w*|tumou?rs?\b"
_CHAMBER = r"(?:atri(?:um|al?)|ventric(?:les?|ular)|chambers?)\b"
_DILATED = r"(?:enlarge(?:d|ment)|dilat(?:ed|ation|ion)|prominen(?:t|ce))\b"
# A statement that stands for what another sentence names; where it stays, what it stands for is not denied.
REFERS = re.compile(
    r"\b(?:similar|same|identical|another|second|other|such)(?: [a-z]+)? "
    r"(?:process(?:es)?|abnormalit(?:y|ies)|findings?|lesions?|appearances?|changes?|areas?|foc(?:us|i)|ones?)\b"
)
# Words that contradict the denial of a finding although they are no name of it: where they stay, it is not denied.
AT_ODDS: Mapping[str, re.Pattern[str]] = {
    finding: re.compile(rf"\b(?:{words})")
    for finding, words in {
        "nodule": rf"{_FOCAL}|granulom\w*",
        "mass": _FOCAL,
        "lung_lesion": _FOCAL,
        "granuloma": r"granulom\w*|calcified (?:[a-z]+ )?nodul\w*",
        "consolidation": r"opacifi\w*|air-?space disease|infiltrat\w*|pneumonia|air bronchogram",
        "infiltration": r"opacifi\w*|air-?space disease|consolidat\w*|pneumonia",
        "calcification": r"calcifi\w*|atherosclero\w*",
        "fracture": r"callus|deformit(?:y|ies)|wedg\w*|compression",
        "cardiomegaly": r"(?:heart|cardiac|cardio\w*)\b.* "
        r"(?:enlarged|enlargement|large|prominent|accentuated|globular)\b"
        rf"|{_CHAMBER} (?:[a-z]+ )*?{_DILATED}|{_DILATED} (?:[a-z]+ )*?{_CHAMBER}",
        "enlarged_cardiomediastinum": r"mediastin\w*\b.* (?:enlarged|wide\w*|prominent|prominence|fullness)\b",
        "pneumothorax": r"pleural (?:air|lines?|edges?)\b|(?:lung|visceral) (?:edge|line)|visceral pleura|"
        r"hydropneumo\w*|deep sulcus|(?:air|gas)\b.* pleural|pleural\b.* (?:air|gas)\b",
        "pleural_effusion": r"loculat\w*|fluid|empyema",
        "hernia": r"hiat\w+|herniat\w*|intrathoracic",
        "scoliosis": r"curvature|scolio\w*",
        "fibrosis": r"fibro\w*",
        "emphysema": r"bull(?:a|ae|ous)\b|blebs?\b|emphysem\w*",
        "lung_opacity": r"opa(?:que|cif\w*)|haz[yi]\w*|densit(?:y|ies)|patchy|streaky|airspace",
        "atelectasis": r"collapse\w*",
        "degenerative_change": r"degenerat\w*|spur\w*|osteophyt\w*|narrowing|arthri\w*|spondyl\w*",
        "tortuous_aorta": r"unfold\w*|ectatic|ectasia|uncoil\w*|tortuo\w*",
    }.items()
}
