"""Every spelling of a release has one home: a finding that our own rules read in it, or a reason."""

import pytest

from clinicclip.data import spellings
from clinicclip.data.mentions import mentions
from clinicclip.data.schema import FINDINGS, INDEX, NOT_ABNORMAL

RELEASES = {"NIH": spellings.NIH, "VINDR": spellings.VINDR, "PADCHEST": spellings.PADCHEST}
# Spellings that no English report holds: codes, translations, and names that only a code book explains.
CODED = ("Pleural_Thickening", "bullas", "dai", "pleural mass")


def reasons(release: str) -> dict[str, str]:
    return {
        spelling: reason
        for reason, listed in spellings.WITHOUT_FINDING.items()
        for spelling in spellings.by_spelling({reason: listed[release]} if release in listed else {})
    }


@pytest.mark.parametrize("release, coded", [("NIH", 16), ("VINDR", 28), ("PADCHEST", 193)])
def test_every_spelling_has_one_home(release: str, coded: int) -> None:
    named, unnamed = spellings.by_spelling(RELEASES[release]), reasons(release)
    assert set(named.values()) <= set(FINDINGS)
    assert not set(named) & set(unnamed)
    assert len(named) + len(unnamed) == coded
    listed = ",".join([*RELEASES[release].values(), *(g.get(release, "") for g in spellings.WITHOUT_FINDING.values())])
    assert sorted(s.strip() for s in listed.split(",") if s.strip()) == sorted([*named, *unnamed])


@pytest.mark.parametrize("release", RELEASES)
def test_reports_that_use_the_spelling_are_read_as_that_finding(release: str) -> None:
    for spelling, finding in spellings.by_spelling(RELEASES[release]).items():
        if spelling not in CODED and finding not in NOT_ABNORMAL[:1]:
            found = {m.finding for m in mentions(f"There is {spelling.replace('/', ' or ')}.") if m.explicit}
            assert found & _kin(finding), spelling


def _kin(finding: str) -> set[int]:
    """The finding, and the names that "nodule or mass" is read as."""
    return {INDEX[finding]} | ({INDEX["nodule"], INDEX["mass"]} if finding == "lung_lesion" else set())


def test_every_finding_is_what_some_spelling_stands_for() -> None:
    assert {f for groups in RELEASES.values() for f in groups} == set(FINDINGS)
