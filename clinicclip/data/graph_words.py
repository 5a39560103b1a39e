"""The words a rule-built report graph is made of, besides the names of findings, which `phrases` holds.

Lower-case tokens as `rule_graphs` cuts them. A word is in one list only.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Parts of the body: a run of them is one node.
ANATOMY = _words(
    """
    lung lungs lobe lobes lobar base bases apex apices hilum hila hilar heart cardiac silhouette silhouettes contour
    contours mediastinum mediastinal cardiomediastinal cardiopulmonary cardiovascular aorta aortic arch knob pleura
    pleural space spaces surface surfaces costophrenic cardiophrenic angle angles sulcus sulci diaphragm diaphragms
    hemidiaphragm hemidiaphragms rib ribs spine vertebra vertebrae vertebral body bodies disc clavicle clavicles
    scapula humerus shoulder shoulders sternum osseous bony bone bones skeletal skeleton structure structures thorax
    hemithorax thoracic intrathoracic chest wall trachea tracheal bronchus bronchi bronchial bronchovascular airway
    airways soft tissue tissues pulmonary vasculature vascular vascularity vessel vessels vein veins artery arteries
    interstitium interstitial parenchyma parenchymal airspace airspaces alveolar zone zones field fields fissure
    fissures abdomen abdominal quadrant stomach bowel liver carina atrium atrial ventricle ventricular svc cava vena
    hiatal hiatus perihilar retrocardiac retrosternal lingula lingular paratracheal paraspinal suprahilar infrahilar
    mitral coronary breast neck esophagus esophageal diaphragmatic subdiaphragmatic cavoatrial midlung thoracolumbar
    pericardial humeral acromioclavicular joint joints endplate endplates segment segments region regions lymph node
    nodes
    """
)
# Where in the body: each word is a node of its own that modifies the anatomy it stands with.
PLACES = _words(
    """
    left right bilateral bilaterally both bibasilar bibasal biapical upper lower middle mid basilar basal apical
    lateral medial anterior posterior superior inferior peripheral central distal proximal ascending descending
    left-sided right-sided lumbar cervical subpleural midthoracic
    """
)
# How an observation is: each word is a node of its own that modifies the observation.
QUALITIES = _words(
    """
    small large larger smaller moderate mild minimal trace tiny severe marked slight subtle extensive diffuse focal
    multifocal patchy hazy streaky linear scattered acute subacute chronic old remote healed healing new stable
    unchanged persistent increased increasing decreased decreasing improved improving worsened worsening prominent
    dense low mildly moderately slightly markedly severely minimally partially loculated layering subsegmental discoid
    platelike plate-like bandlike coarse coarsened nodular rounded round calcified ill-defined well-defined borderline
    significant active confluent displaced nondisplaced multiple few single early residual minor dependent
    multilevel degenerative compressive tortuous ectatic surgical vague irregular asymmetric dilated sclerotic atypical
    postsurgical postoperative high age-indeterminate superimposed noncalcified
    """
)
# Observations that are no finding of the vocabulary: states of anatomy, and what lists deny beside the findings.
OBSERVATIONS = _words(
    """
    normal clear unremarkable intact midline sharp enlarged enlargement elevated elevation widened widening
    hyperinflated hyperexpanded hypoinflated expanded inflated inflation congested congestion engorged engorgement
    thickened thickening blunted blunting flattened flattening crowding collapse deformity deformities abnormality
    abnormalities abnormal process disease adenopathy lymphadenopathy air pneumomediastinum pneumoperitoneum
    bronchiectasis lucency lucencies lesion lesions aneurysm dislocation osteopenia osteopenic demineralization
    kyphosis volumes volume limits rotated shift displacement eventration opacification stigmata sequela sequelae
    changes change prominence hypoinflation aerated aeration irregularity injury fluid clips clip spurring markings
    curvature well-expanded well-aerated well-inflated fusion obscuration
    """
)
# Inside a finding's name, what is no node.
FUNCTION = _words(
    "a an the of in to and or with within for is are was were be no not without than its by any at on evidence"
)
# What makes a place before it no place in the body: "lateral view", "upper limits of normal".
ELSEWHERE = _words("view views radiograph radiographs projection projections film films image images limit limits")
# Between two observations: the first speaks for the second.
SUGGESTS = _words(
    """
    suggest suggests suggesting suggestive suggestion consistent compatible represent represents representing reflect
    reflects reflecting reflective indicate indicates indicating indicative concerning worrisome suspicious likely
    """
)
# Between an observation and the anatomy behind it.
PREPOSITIONS = _words(
    "in of at within along over overlying involving throughout on near about adjacent around from beneath under"
)
COORDINATES = _words("and or , & nor")
# Of anatomy that is barely normal; the words are observations and doubtful.
HEDGES = (r"(?:upper|top) (?:limits? of )?normal(?: limits)?", r"high normal")
# Between two phrases: what comes behind says nothing about what stands before.
ENDS = _words("; : . but however although though while except")

KINDS: dict[str, str] = {
    **dict.fromkeys(ANATOMY, "anatomy"),
    **dict.fromkeys(PLACES, "place"),
    **dict.fromkeys(QUALITIES, "quality"),
    **dict.fromkeys(OBSERVATIONS, "observation"),
}
