"""A run that is killed again and again ends as one that was left alone."""

from pathlib import Path

import benches

faults = benches.load("faults")


def test_a_run_killed_at_random_moments_ends_to_the_bit_as_one_left_alone(tmp_path: Path) -> None:
    expected = faults.alone(tmp_path / "data", tmp_path)
    assert list(expected.studies) == [1, 2, 3, 4, 5, 6] and all(len(given) == 1 for given in expected.studies.values())
    killed, same = faults.killed(tmp_path / "data", tmp_path, 0, 1, expected)
    assert same
    assert killed.total() > 1
