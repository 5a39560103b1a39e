"""How fast `embed` turns image files into embeddings, against open_clip with the same weights, turn by turn.

A Swin-T with random weights is exported once and read by both, in float32, each in a process of its own with all cores.
Theirs is open_clip's own model and preprocessing (transformers' where open_clip is not installed), fed by as many
reading threads as ours. The images are phantom radiographs as JPEG: `stored`, as `prepare` keeps them, where nearly all
time is the model's, and `release`, 2,500 x 3,000 pixels, as archives keep them.

    python bench/embed.py [--quick] [--images=32] [--pairs=5]

Both sides have a thread a core for the model and as many for reading; each is idle while the other is at work. The last
line is JSON; its value is the median over pairs of turns of our images a second over theirs, `stored`.
"""

import argparse
import functools
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from PIL import Image

from clinicclip import cli, guests, host
from clinicclip.data.phantom import world

GOAL = 1.2
SETS = {"stored": (256, 307), "release": (2500, 3000)}  # height and width
QUALITY, BATCH = 95, 32
Embed = Callable[[list[Path]], np.ndarray]


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(program="bench/embed.py", description=__doc__, example="python bench/embed.py --quick")
    count = functools.partial(cli.count, least=1)
    flags.add_argument("--images", type=count, default=32, help="radiographs a turn (32)")
    flags.add_argument("--pairs", type=count, default=5, help="turns of each side (5)")
    flags.add_argument("--quick", action="store_true", help="16 radiographs, 3 pairs")
    return flags


def main(args: argparse.Namespace) -> int:
    """Embed the same files in turn, print rates and one JSON line."""
    count, pairs = (16, 3) if args.quick else (args.images, args.pairs)
    library = "open_clip" if guests.installed("torch", "open_clip") else "transformers"
    if library == "transformers":
        print(f"open_clip is not installed ({guests.INSTALL['open_clip']}): against transformers in torch instead")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with step("a Swin-T with random weights, exported"):
            write_export(folder / "export")
        with step(f"{count} radiographs of each size, drawn"):
            files = {name: write_images(folder / name, shape, count) for name, shape in SETS.items()}
        with started("ours", folder / "export", "") as ours, started("theirs", folder / "export", library) as theirs:
            found = {name: compared(name, ours, theirs, paths, pairs) for name, paths in files.items()}
    for name, told in found.items():
        print(
            f"{name:8} images/s: ours {told['ours']:.1f}, {library} {told['theirs']:.1f}; ratio {told['ratio']:.2f}",
            end="",
        )
        print(f" ({told['processor_ratio']:.2f} of processor time); embeddings {told['apart']:.1e} apart")
    detail = {"against": f"{library} {guests.version(library)}", "images": count, "pairs": pairs, **found}
    value = found["stored"]["ratio"]
    print(json.dumps({"name": "embed", "value": value, "unit": "x", "goal": GOAL, "detail": detail}))
    return 0


@contextmanager
def step(what: str) -> Iterator[None]:
    """Says what was done, and in how long."""
    began = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - began:.0f} s", flush=True)


def write_export(folder: Path) -> None:
    """A full-size image tower beside a small text tower, which no image sees."""
    from clinicclip import exporting
    from clinicclip.data.tokenizer import train_wordpiece
    from clinicclip.exporting import parity
    from clinicclip.models.bert import BertSpec
    from clinicclip.models.clip import ClipSpec, init_params
    from clinicclip.models.swin import SwinSpec

    tokenizer = train_wordpiece(parity.TEXTS, 150)
    text = BertSpec(tokenizer.vocab_size, width=48, depth=1, heads=3, mlp_width=96, max_positions=64)
    spec = ClipSpec(SwinSpec(), text)
    facts = dict.fromkeys(("name", "data", "data_title", "data_licence", "data_citation"), "phantom")
    origin = exporting.Origin(**facts, data_open=True, phantom=True, steps=0)
    settings = {"tokenizer": tokenizer, "text_length": 64, "config": {}, "origin": origin}
    exporting.write_export(folder, spec=spec, params=init_params(spec, 0), **settings)


def write_images(folder: Path, shape: tuple[int, int], count: int) -> list[Path]:
    """Phantom radiographs of one size, with the noise of film."""
    folder.mkdir()
    height, width = shape
    grain = np.random.default_rng(0).normal(0, 1.8, shape).astype(np.float32)
    paths = [folder / f"{index}.jpg" for index in range(count)]
    for index, path in enumerate(paths):
        small = Image.fromarray(world.make("easy", index, 0, 128).image)
        shade = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), np.float32)
        gray = np.clip(shade + np.roll(grain, 97 * index), 0, 255).astype(np.uint8)
        Image.fromarray(gray).save(path, quality=QUALITY)
    return paths


def our_embed(folder: Path, library: str) -> Embed:
    """What the program does between reading its flags and writing its parts."""
    host.tune_allocator()
    from clinicclip import ClinicCLIP

    model = ClinicCLIP.from_pretrained(folder)
    return lambda paths: np.stack(list(model.stream_images(paths)))


def their_embed(folder: Path, library: str) -> Embed:
    """Batch by batch in PyTorch, the next ones read and preprocessed by threads meanwhile."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)  # as many as XLA takes
    reader = guests.open_reader(library, folder)

    def read(path: Path) -> np.ndarray:
        with Image.open(path) as picture:
            return reader.pixels([picture])[0]

    def embed(paths: list[Path]) -> np.ndarray:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            waiting = [pool.submit(read, path) for path in paths]
            batches = (waiting[first : first + BATCH] for first in range(0, len(waiting), BATCH))
            return np.concatenate([reader.embed_pixels(np.stack([f.result() for f in batch])) for batch in batches])

    return embed


def serve(pipe: Connection, side: str, folder: Path, library: str) -> None:
    """Embed the files that are asked for; answer seconds, those of all its threads together, and embeddings."""
    embed = {"ours": our_embed, "theirs": their_embed}[side](folder, library)
    while paths := pipe.recv():
        began, used = time.perf_counter(), time.process_time()
        rows = embed(paths)
        pipe.send((time.perf_counter() - began, time.process_time() - used, rows))


@contextmanager
def started(side: str, folder: Path, library: str) -> Iterator[Connection]:
    """A process that serves one side."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, side, folder, library), daemon=True)
    process.start()
    try:
        yield here
        here.send([])
        process.join()
    finally:
        process.kill()


def compared(name: str, ours: Connection, theirs: Connection, paths: list[Path], pairs: int) -> dict[str, float]:
    """Median ratios of pairs of turns, median images a second of both, and how far their embeddings are apart."""
    with step(f"{name}, first turns, which load and compile"):
        rows = [asked(side, paths)[2] for side in (ours, theirs)]
    spent = []
    for turn in range(pairs):
        order = (ours, theirs) if turn % 2 else (theirs, ours)
        found = {side: asked(side, paths)[:2] for side in order}
        spent.append([found[ours], found[theirs]])
        rates = [f"{len(paths) / found[side][0]:.2f}" for side in (ours, theirs)]
        print(f"{name}, pair {turn + 1} of {pairs}: {rates[0]} and {rates[1]} images/s", flush=True)
    seconds = np.array(spent)  # [pair, side, clock or processor]
    ratio, processor = np.median(seconds[:, 1] / seconds[:, 0], axis=0)
    rates = len(paths) / np.median(seconds[:, :, 0], axis=0)
    figures = {"ratio": ratio, "processor_ratio": processor, "ours": rates[0], "theirs": rates[1]}
    apart = float(np.abs(rows[0] - rows[1]).max())
    return {name: round(float(figure), 3) for name, figure in figures.items()} | {"apart": apart}


def asked(side: Connection, paths: list[Path]) -> tuple[float, float, np.ndarray]:
    """Seconds by the clock and of the processor, and embeddings, of a turn."""
    side.send(paths)
    return side.recv()


if __name__ == "__main__":
    cli.run(main, parser())
