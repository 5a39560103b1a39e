"""An export goes to a hub when it is told to, whole, private and by its own id; faults are one line."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import fake_hub
import micro_export
import pytest
from huggingface_hub import constants

from clinicclip import cli, push


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_hub.Hub]:
    with fake_hub.serving() as hub:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "good")
        yield hub


@pytest.fixture
def folder(micro_folder: Path, tmp_path: Path) -> Path:
    """An export for a hub."""
    with micro_export.without_torch():
        micro_export.export(tmp_path / "export", hub="someone/clip")
    return tmp_path / "export"


def run(*flags: object) -> int:
    return cli.call(push.main, push.parser(), [*map(str, flags)])


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_an_export_is_sent_whole_and_private_and_nothing_beside_it(folder: Path, hub: fake_hub.Hub, capsys) -> None:
    (folder / "README.md").write_text("completed by its owner")
    sent = contents(folder)
    (folder / "notes.txt").write_text("of patients")
    assert run(folder, "--dry_run") == 0
    assert not hub.tokens and "dry run: nothing was sent" in capsys.readouterr().out
    assert run(folder) == 0
    assert hub.files == {"someone/clip": sent} and hub.made == {"someone/clip": "private"}
    printed = capsys.readouterr().out
    assert "terms of the data: Apache-2.0" in printed and f"sent: {hub.url}/someone/clip\n" in printed
    assert run(folder, "--public") == 0
    assert hub.made == {"someone/clip": "public"}
    (folder / "README.md").unlink()
    assert run(folder, "--dry_run") == 1 and "README.md: no such file" in capsys.readouterr().err


def test_the_configuration_of_open_clips_text_tower_goes_beside_it(folder: Path, hub: fake_hub.Hub) -> None:
    meta = json.loads((folder / "clinicclip.json").read_text())
    (folder / "clinicclip.json").write_text(json.dumps(meta | {"dialects": ["transformers", "open_clip"]}))
    (folder / "text").mkdir()
    (folder / "text" / "config.json").write_text("{}")
    assert run(folder) == 0
    assert hub.files["someone/clip-text"] == {"config.json": b"{}"} and hub.made["someone/clip-text"] == "private"


def test_what_cannot_be_sent_is_told_in_one_line(
    folder: Path, micro_folder: Path, hub: fake_hub.Hub, monkeypatch, capsys
) -> None:
    def told(place: Path) -> str:
        capsys.readouterr()
        assert run(place) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "written for no hub: export it again with --hub=ORG/NAME" in told(micro_folder)
    changed = shutil.copytree(folder, folder.parent / "changed")
    (changed / "config.json").write_text("other")
    assert "config.json: absent or changed since the export was written" in told(changed)
    assert "is not an export of ours" in told(folder.parent)
    assert not hub.tokens
    monkeypatch.setenv("HF_TOKEN", "bad")
    assert "the hub did not take it; nothing here was changed, push again" in told(folder)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "none"))
    assert "someone/clip: no token of the hub is here: run `hf auth login`, or set HF_TOKEN" in told(folder)
    monkeypatch.setenv("HF_TOKEN", "good")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "ConnectError" in told(folder)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "offline mode is enabled" in told(folder)
    assert not hub.files
