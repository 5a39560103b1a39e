"""One train step of the full-size model (Swin-T, BERT-base, InfoNCE, AdamW, float32) against PyTorch's.

Both sides see the same batch and the same text lengths with the same dropout, each in a process of its own with two
threads, and take turns step by step. PyTorch's side is transformers' SwinModel and BertModel with fused AdamW.

    python bench/step.py [--quick] [--lengths_from=DATA_DIR] [--allocator]

The last line is JSON; its value is our median step over PyTorch's at equal lengths.
"""

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from tqdm import tqdm

from clinicclip import cli, host
from clinicclip.data import builder, packing
from clinicclip.data.tokenizer import Tokenizer, train_wordpiece

GOAL = 0.9
THREADS = 2
IMAGE_SIZE, VOCABULARY, LIMIT = 224, 28996, 256
LR, WEIGHT_DECAY = 5e-5, 1e-4
Step = Callable[[], float]
Answer = tuple[float, float, float]  # seconds, loss, peak memory in GiB


def torch_step(images: np.ndarray, texts: list[list[int]], dropout: float) -> Step:
    """Return a function that takes one PyTorch step, texts padded to the longest, and returns the loss."""
    import torch
    from transformers import BertConfig, BertModel, SwinConfig, SwinModel

    torch.set_num_threads(THREADS)
    swin = SwinModel(SwinConfig(drop_path_rate=dropout)).train()
    sizes = BertConfig(vocab_size=VOCABULARY, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    bert = BertModel(sizes).train()
    heads = [torch.nn.Linear(768, 512, bias=False) for _ in range(2)]
    parameters = [p for module in (swin, bert, *heads) for p in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LR, weight_decay=WEIGHT_DECAY, fused=True)
    mean, std = (torch.tensor(c)[:, None, None] for c in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels = torch.from_numpy(images)[:, None]
    plain = packing.plain(texts, max(map(len, texts)))
    ids, mask = torch.from_numpy(plain.ids).long(), torch.from_numpy(plain.owner > 0).long()

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        image = heads[0](swin((pixels.float() / 255 - mean) / std).pooler_output)
        text = heads[1](bert(ids, attention_mask=mask).pooler_output)
        image, text = (torch.nn.functional.normalize(x, dim=-1) for x in (image, text))
        logits, own = 10.0 * image @ text.T, torch.arange(len(image))
        cross_entropy = torch.nn.functional.cross_entropy
        loss = (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def our_step(images: np.ndarray, texts: list[list[int]], dropout: float, text: str) -> Step:
    """Return a function that takes one of our steps; texts are `packed`, or one a row: `plain`, `limit` long."""
    import jax

    from clinicclip.losses import LossSpec
    from clinicclip.models.bert import BertSpec
    from clinicclip.models.clip import ClinicCLIP, ClipSpec, init_params
    from clinicclip.models.swin import SwinSpec
    from clinicclip.training import optim, sharding
    from clinicclip.training import step as training

    spec = ClipSpec(SwinSpec(drop_path=dropout), BertSpec(vocab_size=VOCABULARY, dropout=dropout))
    longest = max(map(len, texts))
    rows = {
        "packed": lambda: packing.pack(texts, length=LIMIT),
        "plain": lambda: packing.plain(texts, longest),
        "limit": lambda: packing.plain(texts, LIMIT),
    }[text]()
    mesh = sharding.make_mesh(jax.devices()[:1])
    tx = optim.make_optimizer(total_steps=1000, lr=LR, weight_decay=WEIGHT_DECAY, warmup_fraction=0.0, clip_norm=0.0)
    state = training.init_state(init_params(spec, 0), tx, mesh)
    columns = {f"text_{name}": getattr(rows, name) for name in ("ids", "owner", "position", "start")}
    batch = sharding.place({"image": images, **columns}, mesh)
    run = training.make_train_step(ClinicCLIP(spec), tx, LossSpec(), mesh, seed=0)

    def step() -> float:
        nonlocal state
        state, metrics = run(state, batch)
        return float(metrics["loss"])

    return step


@dataclass(frozen=True)
class Side:
    """Who takes steps (`ours` or `torch`), on what, and whether its allocator is tuned first."""

    name: str
    options: dict[str, Any]
    tuned: bool


def serve(pipe: Connection, side: Side) -> None:
    """Take a step whenever asked; answer its seconds, its loss and the peak memory in GiB."""
    if side.tuned:
        host.tune_allocator()
    step = (torch_step if side.name == "torch" else our_step)(**side.options)
    while pipe.recv():
        began = time.perf_counter()
        loss = step()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        pipe.send((time.perf_counter() - began, loss, peak))


@contextmanager
def contestant(side: Side) -> Iterator[Callable[[], Answer]]:
    """Run one side in a process of its own; yields a function that has it take a step."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, side), daemon=True)
    process.start()

    def step() -> Answer:
        ours.send(True)
        return ours.recv()

    yield step
    ours.send(False)
    process.join()


def duel(title: str, first: Side, second: Side, repeats: int) -> dict[str, float]:
    """Alternate two sides step by step after two warm-up steps each; print and return medians, ratio and peaks."""
    with contestant(first) as one, contestant(second) as other:
        for step in (one, other) * 2:
            step()
        rounds = [(one(), other()) for _ in tqdm(range(repeats), desc=title, disable=None)]
    seconds = np.array([[side[0] for side in pair] for pair in rounds])
    peaks = [max(pair[side][2] for pair in rounds) for side in (0, 1)]
    medians, ratios = np.median(seconds, axis=0), seconds[:, 0] / seconds[:, 1]
    found = {"ratio": medians[0] / medians[1], "paired_ratio": np.median(ratios)}
    found |= {"paired_low": ratios.min(), "paired_high": ratios.max()}
    found |= {"seconds": medians[0], "against_seconds": medians[1], "peak_gib": peaks[0], "against_peak_gib": peaks[1]}
    found = {name: round(float(value), 3) for name, value in found.items()}
    print(f"{title:52}" + "".join(f"{value:10.2f}" for value in found.values()), flush=True)
    return found


def report_lengths(data_dir: str, tokenizer: str) -> list[int]:
    """Token counts of a prepared set's reports, by a given tokenizer or one trained on them."""
    splits = "+".join(builder.read_manifest(data_dir)["splits"])
    reports = sorted({" ".join(record["sentences"]) for record in builder.open_source(data_dir, splits)})
    pieces = Tokenizer.load(tokenizer) if tokenizer else train_wordpiece(reports, 8000)
    return sorted(map(len, pieces.encode(reports, LIMIT)[0]))


def synthetic_lengths() -> list[int]:
    """Token counts shaped like short reports: median 45, one in twenty above 110."""
    rng = np.random.default_rng(1)
    return sorted(np.clip(np.exp(rng.normal(np.log(45), 0.55, 3000)), 5, LIMIT).astype(int).tolist())


def texts_of(lengths: list[int]) -> list[list[int]]:
    """Random token ids, one list a length."""
    rng = np.random.default_rng(0)
    return [rng.integers(1, VOCABULARY, length).tolist() for length in lengths]


def typical(lengths: list[int], batch: int) -> list[int]:
    """The quantiles of the lengths that stand for them in a batch of this size, in random order."""
    spread = np.quantile(lengths, (np.arange(batch) + 0.5) / batch).astype(int)
    return np.random.default_rng(0).permutation(spread).tolist()


def tokens_paid(lengths: list[int], batch: int = 64, draws: int = 50) -> dict[str, float]:
    """Tokens a text the tower computes, padding included, over random batches laid out in each way."""
    rng = np.random.default_rng(0)
    batches = [texts_of(rng.choice(lengths, batch).tolist()) for _ in range(draws)]
    rows = {
        "packed": lambda texts: packing.pack(texts, length=LIMIT),
        "longest": lambda texts: packing.plain(texts, max(map(len, texts))),
        "limit": lambda texts: packing.plain(texts, LIMIT),
    }
    paid = {name: np.mean([lay(texts).ids.size for texts in batches]) / batch for name, lay in rows.items()}
    return {name: round(float(value), 1) for name, value in ({"real": np.mean(lengths)} | paid).items()}


def parser() -> cli.Parser:
    """The command line."""
    parser = cli.Parser(
        program="bench/step.py", description=__doc__.split("\n")[0], example="python bench/step.py --quick"
    )
    parser.prog = "python bench/step.py"
    parser.add_argument("--quick", action="store_true", help="small batch, three repeats, equal lengths only")
    parser.add_argument("--batch", type=int, default=8, help="studies a step")
    parser.add_argument("--length", type=int, default=128, help="tokens of every text where lengths are equal")
    parser.add_argument("--repeats", type=int, default=10, help="paired repeats")
    parser.add_argument("--dropout", type=float, default=0.1, help="dropout and drop path rate of both sides")
    parser.add_argument("--lengths_from", default="", help="prepared data set whose report lengths are used")
    parser.add_argument("--tokenizer", default="", help="tokenizer folder that counts them (default: trained on them)")
    parser.add_argument("--allocator", action="store_true", help="also measure what the allocator's settings give")
    return parser


def main(args: argparse.Namespace) -> int:
    """Run the duels, print a table and one JSON line."""
    batch, length, repeats = (4, 64, 3) if args.quick else (args.batch, args.length, args.repeats)
    images = np.random.default_rng(0).integers(0, 256, (batch, IMAGE_SIZE, IMAGE_SIZE)).astype(np.uint8)

    def side(name: str, lengths: list[int], *, tuned: bool = True, **options: str) -> Side:
        shared = {"images": images, "texts": texts_of(lengths), "dropout": args.dropout}
        return Side(name, shared | options, tuned and name == "ours")

    equal = [length] * batch
    ours, theirs = side("ours", equal, text="plain"), side("torch", equal)
    columns = ("ratio", "paired", "low", "high", "s", "against s", "GiB", "against")
    print(f"{f'batch {batch}, float32, {THREADS} threads':52}" + "".join(f"{name:>10}" for name in columns))
    detail: dict[str, Any] = {"batch": batch, "length": length, "repeats": repeats, "dropout": args.dropout}
    detail["equal"] = duel(f"ours / torch, {length} tokens each", ours, theirs, repeats)
    if args.allocator:
        detail["allocator"] = duel("ours / ours, allocator untouched", ours, replace(ours, tuned=False), repeats)
        detail["torch_tuned"] = duel(
            "ours / torch with our allocator settings", ours, replace(theirs, tuned=True), repeats
        )
    if not args.quick:
        lengths = report_lengths(args.lengths_from, args.tokenizer) if args.lengths_from else synthetic_lengths()
        drawn = typical(lengths, batch)
        detail["lengths"] = {"drawn": drawn, "tokens_per_text_batch_64": tokens_paid(lengths)}
        packed, longest = side("ours", drawn, text="packed"), side("ours", drawn, text="plain")
        detail["packed"] = {
            "against_torch": duel("packed / torch, padded to the longest", packed, side("torch", drawn), repeats),
            "against_longest": duel("packed / ours, padded to the longest", packed, longest, repeats),
            "against_limit": duel(
                f"packed / ours, padded to {LIMIT}", packed, side("ours", drawn, text="limit"), repeats
            ),
        }
    value = detail["equal"]["ratio"]
    print(json.dumps({"name": "step", "value": value, "unit": "ratio", "goal": GOAL, "detail": detail}))
    return 0


if __name__ == "__main__":
    cli.run(main, parser())
