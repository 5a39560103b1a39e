"""Writes phantom.npz, thumbnails and a hash of the words of the phantom's first studies: after a version bump only."""

import hashlib
import json
from pathlib import Path

import numpy as np
from PIL import Image

from clinicclip.data.phantom import world

STUDIES = 12

if __name__ == "__main__":
    stored: dict[str, np.ndarray] = {"version": np.array(world.VERSION)}
    for level in world.LEVELS:
        made = [world.make(level, i, size=64) for i in range(STUDIES)]
        small = [np.asarray(Image.fromarray(s.image).resize((16, 16), Image.Resampling.BOX)) for s in made]
        words = json.dumps([[s.findings, s.impression, s.gold] for s in made])
        stored[level] = np.stack(small)
        stored[f"{level}_words"] = np.array(hashlib.sha256(words.encode()).hexdigest())
    np.savez_compressed(Path(__file__).parent / "phantom.npz", **stored)
