"""The fakes of all readers, with what can be wrong with them."""

from collections.abc import Mapping
from pathlib import Path

import faults_labelled
import faults_mimic
import faults_paired
from judging import Fake

from clinicclip.data import schema
from clinicclip.data.releases import READERS

FAKES: Mapping[str, Fake] = {**faults_mimic.FAKES, **faults_paired.FAKES, **faults_labelled.FAKES}


def used_images(name: str, fake: Fake, root: Path) -> list[Path]:
    """The images of a fake that a reader uses, by their paths below it."""
    given = dict(option.removeprefix("--").format(root=root).split("=") for option in fake.options)
    options = {key: value for key, value in given.items() if key in READERS[name].OPTIONS}
    studies = [item for item in READERS[name].read(root, **options) if isinstance(item, schema.Study)]
    used = [study for study in studies if study.findings or study.impression or not READERS[name].HAS_REPORTS]
    return sorted({Path(study.image).relative_to(root) for study in used})
