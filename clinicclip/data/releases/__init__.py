"""One reader a public release: its files -> Study (an image-report pair) or Drop (what is left out, and why).

Where making a study is work in itself, the reader yields a Sketch and a worker process makes the study.

A reader is a module with the constants NAME, TITLE, LICENCE, CITATION, OPEN (may images and texts be shown), SPLITS,
HAS_REPORTS (one of images and labels alone serves evaluation), GENERATED (a world made by settings and a seed, without
files), OPTIONS (settings with their defaults), PUBLISHED (the totals its owners state) and two functions of the same
arguments: ``read(source, **options)``, and ``count(source, **options)``, which says independently how many reports and
images there are to be accounted for.
"""

from types import ModuleType

from clinicclip.data.releases import (
    chestxray14,
    chexpert,
    cxr_align,
    folder,
    mimic_cxr,
    ms_cxr,
    openi,
    padchest,
    phantom,
    rsna,
    siim_acr,
    vindr_cxr,
)

READERS: dict[str, ModuleType] = {
    reader.NAME: reader
    for reader in (
        *(mimic_cxr, openi, chexpert, chestxray14, rsna, siim_acr, vindr_cxr, padchest, ms_cxr, cxr_align),
        *(folder, phantom),
    )
}
