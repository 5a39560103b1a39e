"""What must hold before a run starts: each machine can do its part, and several machines agree.

Every process notes down its facts, hears those of all, and comes to the same judgement on them.
"""

import hashlib
import os
import platform
import shutil
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import jax
from jaxtyping import PyTree
from ml_collections import ConfigDict

import clinicclip
from clinicclip import config as config_files
from clinicclip import tabular
from clinicclip.data import stores
from clinicclip.errors import UserError
from clinicclip.tabular import Table
from clinicclip.training import processes
from clinicclip.training.roll_call import Note, spans

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
# What each machine may have of its own: where its copy of the data lies, and how it reads them.
OF_A_MACHINE = ("data.dir", "data.workers", "data.threads", "data.memory_bytes")
LEAST_FREE = 256 * 2**20  # bytes of disk, before it is known what a checkpoint takes
CHECKPOINTS = 2  # that there must be room for: the next one is written before the last one goes
CLOCKS = 5.0  # seconds by which clocks may differ
ACCELERATORS = ("nvidia[0-9]*", "accel[0-9]*", "vfio/[0-9]*")
PROBLEM = "PROBLEM"
NAMED = 8  # hosts named in a row


def start(config: ConfigDict, workdir: Path) -> None:
    """Joins the processes of a run, once all of them are there and agree; ``data.dir`` is then a folder here.

    Raises:
        UserError: a process is missing, a machine cannot do its part, some differ, with a table of who, or the data
            of a store cannot be copied.
    """
    data = stores.digest(config.data.dir) or "not there"
    noted = note(workdir, settings(config) | {"data": data})
    hosts: list[str] = []

    def agree(notes: list[Note]) -> None:
        hosts[:] = [other["host"] for other in notes]
        require(notes)

    processes.join(noted, agree, config.heartbeat_timeout)
    if jax.process_count() > 1:
        require_same_devices(hosts)
    # Only now, as who has no copy yet may take long; and not as the first exchange of all, for which gloo waits 30 s.
    processes.everywhere(lambda: None)
    config.data.dir = processes.everywhere(lambda: str(stores.local(config.data.dir)))[jax.process_index()]


def settings(config: ConfigDict) -> dict[str, str]:
    """What all machines must have set alike: the value of each setting but those that are a machine's own."""
    return {f"config {key}": str(value) for key, value in config_files.leaves(config) if key not in OF_A_MACHINE}


def note(workdir: Path, run: Mapping[str, str] | None = None) -> Note:
    """The facts of this machine: those that must be equal on all, with those of the ``run``, and what is wrong."""
    versions = {name: metadata.version(name) for name in PACKAGES}
    code = f"{clinicclip.__version__}, files {code_digest()}"
    folder = nearest_folder(workdir)
    free = shutil.disk_usage(folder).free
    return {
        "host": platform.node(),
        "same": {"clinicclip": code, "python": platform.python_version(), **versions, **(run or {})},
        "folder": str(folder),
        "free": free,
        "faults": _storage_faults(folder, free),
    }


def code_digest() -> str:
    """Twelve hexadecimal digits that stand for all files of the installed package."""
    root = Path(clinicclip.__file__).parent
    files = sorted(path for path in root.rglob("*") if path.suffix in (".py", ".json"))
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def nearest_folder(path: Path) -> Path:
    """The folder itself, or the one of its parents that is there."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def require(notes: Sequence[Note]) -> None:
    """Raises UserError, with a table, where a machine is at fault or some differ."""
    rows = problems(notes)
    if rows:
        says = "this machine is not ready" if len(notes) == 1 else f"the {len(notes)} processes are not ready as one"
        raise UserError(f"{says}; mend what is listed and start again:", _lines(rows))


def require_same_devices(hosts: Sequence[str]) -> None:
    """Raises UserError, with a table, where the processes that joined have other devices; ``hosts`` by process."""
    rows = differing("devices", devices_of_all(), hosts)
    if rows:
        raise UserError("the processes have different devices; give each the same kind and number:", _lines(rows))


def require_room(workdir: Path, state: PyTree) -> None:
    """Raises UserError where the disk has no room for the checkpoints of a training state."""
    needed = CHECKPOINTS * sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    free = shutil.disk_usage(workdir).free
    if free < needed:
        raise UserError(
            f"{workdir}: {free / 2**20:,.0f} MiB are free, {CHECKPOINTS} checkpoints take {needed / 2**20:,.0f}; free "
            "space or choose another folder, then run again"
        )


def problems(notes: Sequence[Note]) -> Table:
    """What keeps machines from running as one: rows of what, which value, and who has it; none where all is well."""
    hosts = [each["host"] for each in notes]
    rows: Table = []
    for index, each in enumerate(notes):
        rows += [[what, fault, _who([index], hosts)] for what, fault in each["faults"].items()]
    for what in dict.fromkeys(what for each in notes for what in each["same"]):
        rows += differing(what, [each["same"].get(what, "unknown") for each in notes], hosts)
    return rows + _clocks([each["clock"] for each in notes], hosts)


def differing(what: str, values: Sequence[str], hosts: Sequence[str]) -> Table:
    """A row for each of the values by process, the most frequent first; none where there is one value only."""
    groups: dict[str, list[int]] = {}
    for index, value in enumerate(values):
        groups.setdefault(value, []).append(index)
    ranked = sorted(groups.items(), key=lambda group: -len(group[1]))
    return [[what, value, _who(members, hosts)] for value, members in ranked] if len(ranked) > 1 else []


def devices_of_all() -> list[str]:
    """The devices of each process, such as ``4 TPU v4``."""
    kinds: list[list[str]] = [[] for _ in range(jax.process_count())]
    for device in jax.devices():
        kinds[device.process_index].append(device.device_kind)
    return [", ".join(f"{own.count(kind)} {kind}" for kind in sorted(set(own))) or "none" for own in kinds]


def facts(noted: Note) -> Table:
    """What this machine is, for people: rows of what, OK or PROBLEM, and what was found. Asks jax for devices."""
    same, faults = noted["same"], noted["faults"]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    found = {
        "host": noted["host"],
        "system": platform.platform(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "python": same["python"],
        "clinicclip": same["clinicclip"],
        "packages": ", ".join(f"{name} {same[name]}" for name in PACKAGES),
        "run folder": noted["folder"],
        "disk": f"{noted['free'] / 2**30:.0f} GiB free",
        "devices": devices_of_all()[jax.process_index()],
        "accelerators": ", ".join(accelerators()) or "none",
    }
    if found["accelerators"] != "none" and jax.default_backend() == "cpu":
        faults = faults | {"devices": "jax sees no accelerator: pip install 'clinicclip[cuda]' or 'clinicclip[tpu]'"}
    return [[what, PROBLEM if what in faults else "OK", faults.get(what, value)] for what, value in found.items()]


def accelerators(devices: Path = Path("/dev")) -> list[str]:
    """The device files of accelerators that the system has: NVIDIA's GPUs and TPU chips."""
    return sorted(path.as_posix() for pattern in ACCELERATORS for path in devices.glob(pattern))


def _storage_faults(folder: Path, free: int) -> dict[str, str]:
    """What is wrong with the place of a run's folder, by what it is about."""
    faults = {}
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as fault:
        faults["run folder"] = f"{folder} cannot be written ({fault.strerror})"
    if free < LEAST_FREE:
        faults["disk"] = f"{free / 2**20:.0f} MiB free in {folder}, {LEAST_FREE // 2**20} are needed"
    return faults


def _clocks(clocks: Sequence[float], hosts: Sequence[str]) -> Table:
    middle = statistics.median_low(clocks)
    odd = {index: clock - middle for index, clock in enumerate(clocks) if abs(clock - middle) > CLOCKS}
    return [["clock", f"{ahead:+.0f} s from the others'", _who([index], hosts)] for index, ahead in odd.items()]


def _who(members: Sequence[int], hosts: Sequence[str]) -> str:
    names = sorted({hosts[index] for index in members})
    shown = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    return f"{spans(members)} ({shown})"


def _lines(rows: Table) -> list[str]:
    return tabular.aligned([["what", "found", "process (host)"], *rows])
