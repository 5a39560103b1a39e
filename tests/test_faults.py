"""A run that is killed again and again ends as one that was left alone."""

from pathlib import Path

import benches
import pytest

faults = benches.load("faults")


def test_a_run_killed_at_random_moments_ends_to_the_bit_as_one_left_alone(tmp_path: Path) -> None:
    expected = faults.alone(tmp_path / "data", tmp_path)
    assert list(expected.studies) == [1, 2, 3, 4, 5, 6] and all(len(given) == 1 for given in expected.studies.values())
    killed, same = faults.killed(tmp_path / "data", tmp_path, 0, 1, expected)
    assert same
    assert killed.total() == faults.ROUND


@pytest.mark.parametrize(
    ("studies", "loss", "right"),
    [("abcd", 2.0, True), ("abcd", 2.0 + 1e-5, True), ("abcd", 2.0 + 3e-5, False), ("abdc", 2.0, False)],
)
def test_a_run_on_fewer_devices_is_judged_by_its_studies_and_losses(studies: str, loss: float, right: bool) -> None:
    def left(studies: str, loss: float) -> tuple[dict[int, list[str]], list[dict]]:
        records = [{"step": step, "metrics": {"loss": loss}} for step in (1, 2)]
        return {1: list(studies[:2]), 2: list(studies[2:])}, records

    assert faults.compared(left("abcd", 2.0), left(studies, loss)).right == right
