"""Write open_clip.npz: what open_clip makes of a small folder of its own form, from files and words to embeddings.

Run once, from the repository's root, in the environment of make.py: python tests/golden/make_open_clip.py
The model is `foreign.MICRO` with the weights of recipe.py; its Swin is entered into timm's registry for the time.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import timm
from PIL import Image
from timm.models.swin_transformer import SwinTransformer

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support"), str(HERE.parents[1])]

import foreign  # noqa: E402
import recipe  # noqa: E402

from clinicclip import guests  # noqa: E402
from clinicclip.exporting import parity  # noqa: E402


@timm.models.register_model
def swin_micro(pretrained=False, **options):
    """The image tower of `foreign.MICRO`."""
    swin = foreign.MICRO.image
    sizes = {"img_size": swin.image_size, "window_size": swin.window_size, "embed_dim": swin.embed_dim}
    wanted = {name: options[name] for name in ("num_classes", "global_pool") if name in options}
    model = SwinTransformer(**sizes, depths=swin.depths, num_heads=swin.heads, **wanted)
    model.default_cfg = {"pool_size": None}  # what open_clip asks of it
    return model


def main():
    """Write pixels, token ids and unit embeddings."""
    with tempfile.TemporaryDirectory() as place:
        params = recipe.weights(foreign.MICRO)
        folder = foreign.write_whole(Path(place) / "clip", params, foreign.MICRO, "open_clip")
        config = json.loads((folder / "open_clip_config.json").read_text())
        config["model_cfg"]["vision_cfg"]["timm_model_name"] = "swin_micro"
        foreign.write_json(folder / "open_clip_config.json", config)
        reader = guests.open_reader("open_clip", folder)
    pixels = reader.pixels([Image.fromarray(picture) for picture in parity.fixed_pictures()])
    golden = {
        "pixels": pixels,
        "ids": reader.ids(parity.TEXTS),
        "image": reader.embed_pixels(pixels),
        "text": reader.embed_texts(parity.TEXTS),
    }
    np.savez_compressed(HERE / "open_clip.npz", **golden)
    for key, value in golden.items():
        print(key, value.shape, float(np.abs(value).max()))


if __name__ == "__main__":
    main()
