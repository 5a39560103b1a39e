"""Is a run on prepared data in an object store that on the folder they were put there from? With stand-ins for stores.

moto stands in for S3 and gcp-storage-emulator for Google's store, both on this machine; their clients, s3fs and gcsfs,
are the real ones. Every run is `train` as a user starts it, in a process of its own. Where a shard in the store has
changed, a start that has no copy yet must end with one line that names it.

    pip install 'clinicclip[gs,s3]' 'moto[server]' gcp-storage-emulator
    python bench/stores.py [--only=gs|s3]

The last line is JSON; its value is the share of stores with an equal run, to the bit, and a changed shard told.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import fsspec
from faults import command, ended, run

from clinicclip import cli

PATIENCE = 60.0  # seconds that a stand-in may take to answer


class StandIn(NamedTuple):
    """What serves in place of a store, and what tells its client where; {port} is a free one."""

    words: tuple[str, ...]
    variables: Mapping[str, str]


STORES = {
    "gs": StandIn(
        ("gcp_storage_emulator", "start", "--host=127.0.0.1", "--port={port}", "--in-memory"),
        {"STORAGE_EMULATOR_HOST": "http://127.0.0.1:{port}", "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"},
    ),
    "s3": StandIn(
        ("moto.server", "--host=127.0.0.1", "--port={port}"),
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"},
    ),
}


@contextmanager
def serving(name: str) -> Iterator[None]:
    """A stand-in for a store while a ``with`` lasts. Raises RuntimeError where none comes."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    words = [word.format(port=port) for word in STORES[name].words]
    quiet = subprocess.DEVNULL
    with subprocess.Popen([sys.executable, "-m", *words], stdout=quiet, stderr=quiet) as server:
        try:
            end = time.monotonic() + PATIENCE
            while not _answers(port):
                if server.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"{words[0]} does not serve: is it installed?")
                time.sleep(0.1)
            os.environ.update({key: value.format(port=port) for key, value in STORES[name].variables.items()})
            yield
        finally:
            server.terminate()


def _answers(port: int) -> bool:
    with socket.socket() as line:
        return line.connect_ex(("127.0.0.1", port)) == 0


def compared(name: str, folder: Path) -> tuple[bool, bool]:
    """Of a store: whether a run on its data equals that on the folder, and whether a changed shard is told."""
    place = f"{name}://bucket/data"
    with serving(name):
        system = fsspec.filesystem(name)
        system.mkdir("bucket")
        system.put(f"{folder / 'data'}/", "bucket/data", recursive=True)
        started(place, folder / name)
        same = ended(folder / name) == ended(folder / "folder")
        shard = next(path for path in system.find("bucket/data") if "train.array_record" in path)
        content = bytearray(system.cat_file(shard))
        content[len(content) // 2] ^= 1
        system.pipe_file(shard, bytes(content))
        try:
            started(place, folder / f"{name}.changed")
        except RuntimeError as fault:
            said = f"{name}://{shard} is not what its manifest says"
            return same, said in str(fault) and "Traceback" not in str(fault)
    return same, False


def started(place: str, workdir: Path) -> None:
    """Trains on the data of a place, of which there is no copy yet. Raises RuntimeError where that fails."""
    os.environ["XDG_CACHE_HOME"] = f"{workdir}.cache"
    run(command(place, workdir))


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(program="bench/stores.py", description=__doc__ or "", example="python bench/stores.py")
    flags.add_argument("--only", type=cli.one_of(STORES), metavar="STORE", help="one of them: gs or s3")
    return flags


def main(args: argparse.Namespace) -> int:
    """Runs, compares and prints."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/compiled"
        started(str(folder / "data"), folder / "folder")
        found = {}
        for store in [args.only] if args.only else STORES:
            same, told = found[store] = compared(store, folder)
            print(f"{store}: run equal {same}, changed shard told {told}", flush=True)
    value = sum(all(each) for each in found.values()) / len(found)
    detail = {store: {"equal": same, "told": told} for store, (same, told) in found.items()}
    return cli.measured("stores", value, "share of stores with an equal run", 1.0, detail, met=value == 1.0)


if __name__ == "__main__":
    cli.run(main, parser())
