"""Published levels stand beside numbers of the same studies and labels alone, and every reason against is told."""

import planted
import pytest

from clinicclip.evals import references
from clinicclip.evals.references import REFERENCES


@pytest.mark.parametrize("release", sorted({reference.release for reference in REFERENCES if reference.studies}))
def test_a_part_of_the_published_studies_has_no_published_level(release: str) -> None:
    own = [reference for reference in REFERENCES if reference.release == release]
    split, studies = own[0].split, own[0].studies
    manifest = {"name": release, "settings": {}, "splits": {split: {"records": studies}}}
    whole = references.of(manifest, split, "x")
    assert list(whole.levels) == [one.metric.format(data="x") for one in own] and not whole.reason
    fewer = manifest | {"splits": {split: {"records": studies - 1}}}
    apart = [references.of(fewer, split, "x"), references.of(manifest, split, "x", limit=9)]
    apart += [references.of(manifest, split, "x", unread=1)]
    apart += [references.of(manifest | {"labels": {"omitted_missing": 1}}, split, "x")]
    apart += [references.of(manifest | {"settings": {"five_by_200": "draw"}}, split, "x")]
    assert not any(found.levels for found in apart) and all(found.reason for found in apart)
    assert references.of(manifest | {"splits": {"train": {}}}, "train", "x") == references.Found({})


def test_levels_by_a_table_of_labels_are_not_shown_beside_what_report_text_says_and_every_reason_is_told() -> None:
    whole = {"images": 9}
    manifest = {"name": "mimic_cxr", "settings": {}, "splits": {"test": {"records": 50}}}
    manifest |= {"source": whole, "published": whole}
    zero_shot, retrieval = (one.metric.format(data="x") for one in REFERENCES if one.release == "mimic_cxr")
    source = planted.evalset(4, gold=False).source
    found = references.of(manifest, "test", "x", truths={zero_shot: source, retrieval: "labels by negbio"})
    assert list(found.levels) == [retrieval] and f"its truth is {source}" in found.reason
    both = {zero_shot: source, retrieval: "report text (otherwise)"}
    assert references.of(manifest, "test", "x", truths=both).reason.count("its truth is") == 2
