"""All faults that `run_faults` judges, by place; here those of settings, command lines and data."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import run_fault_folders
import run_fault_machines
from run_fault_plants import JUNK, damages, foreign, in_turn, lacking, removed, written, zeros
from run_faults import CONFIG, Fault, training

from clinicclip import config as config_files
from clinicclip.__main__ import PROGRAMS


def of(place: str) -> Iterator[Fault]:
    """All faults of a place."""
    return PLACES[place]()


# What a key of this type cannot be. Names of what is free to be anything are left out below.
MISTYPED = {int: "1.5", float: "much", bool: "maybe", tuple: "5"}
IMPOSSIBLE: dict[type, Sequence[str]] = {int: ("-1",), float: ("-1.0", "1e999"), str: ("nonsense",), tuple: ("('x',)",)}
FREE = ("data.dir", "data.digest", "checkpoint_best", "model.text.pad_id", "data.phantom", "model.logit_bias")

TOWERS = {  # what towers say of their settings
    "model.image.depths": ("model.image: swin: 1 depths",),
    "model.image.heads": ("model.image: swin: 2 depths and 1 heads",),
    "model.text.pooling": ("model.text: bert: pooling",),
}


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
                yield Fault("settings", f"{key}={text}", "train", words, (key, *TOWERS.get(key, ())))
    for argument, name in {
        "demoo": "demoo",
        "data=nowhere": "data=nowhere",
        "size=big": "size=big",
        "fold=9": "fold=9",
        "data=openi,fold=x": "config argument fold",
        "text=latin": "text=latin",
        "demo,fold=1": "config argument demo",
    }.items():
        line = (f"--config=configs/dt_c.py:{argument}", "--workdir={root}/new")
        yield Fault("settings", argument, "train", line, (name,))
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
        ("evaluate", (run, "--data={root}/data", "--output={root}/o"), "{root}/data"),
        ("evaluate", (run, data, "--output={root}/o", "--suite=zero"), "zero"),
        ("evaluate", (run, data, "--output={root}/o", "--split=tset"), "tset"),
        ("evaluate", (run, data, "--output={root}/o", "--draws=0"), "--draws"),
        ("evaluate", (run, data, "--output={root}/o", "--findings=lung"), "lung"),
        ("evaluate", (run, data, "--output={root}/o", "--prompts={root}/none.json"), "{root}/none.json"),
        ("evaluate", (run, data, "--output={root}/texts.txt/o"), "{root}/texts.txt/o"),
        ("evaluate", ("--compare={root}/a,{root}/b", "--output={root}/o"), "{root}/a"),
        ("export", (run + "@7", "--output={root}/o"), "step 7"),
        ("export", (run + "@x", "--output={root}/o"), "{root}/run@x"),
        ("export", ("--checkpoint={root}/none", "--output={root}/o"), "{root}/none"),
        ("export", (run, "--output={root}/o", "--dtype=int8"), "int8"),
        ("export", (run, "--output={root}/texts.txt"), "{root}/texts.txt"),
        ("predict", ("{root}/images", run, "--findings=lung"), "lung"),
        ("predict", ("{root}/images", run, "--output=xml"), "xml"),
        ("embed", ("{root}/images", run, "--output={root}/texts.txt"), "{root}/texts.txt"),
        ("finetune", (run, "--data_dir={root}/none", "--output={root}/o"), "{root}/none"),
        ("finetune", (run, "--data_dir={root}/data", "--output={root}/o", "--shares=2"), "--shares"),
        ("reproduce", ("--data=openi:{root}/none", "--output={root}/o"), "{root}/none"),
        ("reproduce", ("--data=phantom:{root}/data", "--output={root}/o", "--variants=x"), "x"),
        ("plan", (f"--config={CONFIG}", "--kind=v9"), "v9"),
        ("prepare", ("nothing", "--output={root}/o"), "nothing"),
        ("prepare", ("openi", "--source={root}/none", "--output={root}/o"), "{root}/none"),
        ("prepare", ("phantom", "--output={root}/images"), "{root}/images"),
        ("doctor", ("data", "{root}/none"), "{root}/none"),
        ("doctor", ("checkpoint", "{root}/data"), "{root}/data"),
        ("doctor", ("weather",), "weather"),
    ):
        yield Fault("commands", " ".join((program, *argv[-2:])), program, argv, (name,))


def of_data() -> Iterator[Fault]:
    """Prepared data that are not whole, for each program that opens them."""
    run = "--checkpoint={root}/run"
    users = {
        "train": training(where="new"),
        "evaluate": (run, "--data=phantom:{root}/data", "--output={root}/o", "--suite=pair_strict", "--draws=2"),
        "doctor": ("data", "{root}/data", "--output={root}/o"),
    }
    folder = "data/clinicclip_phantom/1.2.0"
    shard = f"{folder}/clinicclip_phantom-test.array_record-00000-of-00001"
    manifest = "data/manifest.json"
    damaged = {
        manifest: [kind for kind in JUNK if kind not in ("missing", "changed")],
        f"{folder}/dataset_info.json": ("missing", "empty", "cut short", "a list"),
        f"{folder}/features.json": ("missing", "empty", "cut short", "a list"),
        shard: ("missing", "empty", "cut short"),
    }
    planted = [(path, *each) for path, kinds in damaged.items() for each in damages(path, kinds)]
    keys = ("version", "splits", "name", "files", "folder", "title")
    planted += [(manifest, f"manifest without {key}", lacking(manifest, key)) for key in keys]
    planted += [
        ("data, split test: record 0", "shard of zeros", zeros(shard)),
        ("data", "data a file", in_turn(removed("data"), written("data", b"x"))),
        ("data", "data of others", foreign("data")),
    ]
    for (name, kind, plant), (program, argv) in itertools.product(planted, users.items()):
        yield Fault("data", f"{kind}, {program}", program, argv, (f"{{root}}/{name}",), plant)


PLACES = {
    "storage": run_fault_machines.of_storage,
    "hosts": run_fault_machines.of_hosts,
    "inputs": run_fault_folders.of_inputs,
    "export": run_fault_folders.of_export,
    "run": run_fault_folders.of_run,
    "data": of_data,
    "commands": of_commands,
    "settings": of_settings,
}
