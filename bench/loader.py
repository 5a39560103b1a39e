"""How fast training batches are made of prepared records, against torch's DataLoader over the same JPEGs and texts.

Ours: `pipeline.train_batches` as `train` calls it, reading ArrayRecord, with nothing remembered from one epoch to the
next; in threads, as `train` does unless told, and in processes. Torch's: JPEG files and texts, transforms written as in
torchvision, with Pillow (random resized crop, brightness and contrast, rotation, to array, normalise), a fast tokenizer
of transformers that pads a whole batch at once, in processes; its crops bicubic and its turns bilinear, in gray as the
files are (and in RGB, for the record).

Each way runs several times, alone in a process of its own, in turn. A rate is studies a second by the clock; that of
processor time, of the process and its workers together, which other programs hardly disturb, is printed beside it.

    python bench/loader.py [--data=DIR --split=NAME] [--workers=2] [--run=WORKDIR] [--quick]

Needs torch (`pip install -e '.[torch]'`). Without --data a phantom of 256 pixels is prepared first. With --run the
share of its time that a run of `train` waited for data is read from its metrics, too. The last line is JSON; its value
is the rate of our threads over that of as many torch processes, the median of the rounds' ratios.
"""

import argparse
import atexit
import contextlib
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
import transformers
from PIL import Image, ImageEnhance
from torch.utils.data import DataLoader, Dataset

from clinicclip import cli, tabular
from clinicclip.data import builder, draws, pipeline
from clinicclip.data.augment import AugmentSpec
from clinicclip.data.draws import TrainSpec
from clinicclip.data.sources import Source
from clinicclip.data.tokenizer import Tokenizer, train_wordpiece
from clinicclip.training import segments

GOAL = 1.5
BATCH, SIZE, LENGTH, VOCABULARY = 64, 224, 256, 2000
CROP_AREA, ROTATION, BRIGHTNESS, CONTRAST = 0.8, 5.0, 0.1, 0.1
MEAN, STD = 0.5, 0.25
ROUNDS = 3
AHEAD = 6  # batches that are taken before the clock starts, so that starting does not count
SPEC = TrainSpec(
    image_size=SIZE, text_length=LENGTH, augment=AugmentSpec(CROP_AREA, ROTATION, BRIGHTNESS, CONTRAST), row_step=4
)


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(
        program="bench/loader.py", description=__doc__, example="python bench/loader.py --data=data/openi"
    )
    flags.add_argument("--data", type=Path, metavar="DIR", help="prepared data (default: a phantom made here)")
    flags.add_argument("--split", default="train", help="of the data, such as fold0+fold1 (default train)")
    flags.add_argument("--workers", type=cli.count, default=2, help="processes, or threads, of either (2)")
    flags.add_argument("--run", type=Path, metavar="WORKDIR", help="of train: tell how long it waited for data")
    flags.add_argument("--rounds", type=cli.count, default=ROUNDS, help=f"epochs of either ({ROUNDS})")
    flags.add_argument("--quick", action="store_true", help="one round")
    return flags


class Pairs(Dataset):
    """JPEG files and texts, drawn as torchvision's transforms draw: one sample a call."""

    def __init__(self, files: Sequence[Path], texts: Sequence[str], mode: str = "L") -> None:
        self.files, self.texts, self.mode = files, texts, mode

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, str]:
        with Image.open(self.files[index]) as file:
            image = file.convert(self.mode)
        image = _jittered(_cropped(image))
        image = image.rotate(_uniform(-ROTATION, ROTATION), Image.Resampling.BILINEAR)
        return _normalised(image), self.texts[index]


def _uniform(low: float, high: float) -> float:
    return float(torch.empty(1).uniform_(low, high))


def _cropped(image: Image.Image) -> Image.Image:
    """RandomResizedCrop: up to ten tries at an area and a shape that fit."""
    for _ in range(10):
        area = image.width * image.height * _uniform(CROP_AREA, 1.0)
        ratio = math.exp(_uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= image.width and 0 < height <= image.height:
            left = int(torch.randint(0, image.width - width + 1, (1,)))
            upper = int(torch.randint(0, image.height - height + 1, (1,)))
            image = image.crop((left, upper, left + width, upper + height))
            break
    return image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def _jittered(image: Image.Image) -> Image.Image:
    """ColorJitter(brightness, contrast), in an order that is drawn."""
    for change in torch.randperm(2).tolist():
        if change:
            image = ImageEnhance.Contrast(image).enhance(_uniform(1 - CONTRAST, 1 + CONTRAST))
        else:
            image = ImageEnhance.Brightness(image).enhance(_uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS))
    return image


def _normalised(image: Image.Image) -> torch.Tensor:
    """ToTensor and Normalize."""
    pixels = torch.from_numpy(np.array(image, copy=True)).view(SIZE, SIZE, -1)
    tensor = pixels.permute((2, 0, 1)).contiguous().to(torch.float32).div(255)
    mean, std = (torch.as_tensor([value] * len(tensor)).view(-1, 1, 1) for value in (MEAN, STD))
    return tensor.clone().sub_(mean).div_(std)


class Tokenised:
    """Samples -> one batch, its texts tokenised and padded together."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def __call__(self, samples: Sequence[tuple[torch.Tensor, str]]) -> dict[str, torch.Tensor]:
        images, texts = zip(*samples, strict=True)
        encoded = self.tokenizer(list(texts), padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
        return {"image": torch.stack(images), **encoded}


class Data(NamedTuple):
    """What all ways read."""

    source: Source
    pairs: Pairs
    tokenizer: Path


Way = Callable[[Data, int], Iterator[Any]]


def ours(data: Data, workers: int, threads: int = 1) -> Iterator[Any]:
    """Our batches, without end."""
    tokenizer = Tokenizer.load(data.tokenizer)
    settings = {"spec": SPEC, "seed": 0, "batch_size": BATCH, "workers": workers, "threads": threads}
    with pipeline.train_batches(data.source, tokenizer=tokenizer, features=None, **settings) as batches:
        yield from batches


def ours_in_threads(data: Data, workers: int) -> Iterator[Any]:
    """Our batches by threads instead of processes, as `train` makes them unless told."""
    yield from ours(data, 0, threads=max(1, workers))


def torchs(data: Data, workers: int, mode: str = "L") -> Iterator[Any]:
    """Torch's batches, epoch after epoch from workers that stay."""
    loader = DataLoader(
        Pairs(data.pairs.files, data.pairs.texts, mode),
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        collate_fn=Tokenised(data.tokenizer),
        persistent_workers=workers > 0,
        multiprocessing_context="spawn" if workers else None,  # forks of a process with threads may die
        worker_init_fn=_leave_at_once,
    )
    while True:
        yield from loader


def _leave_at_once(worker: int) -> None:
    """Has a worker end before C++ clears up: a tokenizer was used beside torch, which then aborts."""
    atexit.register(os._exit, 0)


def torchs_in_colour(data: Data, workers: int) -> Iterator[Any]:
    """The same in three channels, which towers trained on photographs want."""
    yield from torchs(data, workers, "RGB")


OURS, BASE = "ours, threads", "torch, gray"
WAYS: dict[str, Way] = {
    OURS: ours_in_threads,
    "ours, processes": ours,
    BASE: torchs,
    "torch, RGB": torchs_in_colour,
}


class Rate(NamedTuple):
    """How fast batches came."""

    wall: float  # studies a second
    cpu: float  # studies a second of processor time, of this process and its workers


def measured(way: Way, data: Data, workers: int) -> Rate:
    """How fast one way makes the batches of about two epochs, once it runs."""
    count = 2 * len(data.pairs) // BATCH
    with contextlib.closing(way(data, workers)) as batches:
        for _ in range(AHEAD):
            next(batches)
        spent, started = _processor_time(), time.perf_counter()
        for _ in range(count):
            next(batches)
        wall, cpu = time.perf_counter() - started, _processor_time() - spent
    return Rate(wall=BATCH * count / wall, cpu=BATCH * count / cpu)


def _processor_time() -> float:
    me = psutil.Process()
    times = (process.cpu_times() for process in (me, *me.children(recursive=True)))
    return sum(spent.user + spent.system for spent in times)


def phantom(folder: Path, studies: int) -> Path:
    """Prepared records of the size that releases are stored in."""
    options = {"level": "easy", "studies": studies, "size": 256}
    builder.write("phantom", folder, options=options, workers=2)
    return folder


def unpacked(prepared: Path, split: str, folder: Path) -> Data:
    """The same records, and the same JPEGs as files with the same texts; one vocabulary for both."""
    source = builder.open_source(prepared, split)
    files, texts = [], []
    (folder / "jpegs").mkdir()
    for index, record in enumerate(source):
        files.append(folder / "jpegs" / f"{index:06d}.jpg")
        files[-1].write_bytes(record["image"])
        texts.append(draws.report_text(record))
    train_wordpiece(texts, VOCABULARY).save(folder / "tokenizer", LENGTH)
    return Data(source, Pairs(files, texts), folder / "tokenizer")


def compare(data: Data, workers: int, rounds: int) -> dict[str, list[Rate]]:
    """The rates of every way, round by round, each in a process of its own."""
    rates: dict[str, list[Rate]] = {name: [] for name in WAYS}
    for turn in range(rounds):
        for name in sorted(WAYS, reverse=turn % 2 == 1):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                rates[name].append(alone.submit(measured, WAYS[name], data, workers).result())
    return rates


def main(args: argparse.Namespace) -> int:
    """Run all ways in turn, print a table and one JSON line."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared = args.data or phantom(folder / "phantom", 1536)
        data = unpacked(prepared, args.split, folder)
        rates = compare(data, args.workers, 1 if args.quick else args.rounds)
    medians = {name: Rate(*map(statistics.median, zip(*found, strict=True))) for name, found in rates.items()}
    over = {
        name: [Rate(one.wall / base.wall, one.cpu / base.cpu) for one, base in zip(found, rates[BASE], strict=True)]
        for name, found in rates.items()
    }
    ratios = {name: Rate(*map(statistics.median, zip(*found, strict=True))) for name, found in over.items()}
    table = [["studies a second", "by the clock", "over torch's", "of processor time", "over torch's"]]
    for name, rate in medians.items():
        ratio = ratios[name]
        table.append([name, f"{rate.wall:.0f}", f"{ratio.wall:.2f}", f"{rate.cpu:.0f}", f"{ratio.cpu:.2f}"])
    print(f"{len(data.pairs)} studies of {data.source[0]['height']} pixels at {SIZE}, {args.workers} workers")
    print("\n".join(tabular.aligned(table)))
    detail: dict[str, Any] = {n: {u: round(rate, 1) for u, rate in r._asdict().items()} for n, r in medians.items()}
    detail |= {f"{unit}_ratios": [round(getattr(ratio, unit), 3) for ratio in over[OURS]] for unit in Rate._fields}
    if args.run:
        detail["data_wait_share"] = round(wait_share(args.run), 4)
        print(f"{args.run}: {detail['data_wait_share']:.2%} of the time between its steps was waited for data (median)")
    value = round(ratios[OURS].wall, 3)
    return cli.measured("loader", value, "x", GOAL, detail, met=value >= GOAL)


def wait_share(workdir: Path) -> float:
    """The share of its time that a run of `train` waited for data, in the median of the stretches it wrote down."""
    records = segments.read(workdir / "metrics.jsonl")
    return statistics.median(record["timing"]["data_wait_share"] for record in records if record["timing"])


if __name__ == "__main__":
    cli.run(main, parser())
