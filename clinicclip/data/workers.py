"""What a worker process does first, so that none outlives the process it works for."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import connection
from typing import Any


def follow(*place: int) -> None:
    """Leaves interrupts to the parent, and ends with it even when it is killed outright; its ``place`` is all one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with(wait: Callable[..., Any], sentinel: int) -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=end_with, args=(connection.wait, parent.sentinel), daemon=True).start()
