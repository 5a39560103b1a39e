"""The sets that the literature reports on, by release: what a blank of their coding means, and which macro they use.

A reader stores what its release says, 1, 0 or uncertain, and leaves out what it does not say. Only here is it decided
whether evaluation counts what is left out as absent or masks it; an uncertain label is masked in every set.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from clinicclip.data import schema

FIVE = ("atelectasis", "cardiomegaly", "consolidation", "edema", "pleural_effusion")
ABNORMAL = tuple(name for name in schema.CHEXPERT if name != "no_finding")


@dataclass(frozen=True)
class Benchmark:
    """How one release is scored."""

    blank: str  # what the absence of a label means, in words
    absent: tuple[str, ...] = ()  # findings whose blank counts as absent, in a study that is coded at all
    macro: tuple[str, ...] = ()  # findings of the macro mean; () = all with both outcomes


UNCODED = (
    "no coding: a finding is absent where the report denies it, for prevalence and controls also where it is normal"
)
_NO_BLANKS = "every finding it codes is coded in every image"
_NOT_NAMED = "a finding that is coded and not named is absent"
BENCHMARKS: Mapping[str, Benchmark] = {
    "mimic_cxr": Benchmark("a finding left blank in the table of labels is absent", absent=ABNORMAL),
    "cxr_align": Benchmark(UNCODED),
    "chexpert": Benchmark(_NO_BLANKS, macro=FIVE),
    "chestxray14": Benchmark(_NOT_NAMED),
    "rsna": Benchmark(_NO_BLANKS),
    "siim_acr": Benchmark(_NO_BLANKS),
    "vindr_cxr": Benchmark(_NO_BLANKS),
    "openi": Benchmark(_NOT_NAMED),
    "padchest": Benchmark(_NOT_NAMED),
    "ms_cxr": Benchmark("a finding other than the phrase's is unknown"),
    "phantom": Benchmark(_NO_BLANKS),
    "folder": Benchmark("a finding without a label is unknown"),
}
UNLISTED = Benchmark("a finding without a label is unknown")


def of(release: str) -> Benchmark:
    """How a release is scored; blanks of one that is not listed are unknown."""
    return BENCHMARKS.get(release, UNLISTED)
