"""The faults of settings, command lines, data, run folders, exports and inputs that `run_faults` judges."""

import itertools
import json
import os
import random
import resource
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from run_faults import CONFIG, Fault, Plant, training

from clinicclip import config as config_files
from clinicclip.__main__ import PROGRAMS


def of(place: str, whole: Path) -> Iterator[Fault]:
    """All faults of a place."""
    makers = {"settings": of_settings, "commands": of_commands, "inputs": of_inputs, "storage": of_storage}
    yield from (
        makers[place]() if place in makers else {"data": of_data, "run": of_run, "export": of_export}[place](whole)
    )


# What a key of this type cannot be. Names of what is free to be anything are left out below.
MISTYPED = {int: "1.5", float: "much", bool: "maybe", tuple: "5"}
IMPOSSIBLE: dict[type, Sequence[str]] = {int: ("-1",), float: ("-1.0", "1e999"), str: ("nonsense",), tuple: ("('x',)",)}
FREE = ("data.dir", "data.digest", "checkpoint_best", "model.text.pad_id", "data.phantom", "model.logit_bias")


def of_settings() -> Iterator[Fault]:
    """What no setting can be, and names that none has."""
    for key, value in config_files.leaves(config_files.load(CONFIG)):
        misspelt = key[:-1] + "xx"
        yield Fault("settings", f"{misspelt}", "train", training(f"--config.{misspelt}=1", where="new"), (misspelt,))
        if type(value) in MISTYPED:
            text = MISTYPED[type(value)]
            yield Fault("settings", f"{key}={text}", "train", training(f"--config.{key}={text}", where="new"), (key,))
        for text in IMPOSSIBLE.get(type(value), ()):
            if not key.startswith(FREE) and not (key == "model.logit_scale" and text == "-1.0"):
                words = training(f"--config.{key}={text}", where="new")
                yield Fault(
                    "settings", f"{key}={text}", "train", words, (key, key.rpartition(".")[2], "'x'", "nonsense")
                )
    for argument in ("demoo", "data=nowhere", "size=big", "fold=9", "data=openi,fold=x", "text=latin", "demo,fold=1"):
        line = (f"--config=configs/dt_c.py:{argument}", "--workdir={root}/new")
        yield Fault("settings", argument, "train", line, ("config argument",))
    for name in ("configs/dtc.py", "configs/nothing/at_all.py", "README.md"):
        yield Fault("settings", name, "train", (f"--config={name}", "--workdir={root}/new"), (Path(name).name,))


def of_commands() -> Iterator[Fault]:
    """Lines that say too much, too little or what is not there."""
    for program in PROGRAMS:
        yield Fault("commands", f"{program} --colour", program, ("--colour=red",), ("--colour",))
        yield Fault("commands", f"{program} with a word too many", program, ("a", "b", "c", "--x"), ("--x", "'b'"))
    needed = {"train": "--config", "evaluate": "--output", "export": "--checkpoint", "embed": "--checkpoint"}
    needed |= {"reproduce": "--data", "finetune": "--checkpoint", "plan": "--config", "predict": "images"}
    for program, flag in needed.items():
        yield Fault("commands", f"{program} without anything", program, (), (flag,))
    run = "--checkpoint={root}/run"
    data = "--data=phantom:{root}/data"
    for program, argv, name in (
        ("train", training("--profile_steps=5:2", where="new"), "profile_steps"),
        ("train", training("--config.seed", where="new"), "--config.seed"),
        ("evaluate", (run, "--data={root}/data", "--output={root}/o"), "--data"),
        ("evaluate", (run, data, "--output={root}/o", "--suite=zero"), "zero"),
        ("evaluate", (run, data, "--output={root}/o", "--split=tset"), "tset"),
        ("evaluate", (run, data, "--output={root}/o", "--draws=0"), "--draws"),
        ("evaluate", (run, data, "--output={root}/o", "--findings=lung"), "lung"),
        ("evaluate", (run, data, "--output={root}/o", "--prompts={root}/none.json"), "none.json"),
        ("evaluate", (run, data, "--output={root}/texts.txt/o"), "texts.txt"),
        ("evaluate", ("--compare={root}/a,{root}/b", "--output={root}/o"), "/a"),
        ("export", (run + "@7", "--output={root}/o"), "step 7"),
        ("export", (run + "@x", "--output={root}/o"), "@x"),
        ("export", ("--checkpoint={root}/none", "--output={root}/o"), "none"),
        ("export", (run, "--output={root}/o", "--dtype=int8"), "int8"),
        ("export", (run, "--output={root}/texts.txt"), "texts.txt"),
        ("predict", ("{root}/images", run, "--findings=lung"), "lung"),
        ("predict", ("{root}/images", run, "--output=xml"), "xml"),
        ("embed", ("{root}/images", run, "--output={root}/texts.txt"), "texts.txt"),
        ("finetune", (run, "--data_dir={root}/none", "--output={root}/o"), "none"),
        ("finetune", (run, "--data_dir={root}/data", "--output={root}/o", "--shares=2"), "--shares"),
        ("reproduce", ("--data=openi:{root}/none", "--output={root}/o"), "none"),
        ("reproduce", ("--data=phantom:{root}/data", "--output={root}/o", "--variants=x"), "x"),
        ("plan", (f"--config={CONFIG}", "--kind=v9"), "v9"),
        ("prepare", ("nothing", "--output={root}/o"), "nothing"),
        ("prepare", ("openi", "--source={root}/none", "--output={root}/o"), "none"),
        ("prepare", ("phantom", "--output={root}/images"), "images"),
        ("doctor", ("data", "{root}/none"), "none"),
        ("doctor", ("checkpoint", "{root}/data"), "data"),
        ("doctor", ("weather",), "weather"),
    ):
        yield Fault("commands", " ".join((program, *argv[-2:])), program, argv, (name,))


def removed(path: str) -> Plant:
    """A file or folder that is not there."""
    return lambda root, chance: _gone(root / path)


def _gone(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def written(path: str, content: bytes) -> Plant:
    """A file of other content."""

    def plant(root: Path, chance: random.Random) -> None:
        (root / path).write_bytes(content)

    return plant


def halved(path: str) -> Plant:
    """A file cut short."""
    return lambda root, chance: os.truncate(root / path, (root / path).stat().st_size // 2)


def changed(path: str) -> Plant:
    """A file with eight bytes of another value somewhere."""

    def plant(root: Path, chance: random.Random) -> None:
        content = bytearray((root / path).read_bytes())
        at = chance.randrange(max(1, len(content) - 8))
        content[at : at + 8] = bytes(byte ^ 0xFF for byte in content[at : at + 8])
        (root / path).write_bytes(content)

    return plant


def lacking(path: str, key: str) -> Plant:
    """A JSON file without one of its keys."""

    def plant(root: Path, chance: random.Random) -> None:
        held = json.loads((root / path).read_text())
        *parents, last = key.split(".")
        inner = held
        for name in parents:
            inner = inner[name]
        del inner[last]
        (root / path).write_text(json.dumps(held))

    return plant


JUNK = {"missing": removed, "empty": lambda path: written(path, b""), "cut short": halved, "changed": changed}
JUNK |= {
    "a list": lambda path: written(path, b"[1, 2]"),
    "a web page": lambda path: written(path, b"<!DOCTYPE html>\n"),
}


def _damages(path: str, kinds: Sequence[str] = tuple(JUNK)) -> Iterator[tuple[str, Plant]]:
    return ((f"{path} {kind}", JUNK[kind](path)) for kind in kinds)


def of_data(whole: Path) -> Iterator[Fault]:
    """Prepared data that are not whole, for each program that opens them."""
    run = "--checkpoint={root}/run"
    users = {
        "train": training(where="new"),
        "evaluate": (run, "--data=phantom:{root}/data", "--output={root}/o", "--suite=pair_strict", "--draws=2"),
        "doctor": ("data", "{root}/data", "--output={root}/o"),
    }
    folder = "data/phantom/1.2.0"
    shard = f"{folder}/phantom-test.array_record-00000-of-00001"
    planted = [*_damages("data/manifest.json", [kind for kind in JUNK if kind not in ("missing", "changed")])]
    planted += [
        (f"manifest without {key}", lacking("data/manifest.json", key)) for key in ("version", "splits", "name")
    ]
    planted += [(f"manifest without {key}", lacking("data/manifest.json", key)) for key in ("files", "folder", "title")]
    planted += _damages(f"{folder}/dataset_info.json", ("missing", "empty", "cut short", "a list"))
    planted += _damages(f"{folder}/features.json", ("missing", "empty", "cut short", "a list"))
    planted += _damages(shard, ("missing", "empty", "cut short"))
    planted += [
        ("shard of zeros", lambda root, chance: (root / shard).write_bytes(bytes((root / shard).stat().st_size)))
    ]
    planted += [("data a file", lambda root, chance: (_gone(root / "data"), (root / "data").write_text("x")))]
    planted += [("data of others", _foreign("data"))]
    for (kind, plant), (program, argv) in itertools.product(planted, users.items()):
        yield Fault("data", f"{kind}, {program}", program, argv, ("/data",), plant)


def of_run(whole: Path) -> Iterator[Fault]:
    """A run's folder that is not whole, for what reads it and what goes on with it."""
    run = "--checkpoint={root}/run"
    readers = {
        "evaluate": (run, "--data=phantom:{root}/data", "--output={root}/o", "--suite=pair_strict", "--draws=2"),
        "export": (run, "--output={root}/o"),
        "predict": ("{root}/images", run, "--findings=edema"),
    }
    newest = sorted((whole / "run" / "checkpoints").iterdir(), key=lambda path: int(path.name))[-1].name
    state = f"run/checkpoints/{newest}"
    sealed = [path.relative_to(whole).as_posix() for path in (whole / state).rglob("*") if path.is_file()]
    sealed.sort(key=lambda path: (whole / path).stat().st_size)
    for path in ("run/config.json", "run/origin.json", "run/tokenizer/tokenizer.json", "run/patients.safetensors"):
        kinds = [kind for kind in JUNK if kind != "changed" and (kind, path) != ("missing", "run/patients.safetensors")]
        if path.endswith("tokenizer.json"):  # without it, vocab.txt says as much
            kinds.remove("missing")
        for (kind, plant), (program, argv) in itertools.product(_damages(path, kinds), readers.items()):
            yield Fault("run", f"{kind}, {program}", program, argv, (Path(path).name, "run/tokenizer"), plant)
    for key in ("model.dim", "data.text_length", "model.image.depths"):
        for program, argv in readers.items():
            yield Fault(
                "run",
                f"config.json without {key}, {program}",
                program,
                argv,
                ("config.json",),
                lacking("run/config.json", key),
            )
    (metadata,) = (path for path in sealed if path.endswith("state/_METADATA"))
    for path, kind in itertools.product((metadata, sealed[-1]), ("missing", "cut short", "changed")):
        for program, argv in readers.items():
            yield Fault("run", f"{path} {kind}, {program}", program, argv, (f"checkpoints/{newest}",), JUNK[kind](path))
        unsealed = _then(removed(f"{state}/checksums.json"), JUNK[kind](path))
        name = (f"checkpoints/{newest}",)
        if kind != "changed":
            yield Fault("run", f"unsealed {path} {kind}, evaluate", "evaluate", readers["evaluate"], name, unsealed)
        unfinished = _then(removed("run/DONE"), JUNK[kind](path))
        name = (f"checkpoints/{newest}",)
        yield Fault("run", f"{path} {kind}, train", "train", training(total_steps=4), name, unfinished, goes_on=True)
    resumed = training(total_steps=4)
    for path in ("config.json", "metrics.jsonl", "features/features.json", "tokenizer/tokenizer.json"):
        for kind, plant in _damages(f"run/{path}", ("empty", "cut short", "a web page")):
            if (path, kind.split(" ", 1)[1]) not in (("metrics.jsonl", "empty"), ("metrics.jsonl", "cut short")):
                names = (Path(path).name, Path(path).parent.name + ":")
                yield Fault("run", f"{kind}, train", "train", resumed, names, _then(removed("run/DONE"), plant))
    yield Fault("run", "DONE a web page, train", "train", resumed, ("DONE",), written("run/DONE", b"<!DOCTYPE html>"))
    other = training(**{"total_steps": 4, "model.dim": 32})
    yield Fault("run", "other settings, train", "train", other, ("model.dim",), removed("run/DONE"))
    for program in ("evaluate", "export"):
        argv = readers[program]
        yield Fault(
            "run", f"foreign checkpoints, {program}", program, argv, ("checkpoints",), _foreign("run/checkpoints")
        )


def _foreign(path: str) -> Plant:
    """A folder in whose place another one stands."""
    return lambda root, chance: (_gone(root / path), (root / "images").rename(root / path))


def _then(*plants: Plant) -> Plant:
    def plant(root: Path, chance: random.Random) -> None:
        for each in plants:
            each(root, chance)

    return plant


def of_export(whole: Path) -> Iterator[Fault]:
    """An export that is not whole."""
    use = "--checkpoint={root}/export"
    readers = {"predict": ("{root}/images", use, "--findings=edema"), "doctor": ("checkpoint", "{root}/export")}
    for path in sorted((whole / "export").glob("*.json")):
        if path.name in ("parity.json", "open_clip_config.json"):
            continue
        for (kind, plant), (program, argv) in itertools.product(
            _damages(f"export/{path.name}", ("missing", "empty", "cut short", "a list")), readers.items()
        ):
            yield Fault("export", f"{kind}, {program}", program, argv, ("/export",), plant)
    for (kind, plant), (program, argv) in itertools.product(_damages("export/model.safetensors"), readers.items()):
        yield Fault("export", f"{kind}, {program}", program, argv, ("/export",), plant)


def of_inputs() -> Iterator[Fault]:
    """Images and texts that cannot be read."""
    use = "--checkpoint={root}/export"
    for program, more in (("predict", ("--findings=edema",)), ("embed", ("--output={root}/o",))):
        argv = ("{root}/images", use, *more)
        for kind, plant in _damages("images/1.png", ("empty", "cut short", "a web page")):
            yield Fault("inputs", f"{kind}, {program}", program, argv, ("1.png",), plant, goes_on=True)
        yield Fault("inputs", f"no such image, {program}", program, ("{root}/no.png", use, *more), ("no.png",))
        empty = _then(removed("images/0.png"), removed("images/1.png"))
        yield Fault("inputs", f"no images, {program}", program, argv, ("images",), empty)
    texts = ("--texts={root}/texts.txt", use, "--output={root}/o")
    yield Fault("inputs", "no texts", "embed", texts, ("texts.txt",), removed("texts.txt"))
    yield Fault("inputs", "empty texts", "embed", texts, ("texts.txt",), written("texts.txt", b""))
    yield Fault("inputs", "texts not UTF-8", "embed", texts, ("texts.txt",), written("texts.txt", b"\xff\xfe\x00"))


def of_storage() -> Iterator[Fault]:
    """Disks that are full after a few bytes, and places where nothing can be written."""
    run, use = "--checkpoint={root}/run", "--checkpoint={root}/export"
    sets = ("--data=phantom:{root}/data", "--suite=pair_strict", "--draws=2")
    for most, place in ((0, "{root}/o"), (2000, "{root}/o"), (resource.RLIM_INFINITY, "/proc/o")):
        for program, argv in {
            "train": training(f"--workdir={place}"),
            "evaluate": (run, *sets, f"--output={place}"),
            "export": (run, f"--output={place}"),
            "embed": ("{root}/images", use, f"--output={place}"),
            "prepare": ("phantom", "--studies=40", f"--output={place}"),
            "doctor": ("data", "{root}/data", f"--output={place}"),
        }.items():
            kind = f"{program}, files of {most} bytes" if place.startswith("{") else f"{program} to {place}"
            yield Fault("storage", kind, program, argv, ("/o", "/proc"), most=most)
