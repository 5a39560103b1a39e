"""Work without a foreseeable end is shown with its time, on a terminal alone."""

import io
import time

import pytest

from clinicclip.data.waiting import waiting


class Terminal(io.StringIO):
    """A stream that calls itself a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "shown"), [(Terminal(), True), (io.StringIO(), False)])
def test_a_terminal_is_told_what_is_done_and_for_how_long(stream: io.StringIO, shown: bool) -> None:
    with waiting("counting", stream, every=0.01):
        time.sleep(0.1)
    assert (stream.getvalue().count("counting: 00:00") > 2) == shown == bool(stream.getvalue())
