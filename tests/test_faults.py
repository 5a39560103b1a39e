"""A run that is killed again and again ends as one that was left alone."""

from pathlib import Path

import benches

faults = benches.load("faults")


def test_a_run_killed_at_random_moments_ends_to_the_bit_as_one_left_alone(tmp_path: Path) -> None:
    [(killed, same)] = faults.rounds(tmp_path / "data", tmp_path, kills=faults.ROUND, seed=1)
    assert same
    assert killed.total() > 1
