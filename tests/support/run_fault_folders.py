"""Faults of what programs read: a run's folder, an export, images and texts."""

import fcntl
import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path

from run_fault_plants import JUNK, damages, foreign, gone, in_turn, lacking, removed, written
from run_faults import Fault, Host, Plant, training

from clinicclip import train

RUN, EXPORT = "--checkpoint={root}/run", "--checkpoint={root}/export"
READERS = {
    "evaluate": (RUN, "--data=phantom:{root}/data", "--output={root}/o", "--suite=pair_strict", "--draws=2"),
    "export": (RUN, "--output={root}/o"),
    "predict": ("{root}/images", RUN, "--findings=edema"),
}
NEWEST = "checkpoints/4"
ARRAYS = f"run/{NEWEST}/state/d"  # whose largest file holds most of the parameters
SETTINGS = "{root}/run/config.json"
AGAIN = training(total_steps=4)


def of_run() -> Iterator[Fault]:
    """A run's folder that is not whole, for what reads it and what goes on with it."""
    yield from _settings_of_run()
    yield from _checkpoints()
    yield from _states()


def _settings_of_run() -> Iterator[Fault]:
    kinds = ("missing", "empty", "cut short", "a list", "a web page")
    for path in ("config.json", "origin.json", "tokenizer/tokenizer.json", "patients.safetensors"):
        # Without tokenizer.json, vocab.txt says as much; runs of old versions have no patients.
        own = [kind for kind in kinds if kind != "missing" or path.endswith(("config.json", "origin.json"))]
        for (kind, plant), (program, argv) in itertools.product(damages(f"run/{path}", own), READERS.items()):
            yield Fault("run", f"{kind}, {program}", program, argv, (f"{{root}}/run/{path}",), plant)
    for key, (program, argv) in itertools.product(("model.dim", "data.text_length"), READERS.items()):
        plant = lacking("run/config.json", key)
        yield Fault("run", f"config.json without {key}, {program}", program, argv, (SETTINGS,), plant)
    told = {path: path for path in ("config.json", "tokenizer/tokenizer.json", "metrics.jsonl")}
    for path, name in (told | {"features/features.json": "features"}).items():
        # Of records, none and a line that was cut off are no fault.
        own = ["a web page"] if path == "metrics.jsonl" else ["empty", "cut short", "a web page"]
        for kind, plant in damages(f"run/{path}", own):
            plants, late = in_turn(removed("run/DONE"), plant), path == "metrics.jsonl"  # it is opened by the loop
            yield Fault("run", f"{kind}, train", "train", AGAIN, (f"{{root}}/run/{name}",), plants, trains=late)


def _checkpoints() -> Iterator[Fault]:
    named = (f"{{root}}/run/{NEWEST}",)
    for what, kind in itertools.product(("_METADATA", "arrays", "checksums.json"), JUNK):
        plant = _of_checkpoint(what, kind)
        for program, argv in READERS.items():
            yield Fault("run", f"{what} {kind}, {program}", program, argv, named, plant)
        plants = in_turn(removed("run/DONE"), plant)
        yield Fault("run", f"{what} {kind}, train", "train", AGAIN, named, plants, goes_on=True)
    for kind, plant in (("absent", removed("run/checkpoints")), ("of others", foreign("run/checkpoints"))):
        for program, argv in READERS.items():
            yield Fault("run", f"checkpoints {kind}, {program}", program, argv, ("{root}/run/checkpoints",), plant)
    all_of_them = in_turn(removed("run/DONE"), _every_step)
    yield Fault("run", "all checkpoints damaged, train", "train", AGAIN, named, all_of_them)


def _states() -> Iterator[Fault]:
    undone = removed("run/DONE")
    yield Fault("run", "DONE a web page", "train", AGAIN, ("{root}/run/DONE",), written("run/DONE", b"<!DOCTYPE html>"))
    yield Fault("run", "DONE empty", "train", AGAIN, ("{root}/run/DONE",), written("run/DONE", b""))
    for key, value in (("model.dim", 32), ("seed", 5), ("optim.learning_rate", 0.5), ("batch_size", 8)):
        argv = training(**{"total_steps": 4, key: value})
        yield Fault("run", f"{key}={value} where it was another", "train", argv, (key,), undone)
        yield Fault("run", f"{key}={value} of a complete run", "train", argv, (key,))
    yield Fault("run", "a file in its place", "train", AGAIN, ("{root}/run",), lambda root, chance: _file(root / "run"))
    other = removed("data/manifest.json"), foreign("data")
    yield Fault("run", "data of others", "train", AGAIN, ("{root}/data",), in_turn(undone, *other))
    beside, hosts = in_turn(undone, _locked), (Host(patch=_impatient),)
    yield Fault("run", "a start beside another", "train", AGAIN, ("another process",), beside, hosts=hosts)


def of_export() -> Iterator[Fault]:
    """An export that is not whole."""
    readers = {"predict": ("{root}/images", EXPORT, "--findings=edema"), "doctor": ("checkpoint", "{root}/export")}
    # The weights themselves say what these say, so that none is missed here; tokenizer_config.json is for others alone.
    kinds = ("empty", "cut short", "a list")
    names = ("clinicclip.json", "config.json", "preprocessor_config.json", "tokenizer.json")
    for name, (program, argv) in itertools.product(names, readers.items()):
        for kind, plant in damages(f"export/{name}", kinds):
            yield Fault("export", f"{kind}, {program}", program, argv, (f"{{root}}/export/{name}",), plant)
    for (kind, plant), (program, argv) in itertools.product(damages("export/model.safetensors"), readers.items()):
        yield Fault("export", f"{kind}, {program}", program, argv, ("{root}/export/model.safetensors",), plant)


def of_inputs() -> Iterator[Fault]:
    """Images and texts that cannot be read."""
    for program, more in (("predict", ("--findings=edema",)), ("embed", ("--output={root}/o",))):
        argv = ("{root}/images", EXPORT, *more)
        for kind, plant in damages("images/1.png", ("empty", "cut short", "a web page")):
            yield Fault("inputs", f"{kind}, {program}", program, argv, ("{root}/images/1.png",), plant, goes_on=True)
        yield Fault(
            "inputs",
            f"no such image, {program}",
            program,
            ("{root}/no.png", EXPORT, *more),
            ("{root}/no.png",),
            goes_on=True,
        )
        empty = in_turn(removed("images/0.png"), removed("images/1.png"))
        yield Fault("inputs", f"no images, {program}", program, argv, ("{root}/images",), empty)
    argv = ("--texts={root}/texts.txt", EXPORT, "--output={root}/o")
    for kind, plant in (
        ("no texts", removed("texts.txt")),
        ("empty texts", written("texts.txt", b"")),
        ("texts not UTF-8", written("texts.txt", b"\xff\xfe\x00")),
    ):
        yield Fault("inputs", kind, "embed", argv, ("{root}/texts.txt",), plant)


def _of_checkpoint(what: str, kind: str) -> Plant:
    def plant(root: Path, chance: random.Random) -> None:
        paths = {"_METADATA": f"run/{NEWEST}/state/_METADATA", "checksums.json": f"run/{NEWEST}/checksums.json"}
        largest = max((root / ARRAYS).iterdir(), key=lambda path: path.stat().st_size).name
        JUNK[kind](paths.get(what, f"{ARRAYS}/{largest}"))(root, chance)

    return plant


def _every_step(root: Path, chance: random.Random) -> None:
    for step in (root / "run" / "checkpoints").iterdir():
        os.truncate(step / "state" / "_METADATA", 1)


def _file(path: Path) -> None:
    gone(path)
    path.write_text("x")


def _impatient() -> None:
    train.HANDOVER = 1.0


_held: list[int] = []


def _locked(root: Path, chance: random.Random) -> None:
    """As if another start were at work."""
    while _held:
        os.close(_held.pop())
    _held.append(os.open(root / "run" / "lock", os.O_RDWR | os.O_CREAT))
    fcntl.flock(_held[0], fcntl.LOCK_EX)
