"""Reports for property tests: arbitrary Unicode, and radiologists' words in any order."""

import re
from collections import Counter

from hypothesis import strategies as st

_WORDS = """no without small left right effusion pneumothorax and or , . with heart lungs clear normal is are stable the
has resolved may possible cardiomegaly edema consolidation XXXX ___ 1.5 cm unchanged from prior but atelectasis new
again since worsening improved persists not seen on ; : ? / versus mild nodule no longer FINDINGS: IMPRESSION: 2."""
REPORTS = st.one_of(st.text(max_size=200), st.lists(st.sampled_from(_WORDS.split()), max_size=40).map(" ".join))
_OF_CHANGE = """and in of on the is are which has with size position stable new resolving residual increased compared to
prior study again since no not lungs , opacity"""
# A few words over and over, as long as a sentence can be: what makes an expression that backtracks take ages.
STUTTERS = st.lists(st.sampled_from(_OF_CHANGE.split()), min_size=2, max_size=4, unique=True).flatmap(
    lambda few: st.lists(st.sampled_from(few), min_size=80, max_size=110).map(" ".join)
)


def content_words(text: str) -> Counter[str]:
    """How often each word of at least two letters, in lower case, and each number occurs."""
    return Counter(re.findall(r"[^\W\d_]{2,}|\d+(?:\.\d+)?", text.lower()))
