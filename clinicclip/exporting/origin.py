"""Where weights come from."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Origin:
    """Where weights come from, as the card must say it; `studies` counts image-report pairs by role."""

    name: str  # of the model, e.g. the config's name
    data: str  # name of the prepared set
    data_title: str
    data_licence: str
    data_citation: str
    data_open: bool  # its images and texts may be shown
    phantom: bool
    steps: int
    studies: Mapping[str, int] = field(default_factory=dict)
    # False for a vocabulary trained on restricted reports as they are: its rare pieces may be names.
    vocabulary_public: bool = True
