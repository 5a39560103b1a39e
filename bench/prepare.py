"""How fast `prepare` brings radiographs to their stored form, against a plain Pillow loop, image by image in turn.

Ours: read the file at the scale that is enough, look it over, resize, encode. Pillow's: open, decode in full to gray,
resize; it neither checks nor stores anything. Bound: libjpeg at the scale that is enough (decoded side at least twice
the stored one) and nothing else; eighth: the same at the least scale there is, since every coefficient has to be read
whatever the scale. The images are synthetic, 2,500 x 3,000, as JPEG of quality 95, each written to disk and read from
there. They are as long as those of MIMIC-CXR-JPG are on average (557 GB in 377,110 files), since what is long takes
long to read: white grain, and grain whose power falls with the frequency f as 1/f to 1/f^3, gave at that length
ratios of 1.94 to 2.01 for ours and of 2.28 to 2.40 for the bound. Time is this process's own on one core, so other
programs hardly disturb it.

    python bench/prepare.py [--quick] [--images=2000]

The last line is JSON; its value is ours over Pillow's images a second.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from clinicclip import cli
from clinicclip.data import images
from clinicclip.data.phantom import world

GOAL = 2.5
HEIGHT, WIDTH, QUALITY = 2500, 3000, 95
GRAIN = 1.8  # gray levels of film noise; makes files of the length said above
COMPARED = 10  # of so many images, one is compared


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(program="bench/prepare.py", description=__doc__, example="python bench/prepare.py --quick")
    flags.add_argument("--images", type=cli.count, default=2000, help="radiographs to read")
    flags.add_argument("--quick", action="store_true", help="100 radiographs")
    return flags


def main(args: argparse.Namespace) -> int:
    """Read every radiograph both ways, print rates and differences and one JSON line."""
    count = 100 if args.quick else args.images
    runs: dict[str, Callable[[Path], Any]] = {
        "ours": prepared,
        "pillow": plain,
        "bound": partial(decoded, side=2 * images.SHORTER_SIDE),
        "eighth": partial(decoded, side=HEIGHT // 8),
    }
    seconds = dict.fromkeys(runs, 0.0)
    size, stored_apart, resized_apart = 0, 0, 0
    grain = np.random.default_rng(0).normal(0, GRAIN, (HEIGHT, WIDTH)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "radiograph.jpg"
        for index in tqdm(range(count), disable=None):
            Image.fromarray(radiograph(index, grain)).save(path, quality=QUALITY)
            size += path.stat().st_size
            if index == 0:
                _ = [run(path) for run in runs.values()]  # loads what is loaded at first
            for name in sorted(runs, reverse=index % 2 == 0):
                seconds[name] += _timed(runs[name], path)
            if index % COMPARED == 0:
                stored, resized = apart(path)
                stored_apart, resized_apart = max(stored_apart, stored), max(resized_apart, resized)
    rates = {name: count / spent for name, spent in seconds.items()}
    bits = 8 * size / (count * WIDTH * HEIGHT)
    print(f"{count} JPEGs of {WIDTH} x {HEIGHT}, {size / count / 1e6:.2f} MB each, {bits:.2f} bits a pixel")
    for name, rate in rates.items():
        print(f"{name:8} {rate:8.1f} images a second and core")
    print(f"largest difference to reading in full: {resized_apart} gray levels squashed to 256 x 256,", end=" ")
    print(f"{stored_apart} in the stored JPEGs")
    value = rates["ours"] / rates["pillow"]
    detail = {f"{name}_images_per_second": round(rate, 2) for name, rate in rates.items()}
    detail |= {
        "images": count,
        "bits_per_pixel": round(bits, 3),
        "gray_levels_apart": resized_apart,
        "stored_gray_levels_apart": stored_apart,
    }
    return cli.measured("prepare", round(value, 3), "x", GOAL, detail, met=value >= GOAL)


def radiograph(index: int, grain: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    """A phantom radiograph brought to full size, with the noise of film."""
    small = Image.fromarray(world.make("easy", index, 0, 128).image)
    shade = np.asarray(small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float32)
    return np.clip(shade + np.roll(grain, 97 * index), 0, 255).astype(np.uint8)


def prepared(path: Path) -> bytes:
    """The image path of `records.make`."""
    picture = images.read(path, images.SHORTER_SIDE)
    gray = images.shrink(picture.gray, images.SHORTER_SIDE, (picture.height, picture.width))
    images.flags(gray, picture.facts)
    return images.encode(gray)


def plain(path: Path) -> Image.Image:
    """What one would write with Pillow alone."""
    with Image.open(path) as image:
        scale = images.SHORTER_SIDE / min(image.size)
        size = round(image.width * scale), round(image.height * scale)
        return image.convert("L").resize(size, Image.Resampling.BICUBIC)


def decoded(path: Path, side: int) -> None:
    """Reads every coefficient of the file and makes as few pixels of them as leave the shorter side this long."""
    with Image.open(path) as image:
        image.draft("L", (side, side))
        image.load()


def apart(path: Path) -> tuple[int, int]:
    """Largest gray-level difference between reading at a reduced scale and in full: as stored, and squashed."""
    reduced, full = images.read(path, images.SHORTER_SIDE), images.read(path)
    shape, side = (full.height, full.width), images.SHORTER_SIDE
    stored = [images.decode(images.encode(images.shrink(one.gray, side, shape))).astype(int) for one in (reduced, full)]
    resized = [images.resize(one.gray, side, shape).astype(int) for one in (reduced, full)]
    return int(np.abs(stored[0] - stored[1]).max()), int(np.abs(resized[0] - resized[1]).max())


def _timed(run: Callable[[Path], Any], path: Path) -> float:
    started = time.process_time()
    run(path)
    return time.process_time() - started


if __name__ == "__main__":
    cli.run(main, parser())
