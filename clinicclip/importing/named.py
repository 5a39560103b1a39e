"""What the names timm gives its towers say of their sizes, held against the arrays."""

import re

from clinicclip.errors import UserError
from clinicclip.exporting.dialects import REGISTERED
from clinicclip.models.swin import SwinSpec

SIZES = {name.partition("_patch")[0]: sizes for sizes, name in REGISTERED.items()}


def require_named(name: str, spec: SwinSpec, source: str) -> None:
    """Raises UserError unless a tower is what its configuration calls it; "" calls it nothing.

    Names are such as `swin_tiny_patch4_window7_224.ms_in1k`. Of the image size a model may have another than its name.
    """
    if not name:
        return
    if not name.startswith("swin_"):
        raise UserError(f"{source}: its configuration names the tower {name!r}, its arrays are those of a Swin")
    said = re.search(r"_patch(\d+)_window(\d+)", name)
    found = {"patch": str(spec.patch_size), "window": str(spec.window_size)}
    named = dict(zip(found, said.groups(), strict=True)) if said else {}
    if known := SIZES.get(name.partition("_patch")[0]):
        named |= {"depths, width and heads": str(known)}
        found |= {"depths, width and heads": str((spec.depths, spec.embed_dim, spec.heads))}
    wrong = [f"{what} {said}, not {found[what]}" for what, said in named.items() if said != found[what]]
    if wrong:
        raise UserError(
            f"{source}: its configuration names the tower {name!r}, of {'; '.join(wrong)} as its arrays say"
        )
