"""Every name of a finding in one place; `anatomy` holds what is called normal, `cues` what turns a mention round.

All patterns are written for lower-cased text, are matched at word boundaries, and name no group. A finding is
listed once, under the most specific name of `schema.FINDINGS`; what it implies follows from `schema.PARENTS`.
"""

from collections.abc import Mapping

from clinicclip.data.anatomy import HEART
from clinicclip.data.device_names import DEVICES, PARTS

# A few words of the same noun phrase.
_GAP = r"(?: (?!and\b|or\b|with\b|but\b|without\b|which\b|borderline\b)[a-z-]+){0,5}?"
# What may stand between the heart and "enlarged": "is unchanged and remains", ", which is", ":".
_STILL = (
    r"(?: size)?(?:,? which|:)?(?: (?:is|are|remains?|appears?) (?:[a-z]+ly )?(?:unchanged|stable|similar|the same)"
    rf"(?: in size)?,?(?: (?:and|but))?(?: (?:is|are|remains?|appears?|still|again|[a-z]+ly)){{0,4}}|{_GAP})"
)
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
        r"(?:apical|fissur(?:al|e)|biapical) (?:pleural )?(?:thickening|cap(?:s|ping)?)",
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
        r"bulla[es]?",
    ),
    "hyperinflation": (
        r"hyper-?(?:inflat(?:ed|ion)|expan(?:ded|sion)|aerat(?:ed|ion)|lucen(?:t|cy))",
        r"flatten(?:ed|ing)(?: of)?(?: [a-z]+){0,3}? ?(?:hemi-?)?diaphragms?",
        r"(?:hemi-?)?diaphragms? (?:are |is )?(?:[a-z]+ )?flattened",
        r"(?:copd|chronic obstructive (?:pulmonary|lung|airways?) disease)",
        r"air trapping",
        r"over-? ?(?:expan(?:ded|sion)|inflat(?:ed|ion)|aerated)",
        r"(?:large|increased) lung volumes",
    ),
    "atelectasis": (
        r"atelecta(?:sis|ses|tic)(?: (?:changes?|opacit(?:y|ies)|disease))?",
        r"(?:lobar|lung|lobe|segmental) collapse",
        r"collapse of (?:the )?(?:[a-z]+ ){0,5}?(?:lungs?|lobes?)",
        r"collapsed (?:(?:left|right|upper|middle|lower) )*(?:lungs?|lobes?)",
        r"(?:lungs?|lobes?) (?:(?:has|have|is|are) )?(?:[a-z]+ )?collapsed",
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
    "mass": (
        r"(?<!thyroid )(?<!breast )mass(?:es)?(?:-? ?like)?(?: (?:lesions?|opacit(?:y|ies)|opacification|density))?",
    ),
    "lung_lesion": (
        r"nodular (?:[a-z]+ )?(?:opacit(?:y|ies)|densit(?:y|ies)|lesions?|foc(?:us|i))",
        r"(?:lung|pulmonary|cavitary|parenchymal) lesions?",
        r"(?:neoplasms?|malignan(?:cy|t)|(?:adeno)?carcinoma(?:s|tos[ai]s?)?|tumou?rs?)",
        r"metasta(?:sis|ses|tic)(?: disease)?",
    ),
    "fibrosis": (
        r"asbestosis",
        r"(?<!cystic )(?:pulmonary |interstitial )?fibro(?:sis|tic)(?: (?:changes?|scarring|"
        r"disease))?",
    ),
    "fracture": (
        # of bone, not of a wire
        rf"(?<!wire )(?<!wires )(?<!lead )(?<!wire is )(?<!wires are )(?<!lead is )fractur(?:es?|ed)"
        rf"(?! (?:(?!with|and|or|at|in|on|from|by)[a-z]+ ){{0,2}}?{PARTS}\b)",
        r"compression deformit(?:y|ies)",
        r"vertebral (?:[a-z]+ )?(?:compression|collapse)",
        r"collapsed? (?:of (?:the |an? )?)?(?:[a-z]+ ){0,2}?vertebra[el]?(?: bod(?:y|ies))?",
    ),
    "scoliosis": (
        r"(?:dextro|levo|kypho|roto)?-?scolio(?:sis|tic)(?: (?:curvature|deformity))?",
        r"(?:s-? ?shaped|(?:dextro|levo)-?(?:convex)?|(?:right|left)ward|lateral|convex)(?: [a-z]+){0,2}? ?curvature",
        r"(?:thoraco-?)?(?:thoracic|lumbar) (?:spin(?:e|al) )?curvature",
        r"(?<!normal )curvature of (?:the )?(?:[a-z]+ ){0,3}?spine",
    ),
    "degenerative_change": (
        r"degenerat(?:ive|ion)(?: (?:[a-z]+ ){0,2}?(?:changes?|disease))?",
        r"spondylo(?:sis|tic)(?: changes?)?",
        r"(?:osteo|syndesmo)phyt(?:es?|osis|ic)(?: (?:formation|changes?))?",
        r"spur(?:s|ring)?",
        r"(?:end-?plate|hypertrophic|facet)(?: [a-z]+)? (?:changes?|sclerosis|irregularit(?:y|ies))",
        r"dis[ck] (?:space )?(?:[a-z]+ )?(?:narrowing|height loss|loss)",
        r"(?:diffuse idiopathic skeletal |axial )?hyperostosis",
        r"(?:osteo)?arthriti[cs](?: changes?)?",
        r"(?:osteo)?arthrosis",
        r"djd",
    ),
    "tortuous_aorta": (
        r"(?:tortuous|ectatic|unfolded|uncoiled|elongated),?(?: [a-z]+,?){0,4}? aorta",
        r"(?:tortuosity|ectasia|unfolding|uncoiling)(?: [a-z/]+){0,5}? aorta",
        r"aorta(?: [a-z]+){0,5}? (?:tortuous|ectatic|unfolded|uncoiled)",
        r"aortic (?:tortuosity|ectasia|unfolding|elongation)",
        r"(?:ectasia|tortuosity)",
    ),
    "calcification": (
        r"calcifications?",
        r"calcified(?! (?:[a-z0-9.-]+ ){0,4}?(?:granuloma\w*|nodul\w+|mass\w*|pleural?))",
        r"calcific(?: (?!granulom|nodul)[a-z]+)?",
        r"athero(?:sclero(?:sis|tic)|mat(?:osis|ous))(?: [a-z]+)?",
    ),
    "cardiomegaly": (
        r"cardiomegaly",
        rf"{HEART}{_STILL}(?: borderline)? (?:enlarged|enlargement|prominent|large|increased)",
        rf"(?:enlarged|(?:enlargement|prominence) of(?: the)?|prominent|large)(?: [a-z]+)?? {HEART}",
        r"cardiac (?:[a-z]+ )?enlargement",
        r"cardio-?thoracic (?:ratio|index) (?:is |of |appears )?(?:[a-z]+ )?(?:increased|enlarged|elevated)",
        r"(?:increased|enlarged|elevated) cardio-?thoracic (?:ratio|index)",
        r"(?:ventricular|atrial) enlargement",
        r"enlargement of (?:the )?(?:[a-z]+ ){0,2}?(?:atri(?:um|a)|ventricles?)",
    ),
    "enlarged_cardiomediastinum": (
        rf"{_MEDIASTINUM}{_STILL} (?:enlarged|enlargement|prominent|prominence|widened|widening|wide|fullness)",
        rf"(?:enlarged|enlargement of(?: the)?|prominent|widened|widening of(?: the)?|wide) {_MEDIASTINUM}",
    ),
    "lung_opacity": (
        r"opaci(?:ty|ties|fications?|fied)",
        rf"{_AIRSPACE} (?:disease|process|pattern|densit(?:y|ies)|infection)",
        r"ild",
        r"(?<!bone )(?<!bony )(?<!sclerotic )(?<!metallic )densit(?:y|ies)",
        r"(?<!normal )(?<!unremarkable )(?:interstitial|reticular|reticulonodular|bronchovascular|lung|bronchial)"
        r"(?: [a-z]+)?? (?:markings?|disease|changes?|pattern|prominence|thickening)(?! (?:is|are|appears?|remains?) "
        r"(?:[a-z]+ )?(?:normal|unremarkable|(?:with)?in (?:the )?(?:normal limits|limits of normal)))",
        r"(?:pulmonary |lung |parenchymal )?scar(?:ring|s)?",
        r"(?:increased|prominent|prominence of(?: the)?|coarse(?:ned)?) (?:[a-z]+ )?markings",
        r"haziness",
        r"ground[- ]glass",
    ),
    "support_devices": DEVICES,
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
    "atelectasis": (r"(?:volume loss|loss of volume)",),
    "pneumothorax": (r"deep sulcus(?: signs?)?",),
    "pleural_effusion": (
        r"(?:fluid|effusion) (?:in|within|tracking along) (?:the )?(?:[a-z]+ ){0,3}?(?:fissures?|"
        r"pleural space)",
        r"blunting(?: of)?(?: the)?(?: [a-z]+){0,3}? (?:costophrenic|cp|costo phrenic)(?: [a-z]+)?",
        r"(?:costophrenic|cp)(?: [a-z]+){0,4}? (?:blunted|blunting)",
        r"blunted (?:[a-z]+ ){0,2}?(?:costophrenic|cp) [a-z]+",
        r"empyema",
    ),
    "edema": (
        r"(?:congestive (?:heart|cardiac) failure|heart failure|chf|"
        r"(?:cardiac|heart|cardio-?vascular) (?:decompensation|insufficiency))",
        r"(?:(?:pulmonary|vascular|venous|interstitial) )*congest(?:ion|ive changes?)",
        r"(?:vascular(?:ity|ature)?|vasculature|vessels) (?:[a-z]+ ){0,3}?(?:congested|engorged)",
        r"(?:pulmonary )?vascular (?:engorgement|redistribution|cephalization)",
        r"cephalization",
        r"kerley(?:[- ]b)? lines?",
        r"(?:fluid|volume) overload",
    ),
    "pneumonia": (r"infect(?:ion|ious)(?: (?:process|etiology|infiltrates?))?",),
    "fracture": (
        r"(?:bony|osseous|skeletal|bone|rib) (?:(?!fractur|without|no )[a-z]+ ){0,4}?"
        r"(?:abnormalit(?:y|ies)|findings?|injur(?:y|ies)|trauma)",
    ),
}
# Abnormalities that no name of `schema.FINDINGS` stands for: affirmed, a report with one is not normal.
OTHER_ABNORMALITIES = (
    r"(?:lymph)?adenopathy",
    r"lymph nodes?(?: [a-z]+){0,3}? enlarge(?:d|ment)",
    r"enlarged (?:[a-z]+ )?lymph nodes?",
    r"(?:low|small|decreased|diminished|reduced|shallow|poor)(?: lung)? (?:volumes?|inspirat(?:ions?|ory effort))",
    r"(?:lung )?volumes? (?:are |is |remain |appear )?(?:[a-z]+ ){0,2}?(?:low|small|decreased|diminished|reduced)",
    r"hypo-?(?:inflat(?:ed|ion)|ventilat(?:ed|ion)|aerat(?:ed|ion)|expan(?:ded|sion))",
    r"under-?(?:inflated|expanded|aerated)",
    r"bronchovascular crowding",
    r"crowding of (?:the )?(?:[a-z]+ ){0,2}?(?:vessels|markings|vasculature|structures)",
    r"(?:elevat(?:ed|ion)|eventration)(?: of)?(?: the)?(?: [a-z]+)? (?:hemi-?)?diaphragms?",
    r"(?:hemi-?)?diaphragms?(?: is| are)?(?: [a-z]+)? (?:elevated|elevation|eventration)",
    r"(?:prominen(?:t|ce)|enlarge(?:d|ment)|fullness|full)(?: of)?(?: the)?(?: [a-z]+){0,2}? "
    r"(?:hil(?:a|ar|um)|pulmonary arter(?:y|ies)|pulmonary vascul[a-z]+|vasculature|epicardial fat|paratracheal)",
    r"(?:hil(?:a|ar|um)|bihilar|pulmonary (?:arter(?:y|ies)|vascul[a-z]+|outflow tract))(?: [a-z]+){0,2}? "
    r"(?:prominen(?:t|ce)|enlarge(?:d|ment)|fullness)",
    r"deformit(?:y|ies)",
    r"kypho(?:sis|tic)",
    r"(?:osteopeni(?:a|c)|osteoporo(?:sis|tic)|demineraliz(?:ed|ation))",
    r"bronchiectasis",
    r"(?:peri-?)?bronchial(?: wall)? (?:cuffing|thickening)",
    r"(?:cysts?|blebs?)",
    r"(?:abscess(?:es)?|air[- ]fluid levels?|vascular paucity|goit(?:er|re)|lipomatosis)",
    r"(?:gyn(?:a?e)comastia|(?:breast|thyroid) mass(?:es)?|pect(?:us|um) (?:carinatum|excavatum)|cervical ribs?)",
    r"(?:diaphragmatic eventration|es?ophag(?:us|eal|ic) dilat(?:ed|ion|ation)|thoracic (?:cage )?deform(?:ity|ation))",
    r"(?:post-? ?(?:radiotherapy|radiation|treatment) changes?|enlarged (?:main )?pa)",
    r"(?:contusions?|h[ae]?emorrhage|h[ae]?ematomas?|infarct(?:s|ion)?)",
    r"pneumatoceles?",
    r"aspiration",
    r"miliary",
    r"tubercul(?:osis|ous|oma)",
    r"(?:dilat(?:ed|ation|ion)|aneurysmal|enlarge(?:d|ment)|widen(?:ed|ing)|prominen(?:t|ce))(?: of)?(?: the)?"
    r"(?: [a-z]+){0,2}? aort(?:a|ic (?:arch|knob|contour|root))",
    r"aort(?:a|ic (?:arch|knob|contour|root))(?: is| appears)?(?: [a-z]+)?? (?:dilat(?:ed|ation|ion)|enlarge(?:d|ment)|"
    r"elongat(?:ed|ion)|widen(?:ed|ing))",
    r"aortic (?:button )?(?:dilat(?:ion|ation)|enlargement|elongation)",
    r"bronchi(?:tis|olitis)",
    r"cavit(?:y|ies|ary|ation)",
    r"pneumomediastinum",
    r"pneumoperitoneum",
    r"(?:subcutaneous|mediastinal) emphysema",
    r"free (?:[a-z]+ )?air",
    r"(?:subdiaphragmatic|intraperitoneal) (?:free )?air",
    r"pericardial effusions?",
    r"aneurysm(?:al)?",
    r"(?:tracheal|mediastinal) (?:shift|deviation)",
    r"(?:trachea|mediastinum|heart) (?:is |appears )?(?:[a-z]+ly )?(?:shifted|deviated|displaced)",
    r"(?:shift|deviation|displacement) of the (?:trachea|mediastinum|heart)",
    r"(?:dextrocardia|situs inversus)",
    r"dislocat(?:ions?|ed)",
    r"(?:lytic|sclerotic|blastic|destructive) (?:[a-z]+ )?lesions?",
    r"pulmonary (?:arterial |artery |venous )?hypertension",
    r"foreign bod(?:y|ies)",
    r"(?:lung|lobe|lobar|partial) (?:resection|lobectomy)",
    r"(?:lobectomy|pneumonectomy|mastectomy)",
)
# What lists deny beside the findings; knowing it keeps "adenopathy" apart from the item behind it.
OTHER_NOUNS = (
    *OTHER_ABNORMALITIES,
    r"abnormalit(?:y|ies)",
    r"subluxation",
    r"lucenc(?:y|ies)",
    r"lesions?",
    r"(?:destructive|bony) (?:process|change)s?",
)

# Neither normal nor abnormal ("borderline heart size"); an enlargement that is called borderline is one.
BORDERLINE = (r"borderline",)

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
