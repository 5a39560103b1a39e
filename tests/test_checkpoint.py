"""Checkpoints are whole or absent, and are only read into the architecture they were made of."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clinicclip.errors import UserError
from clinicclip.training import checkpoint, sharding

FILLS_THE_DISK = """
import resource, sys
import jax.numpy as jnp
from pathlib import Path
from clinicclip import cli
from clinicclip.training import checkpoint

def main(args):
    state = {"params": {str(number): jnp.arange(300_000.0) for number in range(20)}}
    with checkpoint.Checkpoints(Path(args.output)) as saved:
        saved.save(1, state, {})
        saved.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        saved.save(2, state, {})
        saved.wait()

parser = cli.Parser(program="x", description="x", example="x")
parser.add_argument("--output")
cli.run(main, parser)
"""


def state(width: int = 4) -> dict:
    mesh = sharding.make_mesh()
    values = {"params": {"a": jnp.arange(8.0 * width).reshape(8, width), "b": jnp.ones(())}, "step": jnp.int32(3)}
    return jax.device_put(values, sharding.replicated(mesh))


def test_what_is_saved_is_restored(tmp_path: Path) -> None:
    with checkpoint.Checkpoints(tmp_path) as saved:
        saved.save(3, state(), {"data": "phantom"})
        saved.wait()
        assert saved.latest == 3
        restored = saved.restore(3, jax.tree.map(jnp.zeros_like, state()))
    jax.tree.map(np.testing.assert_array_equal, restored, state())
    step, params = checkpoint.read_params(tmp_path)
    assert step == 3 and checkpoint.read_facts(tmp_path, step) == {"data": "phantom"}
    jax.tree.map(np.testing.assert_array_equal, params, jax.device_get(state()["params"]))


def test_another_architecture_is_refused_by_array(tmp_path: Path) -> None:
    with checkpoint.Checkpoints(tmp_path) as saved:
        saved.save(1, state(), {})
        saved.wait()
        with pytest.raises(UserError, match=r"another architecture \(1 arrays differ: params/a is \(8, 4\)"):
            saved.restore(1, state(width=5))


def test_a_step_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it holds none"):
        checkpoint.read_params(tmp_path / "none")
    with checkpoint.Checkpoints(tmp_path) as saved:
        saved.save(1, state(), {})
    with pytest.raises(UserError, match="no checkpoint of step 2; it holds steps 1"):
        checkpoint.read_params(tmp_path, 2)


def test_a_full_disk_is_one_line_and_keeps_the_last_whole_step(tmp_path: Path) -> None:
    line = [sys.executable, "-c", FILLS_THE_DISK, f"--output={tmp_path / 'saved'}"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "saving failed (File too large); step 1 is whole" in done.stderr
    assert checkpoint.read_params(tmp_path / "saved")[0] == 1


def three_steps(folder: Path, scores: tuple[float | None, ...] = (None, None, None), keep: int = 3) -> None:
    with checkpoint.Checkpoints(folder, keep=keep) as saved:
        for step, score in enumerate(scores, 1):
            saved.save(step, {"params": {"a": jnp.full((64, 64), float(step))}}, {}, score)
        saved.wait()


def damage(step: Path) -> Path:
    """Turns one bit of the largest file."""
    stored = [p for p in step.rglob("*") if p.is_file() and p.name not in checkpoint.UNSEALED]
    path = max(stored, key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("seal", [None, b"", b"[1]", b"[" * 9999, b"{}", b'{"/state": 1}'])
def test_a_step_whose_seal_is_gone_or_none_is_damaged(tmp_path: Path, seal: bytes | None) -> None:
    three_steps(tmp_path, scores=(None,))
    path = tmp_path / "1" / checkpoint.SEAL
    path.unlink() if seal is None else path.write_bytes(seal)
    with pytest.raises(UserError, match=r"1 is damaged .checksums.json is (missing|no table)"):
        checkpoint.read_params(tmp_path)


def test_a_step_has_its_seal_from_the_moment_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with checkpoint.Checkpoints(tmp_path) as saved, monkeypatch.context() as patch:
        patch.setattr(checkpoint.files, "write_whole", lambda path, content: named.append((tmp_path / "1").exists()))
        named: list[bool] = []
        saved.save(1, state(), {})
        saved.wait()
    assert named == [False] and (tmp_path / "1").is_dir()


def test_a_damaged_newest_step_is_named_and_the_one_before_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three_steps(tmp_path)
    changed = damage(tmp_path / "3").relative_to(tmp_path / "3")
    (tmp_path / "2" / "state" / "_METADATA").unlink()
    (tmp_path / "2.damaged" / "of an earlier start").mkdir(parents=True)
    with pytest.raises(UserError, match=f"3 is damaged .{changed} has changed"):
        checkpoint.read_params(tmp_path)
    with checkpoint.Checkpoints(tmp_path) as saved:
        told = capsys.readouterr().out
        assert f"3 is damaged ({changed} has changed) and now called 3.damaged" in told
        assert "2 is damaged (state/_METADATA is missing) and now called 2.damaged.1; going back to step 1" in told
        assert saved.latest == 1
        saved.save(3, {"params": {"a": jnp.zeros(())}}, {})
    assert checkpoint.read_params(tmp_path)[0] == 3


def test_where_every_step_is_damaged_nothing_is_started_anew_in_silence(tmp_path: Path) -> None:
    three_steps(tmp_path, scores=(None,))
    damage(tmp_path / "1")
    with pytest.raises(UserError, match="no older step is left"):
        checkpoint.Checkpoints(tmp_path)
    assert (tmp_path / "1").is_dir()


def test_the_newest_and_the_best_step_are_kept(tmp_path: Path) -> None:
    three_steps(tmp_path, scores=(0.1, 0.9, 0.3, 0.2, None, 0.4), keep=2)
    assert {path.name for path in tmp_path.iterdir()} == {"2", "5", "6"}


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ("NOT_FOUND: Error writing to local file {folder}/3", "not found"),
        ("FAILED_PRECONDITION: write {folder}/3 [source locations='os_error_code='28'']", "No space left on device"),
        ("UNKNOWN: Gloo allreduce failed: connection closed by peer", None),
        ("step 3 of {folder} is there", None),
    ],
)
def test_what_tensorstore_tells_of_a_disk_is_known_from_what_others_tell(
    told: str, why: str | None, tmp_path: Path
) -> None:
    assert checkpoint._fault_of_disk(ValueError(told.format(folder=tmp_path)), tmp_path) == why
