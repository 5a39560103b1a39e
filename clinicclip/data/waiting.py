"""A line on a terminal for work whose end cannot be foreseen: what is done, and for how long by now."""

import contextlib
import io
import sys
import threading
from collections.abc import Iterator

from tqdm import tqdm


@contextlib.contextmanager
def waiting(what: str, stream: io.TextIOBase | None = None, every: float = 1.0) -> Iterator[None]:
    """Shows ``what`` and the time it takes while the block runs, anew ``every`` so many seconds; only on a terminal."""
    done = threading.Event()
    with tqdm(
        desc=what, bar_format="{desc}: {elapsed}", file=stream or sys.stderr, leave=False, disable=None, mininterval=0
    ) as bar:

        def tick() -> None:
            while not done.wait(every):
                bar.refresh()

        clock = threading.Thread(target=tick, daemon=True)
        clock.start()
        try:
            yield
        finally:
            done.set()
            clock.join()
