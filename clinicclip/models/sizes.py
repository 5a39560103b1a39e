"""What a tower may be, whoever says so: a configuration, a flag, the facts beside weights, or their shapes."""

import reprlib

from clinicclip.errors import UserError

POOLINGS = ("pooler", "cls", "mean")  # of texts
LARGEST = {"image_size": 2**13}  # pixels, of what a tower can hold beside its weights
LAYERS, WIDEST = 256, 2**24  # more than any tower has, and few enough to be listed


def require_sizes(tower: str, *, depths: tuple[int, ...], **sizes: int | tuple[int, ...]) -> None:
    """Raises UserError, which names the first size that no tower can have."""
    for name, size in sizes.items():
        most = LARGEST.get(name, WIDEST)
        if not all(1 <= one <= most for one in (size if isinstance(size, tuple) else (size,))):
            raise UserError(f"{tower}: {name} is {reprlib.repr(size)}, expected 1 to {most:,}")
    if min(depths, default=0) < 0 or sum(depths) > LAYERS:
        raise UserError(f"{tower}: depths is {reprlib.repr(depths)}, expected 0 or more, {LAYERS} at most together")


def require_shares(tower: str, **shares: float) -> None:
    """Raises UserError, which names the first of these numbers that is not from 0 to 1."""
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise UserError(f"{tower}: {name} is {share}, expected 0 to 1")
