"""All faults that `run_faults` judges, by place; here those of settings, command lines and data."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import run_fault_folders
import run_fault_machines
from run_fault_plants import JUNK, damages, foreign, gone, lacking
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
    planted = [*damages("data/manifest.json", [kind for kind in JUNK if kind not in ("missing", "changed")])]
    planted += [
        (f"manifest without {key}", lacking("data/manifest.json", key)) for key in ("version", "splits", "name")
    ]
    planted += [(f"manifest without {key}", lacking("data/manifest.json", key)) for key in ("files", "folder", "title")]
    planted += damages(f"{folder}/dataset_info.json", ("missing", "empty", "cut short", "a list"))
    planted += damages(f"{folder}/features.json", ("missing", "empty", "cut short", "a list"))
    planted += damages(shard, ("missing", "empty", "cut short"))
    planted += [
        ("shard of zeros", lambda root, chance: (root / shard).write_bytes(bytes((root / shard).stat().st_size)))
    ]
    planted += [("data a file", lambda root, chance: (gone(root / "data"), (root / "data").write_text("x")))]
    planted += [("data of others", foreign("data"))]
    for (kind, plant), (program, argv) in itertools.product(planted, users.items()):
        yield Fault("data", f"{kind}, {program}", program, argv, ("/data",), plant)


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
