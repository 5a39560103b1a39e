"""Packed texts: every token once, in its own text, its own group; the plain twin holds the same."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinicclip.data.packing import PackedText, expected_rows, fill, pack, plain

LENGTH = 12


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[list[int]], int]:
    groups = draw(st.integers(1, 4))
    count = groups * draw(st.integers(1, 6))
    sizes = draw(st.lists(st.integers(2, LENGTH), min_size=count, max_size=count))
    return [list(range(100 * k + 1, 100 * k + size + 1)) for k, size in enumerate(sizes)], groups


def unpack(packed: PackedText, groups: int, count: int) -> list[list[int]]:
    """The texts read back by owner and position alone."""
    ids, owner, position = (part.reshape(groups, -1) for part in packed[:3])
    texts = []
    for k in range(count):
        group, own = divmod(k, count // groups)
        mine = owner[group] == own + 1
        order = np.argsort(position[group][mine], kind="stable")
        assert position[group][mine][order].tolist() == list(range(mine.sum()))
        texts.append(ids[group][mine][order].tolist())
    return texts


def check(packed: PackedText, texts: Sequence[Sequence[int]], groups: int) -> None:
    assert unpack(packed, groups, len(texts)) == list(map(list, texts))
    assert (packed.owner > 0).sum() == sum(map(len, texts))
    assert (packed.ids[packed.owner == 0] == 0).all() and (packed.position[packed.owner == 0] == 0).all()
    assert packed.ids.shape == packed.owner.shape == packed.position.shape
    assert packed.ids.shape[0] % groups == 0 and packed.ids.shape[1] == LENGTH
    flat = packed.ids.reshape(groups, -1)
    for k, (text, start) in enumerate(zip(texts, packed.start.tolist(), strict=True)):
        group = k // (len(texts) // groups)
        assert flat[group, start : start + len(text)].tolist() == list(text)
        assert start % LENGTH + len(text) <= LENGTH  # no text runs over the end of its row


@settings(deadline=None)
@given(batches(), st.integers(1, 4))
def test_every_token_appears_once_in_its_own_text_and_group(batch: tuple[list[list[int]], int], row_step: int) -> None:
    texts, groups = batch
    packed = pack(texts, length=LENGTH, groups=groups, row_step=row_step)
    check(packed, texts, groups)
    assert packed.ids.shape[0] // groups % row_step == 0


@settings(deadline=None)
@given(batches())
def test_the_plain_twin_holds_the_same_texts(batch: tuple[list[list[int]], int]) -> None:
    texts, groups = batch
    twin = plain(texts, LENGTH, groups=groups)
    check(twin, texts, groups)
    assert twin.ids.shape[0] == len(texts)
    assert pack(texts, length=LENGTH, groups=groups).ids.shape[0] <= len(texts)


@settings(deadline=None)
@given(batches(), st.integers(0, 3))
def test_rows_filled_up_hold_the_same_texts(batch: tuple[list[list[int]], int], more: int) -> None:
    texts, groups = batch
    packed = pack(texts, length=LENGTH, groups=groups)
    rows = len(packed.ids) + more * groups
    filled = PackedText(*(fill(part, groups=groups, rows=rows, value=0) for part in packed[:3]), packed.start)
    assert len(filled.ids) == rows
    check(filled, texts, groups)


def test_first_fit_fills_earlier_rows_in_study_order() -> None:
    texts = [[1] * 7, [2] * 6, [3] * 5, [4] * 6]
    packed = pack(texts, length=LENGTH)
    assert packed.owner.tolist() == [[1] * 7 + [3] * 5, [2] * 6 + [4] * 6]
    assert packed.start.tolist() == [0, LENGTH, 7, LENGTH + 6]


def test_groups_are_packed_alone_but_share_their_row_count() -> None:
    texts = [[1] * 12, [2] * 12, [3] * 3, [4] * 3]
    packed = pack(texts, length=LENGTH, groups=2)
    assert packed.ids.shape == (4, LENGTH)
    assert packed.start.tolist() == [0, LENGTH, 0, 3]
    assert (packed.owner[3] == 0).all()


def test_the_groups_of_two_halves_laid_end_to_end_are_the_groups_of_the_whole() -> None:
    texts = [[k] * (3 + k % 5) for k in range(8)]
    whole = pack(texts, length=LENGTH, groups=4, row_step=2)
    halves = [pack(texts[i : i + 4], length=LENGTH, groups=2, row_step=2) for i in (0, 4)]
    for part in range(4):
        assert np.array_equal(whole[part], np.concatenate([half[part] for half in halves]))


def test_what_cannot_be_packed_is_refused() -> None:
    with pytest.raises(ValueError, match="equal groups"):
        pack([[1, 2], [1, 2], [1, 2]], length=LENGTH, groups=2)
    with pytest.raises(ValueError, match="exceeds the row length"):
        plain([[1] * 13], LENGTH)


def test_the_rows_expected_of_texts_are_about_those_packed() -> None:
    rng = np.random.default_rng(0)
    lengths = np.clip(np.exp(rng.normal(4.2, 0.4, 2000)), 5, 256).astype(int)
    drawn = [[1] * size for size in rng.choice(lengths, 64)]
    rows = expected_rows(64, round(lengths.mean()), length=256, row_step=4)
    assert abs(rows - pack(drawn, length=256, row_step=4).ids.shape[0]) <= 4
    assert expected_rows(8, 99, length=12) == 9
