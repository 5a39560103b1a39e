"""Reports for property tests: arbitrary Unicode, and radiologists' words in any order."""

import re

from hypothesis import strategies as st

_WORDS = """no without small left right effusion pneumothorax and or , . with heart lungs clear normal is are stable the
has resolved may possible cardiomegaly edema consolidation XXXX ___ 1.5 cm unchanged from prior but atelectasis new
again since worsening improved persists not seen on ; : ? / versus mild nodule no longer FINDINGS: IMPRESSION: 2."""
REPORTS = st.one_of(st.text(max_size=200), st.lists(st.sampled_from(_WORDS.split()), max_size=40).map(" ".join))


def content_words(text: str) -> set[str]:
    """The words of at least two letters, in lower case."""
    return set(re.findall(r"[^\W\d_]{2,}", text.lower()))
