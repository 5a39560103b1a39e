"""Each check of the doctor against a slow twin or a case worked out by hand."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clinicclip.checks import chart, identity, in_batch, likeness, pictures, pixels, privacy, reports, truncation
from clinicclip.checks.base import Finding, Gravity, percent
from clinicclip.data import boxes, builder, images, text
from clinicclip.data.features import TfidfSvd
from clinicclip.data.phantom import world
from clinicclip.data.schema import ABSENT, PRESENT, UNKNOWN
from clinicclip.data.tokenizer import train_wordpiece


def thumbnails(count: int, seed: int = 0) -> np.ndarray:
    """Smooth pictures, each unlike the others, over one anatomy common to all."""
    rng = np.random.default_rng(seed)
    common = rng.integers(0, 256, (8, 8))
    small = (common + 2 * rng.integers(0, 256, (count, 8, 8))) // 3
    return np.stack([np.asarray(Image.fromarray(p.astype(np.uint8)).resize((32, 32))) for p in small])


def noisy(thumb: np.ndarray, amount: float, seed: int) -> np.ndarray:
    """The same picture with more contrast and noise of its own."""
    changed = 0.8 * thumb + 20 + np.random.default_rng(seed).normal(0, amount, thumb.shape)
    return np.clip(changed, 0, 255).astype(np.uint8)


# Likeness


@pytest.mark.parametrize("count", [40, 700])
def test_alike_images_are_those_that_comparing_every_pair_finds(count: int) -> None:
    thumbs = thumbnails(count)
    for copy, original in ((5, 3), (count - 1, 7), (20, 5)):
        thumbs[copy] = noisy(thumbs[original], 2.0, copy)
    correlation = np.corrcoef(thumbs.reshape(count, -1))
    i, j = np.nonzero(np.triu(correlation >= likeness.ALIKE, 1))
    found = likeness.alike(thumbs)
    assert [pair[:2] for pair in found] == list(zip(i, j, strict=True))
    assert {(3, 5), (5, 20), (7, count - 1)} <= {pair[:2] for pair in found}
    np.testing.assert_allclose([pair[2] for pair in found], correlation[i, j], atol=1e-4)


def test_every_bit_of_a_hash_divides_the_images_in_half() -> None:
    bits = np.unpackbits(likeness.hashes(thumbnails(1000)).view(np.uint8).reshape(-1, 8), axis=1)
    assert bits.shape == (1000, 64) and set(bits.sum(axis=0)) == {500}


def test_blank_images_are_alike_to_none() -> None:
    assert likeness.alike(np.full((30, 32, 32), 128, np.uint8)) == []


# Pixels and text


def test_gray_levels_are_clipped_where_many_are_at_an_end() -> None:
    for index in range(12):
        gray = world.make("easy", index, 0, 128).image
        middle = int(np.median(gray[32:-32, 32:-32]))
        assert not pixels.clipped(gray)
        assert pixels.clipped(np.minimum(gray, middle)) and pixels.clipped(np.maximum(gray, middle))


@pytest.mark.parametrize(
    ("report", "kinds"),
    [
        ("Compared with 3/14/11 and 2011-03-14.", ["date"]),
        ("Since March 14th, 2011 no change; on 2 may 2010 none.", ["date"]),
        ("MRN: 4711", ["record_number"]),
        ("Accession number 00123456.", ["record_number"]),
        ("Discussed with Dr. Miller at 10:30.", ["name_after_title"]),
        ("Discussed with Dr. XXXX on XXXX, and with Dr. ___ later.", []),
        ("Call (555) 010-4477 or write to a.b@example.org", ["telephone", "e_mail"]),
        ("A 1.5 x 2.3 cm nodule at T12/L1, 1/2 of the 10-12 ribs; may 20 be seen. 100000.5", []),
    ],
)
def test_personal_data_are_told_from_measures(report: str, kinds: list[str]) -> None:
    assert privacy.kinds(report) == kinds


def test_small_shares_are_not_told_as_nothing() -> None:
    assert [percent(0, 0), percent(0, 9), percent(1, 5000), percent(1, 8)] == ["0", "0", "1 (< 0.1 %)", "1 (12.5 %)"]


# Records


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> chart.Chart:
    folder = tmp_path_factory.mktemp("phantom") / "data"
    options = {"level": "easy", "studies": 120, "size": 64}
    builder.write("phantom", folder, options=options, say=lambda line: None)
    return chart.read([folder])


def changed(seen: chart.Chart, at: int, **fields: Any) -> chart.Chart:
    rows = list(seen.rows)
    rows[at] = rows[at]._replace(**fields)
    return dataclasses.replace(seen, rows=tuple(rows))


def test_a_row_is_its_record(seen: chart.Chart) -> None:
    assert len(seen.rows) == len(seen.thumbs) == 120
    assert len({row.image_id for row in seen.rows}) == 120
    for row in seen.rows:
        record = seen.record(row)
        assert (row.image_id, row.patient) == (record["image_id"], record["patient"])
        assert row.report == " ".join(record["sentences"])
    assert {row.split for row in seen.training()} == {"train"}
    assert sum(map(len, seen.places().values())) == 120


def test_a_patient_in_two_splits_of_one_set_spoils_it(seen: chart.Chart) -> None:
    assert list(identity.patients(seen)) == []
    first, last = seen.rows[0], seen.rows[-1]
    assert first.split != last.split
    (found,) = identity.patients(changed(seen, -1, patient=first.patient))
    assert found.gravity == Gravity.SPOILS and found.count == 1
    assert found.examples == (f"{first.patient} in {' and '.join(sorted((first.split, last.split)))}",)


def test_every_flag_of_an_image_comes_with_advice() -> None:
    assert set(pictures._ODD) == {*images.FLAGS, *boxes.FLAGS, pixels.CLIPPED}


def test_an_empty_report_is_found(seen: chart.Chart) -> None:
    def findings(of: chart.Chart) -> list[Finding]:
        return [item for item in reports.coverage(of) if isinstance(item, Finding)]

    assert findings(seen) == []
    (found,) = findings(changed(seen, 7, report="", sections=(False, False)))
    assert (found.check, found.count, found.examples) == ("empty_report", 1, (seen.rows[7].image_id,))


def test_what_is_cut_off_is_what_the_tower_does_not_read(seen: chart.Chart) -> None:
    tokenizer = train_wordpiece([row.report for row in seen.rows], 400)
    cuts = set()
    for row in seen.rows:
        record = seen.record(row)
        in_findings = {sentence.text for sentence in text.sentences(record["findings"], "")}
        for length in (8, 16, 24, 400):
            (ids,), _ = tokenizer.encode([row.report], length)
            kept = len(ids) - 2
            denied = concluded = end = 0
            for sentence, polarity in zip(record["sentences"], record["sentence_polarity"], strict=True):
                end += len(tokenizer.encode([sentence], 400)[0][0]) - 2
                denied += end > kept and polarity == ABSENT
                concluded += end > kept and sentence not in in_findings
            cut = truncation.lost(record, tokenizer, length)
            assert cut == (concluded > 0, denied > 0)
            cuts.add(cut)
    assert len(cuts) > 2


# False negatives


def test_likes_are_those_of_comparing_every_pair(seen: chart.Chart) -> None:
    rows = [row._replace(report=row.report if i % 9 else "The lungs are clear.") for i, row in enumerate(seen.rows)]
    rows[1] = rows[1]._replace(labels=np.full(14, UNKNOWN, np.int8))
    theta = 0.6
    found = in_batch.count(rows, theta, seed=0)
    reports = [row.report for row in rows]
    vectors = TfidfSvd.fit(reports, in_batch.WIDTH, 0).transform(reports).astype(np.float64)
    cosine = vectors @ vectors.T
    n = len(rows)
    offset = (cosine.sum() - n) / (n * (n - 1))
    labels = np.stack([(row.labels == PRESENT) | (row.labels == -1) for row in rows]).astype(float)
    for i in range(0, n, 7):
        others = [j for j in range(n) if j != i]
        assert found.by[in_batch.REPORT][i] == sum(reports[i] == reports[j] for j in others)
        alike = [j for j in others if 1 not in (i, j) and (labels[i] == labels[j]).all()]
        assert found.by[in_batch.LABELS][i] == len(alike)
        soft = 0
        for j in others:
            parts = [max(0.0, (cosine[i, j] - offset) / (1 - offset))]
            if 1 not in (i, j):
                parts.append(labels[i] @ labels[j] / np.sqrt(labels[i].sum() * labels[j].sum()))
            soft += np.mean(parts) >= theta
        assert found.by[in_batch.SOFT][i] == soft


def test_a_batch_meets_what_all_batches_meet_on_average() -> None:
    alike = np.array([[0, 1, 1, 0, 0], [1, 0, 1, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 1, 0]])
    likes = in_batch.Likes({"kind": alike.sum(axis=1)}, np.array([True, True, True, False, False]))
    met = [alike[i, list(rest)].sum() for i in range(5) for rest in itertools.combinations(set(range(5)) - {i}, 2)]
    assert likes.expected("kind", 3) == pytest.approx(np.mean(met))
    assert likes.touched("kind", 3) == pytest.approx(np.mean(np.array(met) > 0))
    assert likes.share("kind", likes.normal) == 0.5 and likes.share("kind", ~likes.normal) == 0.25


def test_too_few_reports_are_not_compared(seen: chart.Chart) -> None:
    few = dataclasses.replace(seen, rows=seen.rows[: in_batch.LEAST - 1])
    assert in_batch.false_negatives(few, 0.5) is None
