"""How public releases spell what they code, and the name of `schema.FINDINGS` each spelling stands for.

Every spelling of a release is here once: under the finding it names, or in `WITHOUT_FINDING` under the reason why
none of ours is meant. A child such as "rib fracture" stands for its nearest name. Sources: the label lists of
ChestX-ray14 (also Open-I's MeSH-derived table), VinDr-CXR and PadChest.
"""

from collections.abc import Mapping

Groups = Mapping[str, str]  # finding or reason -> spellings, separated by commas

NIH: Groups = {
    "no_finding": "No Finding",
    "atelectasis": "Atelectasis",
    "cardiomegaly": "Cardiomegaly",
    "pleural_effusion": "Effusion",
    "infiltration": "Infiltration, Infiltrate",
    "mass": "Mass",
    "nodule": "Nodule",
    "pneumonia": "Pneumonia",
    "pneumothorax": "Pneumothorax",
    "consolidation": "Consolidation",
    "edema": "Edema",
    "emphysema": "Emphysema",
    "fibrosis": "Fibrosis",
    "pleural_thickening": "Pleural_Thickening",
    "hernia": "Hernia",
}
VINDR: Groups = {
    "no_finding": "No finding",
    "atelectasis": "Atelectasis",
    "calcification": "Calcification",
    "cardiomegaly": "Cardiomegaly",
    "fracture": "Clavicle fracture, Rib fracture",
    "consolidation": "Consolidation",
    "edema": "Edema",
    "emphysema": "Emphysema",
    "hyperinflation": "COPD",
    "infiltration": "Infiltration",
    "lung_lesion": "Nodule/Mass, Lung tumor",
    "lung_opacity": "Lung Opacity, ILD",
    "pleural_effusion": "Pleural effusion",
    "pleural_thickening": "Pleural thickening",
    "pneumonia": "Pneumonia",
    "pneumothorax": "Pneumothorax",
    "fibrosis": "Pulmonary fibrosis",
}
PADCHEST: Groups = {
    "no_finding": "normal",
    "enlarged_cardiomediastinum": "mediastinal enlargement, superior mediastinal enlargement",
    "cardiomegaly": "cardiomegaly",
    "lung_opacity": "increased density, interstitial pattern, reticular interstitial pattern, "
    "reticulonodular interstitial pattern, ground glass pattern, alveolar pattern, miliary opacities",
    "lung_lesion": "lung metastasis, lepidic adenocarcinoma, lymphangitis carcinomatosa",
    "edema": "pulmonary edema",
    "consolidation": "consolidation",
    "pneumonia": "pneumonia, atypical pneumonia",
    "atelectasis": "atelectasis, atelectasis basal, laminar atelectasis, lobar atelectasis, round atelectasis, "
    "segmental atelectasis, total atelectasis",
    "pneumothorax": "pneumothorax, hydropneumothorax",
    "pleural_effusion": "pleural effusion, loculated pleural effusion, loculated fissural effusion",
    "pleural_other": "pleural plaques, calcified pleural plaques, pleural mass",
    "pleural_thickening": "pleural thickening, apical pleural thickening, calcified pleural thickening, "
    "fissure thickening, major fissure thickening, minor fissure thickening",
    "fracture": "fracture, rib fracture, callus rib fracture, clavicle fracture, humeral fracture, vertebral fracture, "
    "vertebral compression, vertebral anterior compression",
    "support_devices": "NSG tube, endotracheal tube, tracheostomy tube, chest drain tube, gastrostomy tube, "
    "nephrostomy tube, ventriculoperitoneal drain tube, double J stent, catheter, central venous catheter, "
    "central venous catheter via jugular vein, central venous catheter via subclavian vein, "
    "central venous catheter via umbilical vein, reservoir central venous catheter, pacemaker, dai, "
    "single chamber device, dual chamber device, electrical device, artificial heart valve, "
    "artificial aortic heart valve, artificial mitral heart valve, aortic endoprosthesis, endoprosthesis, prosthesis, "
    "humeral prosthesis, mammary prosthesis, osteosynthesis material, suture material",
    "emphysema": "emphysema, bullas",
    "hyperinflation": "hyperinflated lung, flattened diaphragm, air trapping, COPD signs",
    "fibrosis": "pulmonary fibrosis, fibrotic band, asbestosis signs",
    "hernia": "hiatal hernia",
    "nodule": "nodule, multiple nodules",
    "mass": "mass, pulmonary mass",
    "infiltration": "infiltrates",
    "granuloma": "granuloma, calcified granuloma",
    "calcification": "calcified densities, aortic atheromatosis, heart valve calcified, calcified adenopathy, "
    "calcified mediastinal adenopathy",
    "scoliosis": "scoliosis",
    "degenerative_change": "vertebral degenerative changes, non axial articular degenerative changes, "
    "axial hyperostosis",
    "tortuous_aorta": "aortic elongation, ascendent aortic elongation, descendent aortic elongation, "
    "supra aortic elongation",
}
# Coded, and no finding of ours: {reason: {release: spellings}}.
WITHOUT_FINDING: Mapping[str, Groups] = {
    "an abnormality that the vocabulary does not hold": {
        "VINDR": "Aortic enlargement, Enlarged PA, Lung cavity, Lung cyst, Mediastinal shift, Other lesion, "
        "Tuberculosis, Other diseases",
        "PADCHEST": "abscess, adenopathy, air fluid level, aortic aneurysm, aortic button enlargement, bronchiectasis, "
        "bronchovascular markings, cavitation, chronic changes, cyst, diaphragmatic eventration, esophagic dilatation, "
        "goiter, hemidiaphragm elevation, hilar enlargement, vascular hilar enlargement, hypoexpansion, "
        "hypoexpansion basal, lung vascular paucity, mediastinal mass, mediastinal shift, tracheal shift, "
        "pericardial effusion, pneumomediastinum, pneumoperitoneo, pulmonary artery enlargement, "
        "pulmonary artery hypertension, pulmonary hypertension, pulmonary venous hypertension, respiratory distress, "
        "subcutaneous emphysema, tuberculosis, tuberculosis sequelae, post radiotherapy changes, air bronchogram",
    },
    "only a sign of a finding: affirmed, it leaves the finding uncertain": {
        "PADCHEST": "costophrenic angle blunting, empyema, heart insufficiency, hilar congestion, kerley lines, "
        "vascular redistribution, central vascular redistribution, volume loss",
    },
    "bones, breast and soft tissue outside the vocabulary": {
        "PADCHEST": "blastic bone lesion, lytic bone lesion, sclerotic bone lesion, bone metastasis, osteopenia, "
        "osteoporosis, kyphosis, pectum carinatum, pectum excavatum, thoracic cage deformation, cervical rib, "
        "costochondral junction hypertrophy, sternoclavicular junction hypertrophy, subacromial space narrowing, "
        "breast mass, calcified fibroadenoma, gynecomastia, soft tissue mass, lipomatosis, mediastinic lipomatosis, "
        "obesity",
    },
    "a variant of anatomy, or what looks like a finding and is none": {
        "PADCHEST": "azygos lobe, azygoesophageal recess shift, Chilaiditi sign, dextrocardia, "
        "right sided aortic arch, end on vessel, nipple shadow, pseudonodule",
    },
    "a trace of treatment or an object that supports nothing": {
        "PADCHEST": "surgery, surgery breast, surgery heart, surgery humeral, surgery lung, surgery neck, sternotomy, "
        "mastectomy, abnormal foreign body, external foreign body, metal, bone cement",
    },
    "no statement about the patient's state": {"PADCHEST": "unchanged, exclude, suboptimal study"},
}


def by_spelling(groups: Groups) -> dict[str, str]:
    """{spelling: finding or reason} of a release's table."""
    return {spelling.strip(): name for name, listed in groups.items() for spelling in listed.split(",")}
