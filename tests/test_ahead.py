"""Work that threads do ahead of time comes back in order, and no more of it is begun than was allowed."""

import threading
import time

import pytest

from clinicclip.ahead import mapped
from clinicclip.towers import AT_ONCE, in_turns


@pytest.mark.parametrize(("threads", "ahead"), [(1, 0), (2, 2), (3, 7)])
def test_results_come_in_the_order_of_the_items(threads: int, ahead: int) -> None:
    def late_first(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return 2 * number

    assert list(mapped(late_first, range(12), threads=threads, ahead=ahead)) == list(range(0, 24, 2))
    assert list(mapped(late_first, (), threads=threads, ahead=ahead)) == []


def test_no_more_is_begun_than_may_be_ahead_and_a_fault_is_raised_in_its_turn() -> None:
    begun = []

    def once(number: int) -> int:
        begun.append(number)
        return 1 // (3 - number)

    results = mapped(once, range(100), threads=1, ahead=2)
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(begun) <= 3 + 1 + 2


def test_the_first_batch_is_alone_and_later_ones_are_some_at_once() -> None:
    under_way, most, lock = 0, [], threading.Lock()

    def watched(number: int) -> int:
        nonlocal under_way
        with lock:
            under_way += 1
            most.append((number, under_way))
        time.sleep(0.01)
        with lock:
            under_way -= 1
        return number

    assert list(in_turns(watched, range(9))) == list(range(9))
    assert most[0] == (0, 1) and most[1] == (1, 1)
    assert max(count for _, count in most) == AT_ONCE
