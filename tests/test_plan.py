"""The plan of a run agrees with what XLA counts, what arrays hold, and what the real command prints."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from clinicclip import assemble, cli, losses, plan
from clinicclip import config as config_files
from clinicclip.devices import DEVICES, floor, this_machine
from clinicclip.expected import Expected, beside
from clinicclip.losses import LossSpec
from clinicclip.models import flops
from clinicclip.models.bert import Bert, BertSpec
from clinicclip.models.clip import ClinicCLIP, ClipSpec, init_params
from clinicclip.models.gcn import Gcn, GcnSpec
from clinicclip.models.swin import Swin, SwinSpec
from clinicclip.training import abstract, optim
from clinicclip.training.abstract import Growth, Memory
from clinicclip.training.arithmetic import step_flops
from clinicclip.training.compiled import Array, Collective
from clinicclip.training.sharding import LAYOUTS, make_mesh
from clinicclip.training.step import init_state, make_train_step

SMALL = ["--config.model.image.depths=(1,)", "--config.model.image.heads=(2,)", "--config.model.text.depth=1"]
RECOMPUTED = ["--config.model.remat=True", "--config.model.text.dropout=0.1"]  # what is saved holds dropout's keys
SWIN = SwinSpec(28, patch_size=4, window_size=7, embed_dim=32, depths=(1,), heads=(2,), drop_path=0.0)
BERT = BertSpec(50, 64, 1, 2, 128, max_positions=32, dropout=0.0)


def counted(module, *inputs: jax.ShapeDtypeStruct) -> float:
    """Floating-point operations of a forward pass as XLA counts them."""
    params = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    found = jax.jit(module.apply).lower(params, *inputs).compile().cost_analysis()
    assert found is not None
    return found["flops"]


def ints(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def floats(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_formulas_are_what_xla_counts_for_each_tower() -> None:
    swin = SwinSpec(56, patch_size=4, window_size=7, embed_dim=128, depths=(1, 1), heads=(4, 8))
    assert flops.image(swin) * 2 == pytest.approx(counted(Swin(swin), floats(2, 56, 56, 3)), rel=0.05)
    bert = BertSpec(50, width=256, depth=2, heads=4, mlp_width=1024, pooling="cls")
    assert flops.text(bert, 3, 64, 9) == pytest.approx(counted(Bert(bert), *[ints(3, 64)] * 3), rel=0.05)
    gcn = GcnSpec(feature_width=252, hidden=256, width=256)
    graphs = floats(4, 32, 256), ints(4, 48), ints(4, 48), jax.ShapeDtypeStruct((4, 32), bool)
    assert flops.graph(gcn, 32) * 4 == pytest.approx(counted(Gcn(gcn), *graphs), rel=0.05)


def test_training_triples_the_forward_pass_and_recomputing_adds_one() -> None:
    spec = ClipSpec(SWIN, BERT, dim=16)
    batch = {"image": floats(8, 28, 28), "text_ids": ints(4, 32), "labels": floats(8, 14)}
    once, again = (step_flops(spec, LossSpec(), batch, recomputed=recomputed) for recomputed in (False, True))
    forward = 8 * (flops.image(SWIN) + 2 * SWIN.out_width * spec.dim)
    assert (once["image tower"], again["image tower"]) == (3 * forward, 4 * forward)
    assert once["loss"] == again["loss"] == 3 * 2 * (2 * 8 * 8 * 16)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_planned_step_is_what_its_arrays_hold_and_xla_counts(layout: str) -> None:
    mesh, spec = make_mesh(), ClipSpec(SWIN, BERT, dim=16)
    tx = optim.make_optimizer(total_steps=4, lr=0.1, weight_decay=0.0, warmup_fraction=0.0, clip_norm=1.0)
    model, loss = ClinicCLIP(spec), LossSpec()
    texts = {f"text_{part}": ints(64, 32) for part in ("ids", "owner", "position")}
    batch = {"image": jax.ShapeDtypeStruct((64, 28, 28), jnp.uint8), **texts, "text_start": ints(64)}
    batch |= {"labels": floats(64, 14)}  # unused
    state = abstract.state(model, tx, mesh, layout)
    compiled = abstract.compile_step(make_train_step(model, tx, loss, mesh, seed=0, layout=layout), state, batch)
    memory = abstract.memory(compiled, state, batch)
    real = init_state(init_params(spec, 0), tx, mesh, layout)
    for planned, part in ((memory.parameters, real.params), (memory.optimiser, real.opt_state)):
        assert planned == sum(leaf.addressable_data(0).nbytes for leaf in jax.tree.leaves(part))
    assert memory.batch - 4 <= 8 * (28 * 28 + 3 * 32 * 4 + 4) <= memory.batch
    # Nothing is in a loop. The formula leaves out all but products, such as the optimiser.
    planned, analysis = sum(step_flops(spec, loss, batch, recomputed=False).values()) / 8, compiled.cost_analysis()
    assert analysis is not None and planned < analysis["flops"] < 1.1 * planned
    assert memory.temporaries > 0


def test_growth_finds_the_quadratic_its_batches_lie_on() -> None:
    memory = Memory(parameters=100, optimiser=200, batch=16, temporaries=100 + 8 * 50 + 8 * 3 + 8 * 8 * 2)
    grown = abstract.growth(memory, (8, 32), (8 * 25, 32 * 25), (8 * 3 + 8 * 8 * 2, 32 * 3 + 32 * 32 * 2))
    assert grown == Growth(pytest.approx(400), pytest.approx(50 + 3 + 2), pytest.approx(2))
    assert grown.at(8) == pytest.approx(memory.total)


def test_the_largest_batch_fits_and_the_next_does_not() -> None:
    grown = Growth(fixed=10.0, each=2.0, pair=0.5)
    most = grown.most(1e6, unit=24)
    assert most % 24 == 0 and grown.at(most) <= 1e6 < grown.at(most + 24)
    assert grown.most(30.0, unit=24) == 0


def test_growth_is_that_of_one_form_though_auto_turns_to_the_ring_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_files.load("configs/n_dt_c.py:demo", [tuple(flag[len("--config.") :].split("=")) for flag in SMALL])
    config.batch_size, config.total_steps = 256, 10
    assemble.resolve_widths(config, config.data.vocab_size)
    mesh, memory = make_mesh(), Memory(parameters=0, optimiser=0, batch=0, temporaries=0)
    model = ClinicCLIP(assemble.model_spec(config))
    state = abstract.state(model, assemble.optimizer(config), mesh, "replicated")
    monkeypatch.setattr(losses, "SHARDED_BYTES", 4 * 14 * 512 * 64)  # between 256 and 1,024 studies on 8 devices
    assert [losses.choose(assemble.loss_spec(config), studies, 8) for studies in (256, 1024)] == ["sharded", "ring"]
    found = plan.growth(config, 32, memory, state, mesh)
    config.loss.implementation = "sharded"
    expected = plan.growth(config, 32, memory, state, mesh)
    assert found.pair > 0 and found._replace(bound=expected.bound) == expected
    assert found.bound == losses.SHARDED_BYTES < expected.bound


def test_where_the_loss_turns_to_the_ring_pairs_stop_to_count() -> None:
    grown = Growth(fixed=10.0, each=2.0, pair=0.5, bound=50.0)
    assert grown.at(8) == 10 + 16 + 32
    assert grown.at(1000) == 10 + 2000 + 50
    assert grown.most(1e6, unit=1) == (1e6 - 60) / 2


def test_a_floor_is_at_the_peaks_and_crossing_domains_is_no_faster_than_their_ports() -> None:
    device = DEVICES["h100"]
    found = floor(device, flops=device.flops, touched=2 * device.bandwidth, sent=3 * device.link, devices=8)
    assert found == (1.0, 2.0, 3.0) and found.step == 3.0
    assert device.rate(16) == 8 * 50e9 < device.rate(8)


def test_every_domain_that_a_plan_can_exceed_has_a_network() -> None:
    assert all(device.network or device.domain >= 512 for device in DEVICES.values())


def test_devices_of_this_machine_share_what_it_has() -> None:
    alone, shared = this_machine(1), this_machine(4)
    assert alone.memory == 4 * shared.memory > 2**30
    assert min(alone.flops, alone.bandwidth, alone.link) > 1e8
    assert shared.rate(4) == shared.link


def test_the_command_plans_a_run_without_data() -> None:
    words = ["--config=configs/n_g_dtcg.py:demo", "--devices=3", "--batch_size=12", "--kind=v5e,cpu,h100", "--price=2"]
    command = [sys.executable, "-m", "clinicclip.plan", *words, *SMALL, *RECOMPUTED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "3 devices" in done.stdout and "950 steps of 12 studies (4 a device)" in done.stdout
    for told in (
        "parameters",
        "temporaries",
        "text tower",
        "all-reduce f32",
        "TPU v5e",
        "H100",
        "this CPU",
        "measured now",
        "$",
        "[4]",
    ):
        assert told in done.stdout
    assert "A100" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_a_run_tells_what_was_planned_beside_what_it_measured() -> None:
    held = Memory(parameters=2**30, optimiser=2**31, batch=2**29, temporaries=2**29)
    step = Expected(1, held, {"image tower": 2e12, "loss": 1e12}, [], 2.5e12)
    timing = {"seconds_per_step": 0.25, "peak_memory_gib": 5.0}
    told = [line.split() for line in beside(step, timing, DEVICES["v5e"])]
    assert told[1][:5] == ["time", f"{3e12 / DEVICES['v5e'].flops:.4g}", "s", "0.25", "s"]
    assert told[2][:5] == ["GiB", "of", "memory", "4.000", "5.000"] and told[3][:3] == ["TFLOP", "3", "2.5"]
    assert next(line.split() for line in beside(step, timing, None) if line.startswith("time"))[1] == "-"


def test_numbers_of_any_size_stay_apart_in_lines_of_a_hundred() -> None:
    config = ConfigDict({"total_steps": 20_000, "batch_size": 4096, "microbatch": 0, "model": {"layout": "fsdp"}})
    args = plan.parser().parse_args(["--config=x", "--devices=512", "--kind=v5e,h100", "--price=9.99"])
    large = Memory(parameters=10**12, optimiser=10**12, batch=10**12, temporaries=10**12)
    exchange = Collective("collective-permute", Array("f32", (2**20, 2**14)), 512, 123_456)
    found = plan.Plan(Expected(512, large, {"text tower": 5e19}, [exchange], 0.0), Growth(0.0, 1e3, 0.0), 10**9)
    lines = [*plan.device_lines(config, found, args), *plan.collective_lines(found.step.collectives)]
    assert max(map(len, lines)) <= 100
    rows = [line[16:].split() for line in lines if line.startswith(("  TPU v5e", "  H100 SXM 80 GB"))]
    assert [len(cells) for cells in rows] == [15, 15]  # nine, of which the times and the price are two words
    assert rows[0][:8] == ["2.938", "d", "6.105", "s", "11.78", "h", "2.938", "d"]


def test_times_and_rates_have_four_digits_and_a_unit() -> None:
    spans = [plan._span(seconds) for seconds in (0.0, 4.2e-8, 0.01234567, 1.5, 252_876.49523, 6e9)]
    assert spans == ["0 us", "0.04200 us", "12.35 ms", "1.500 s", "2.927 d", "69,444 d"]
    assert [plan._figure(rate) for rate in (0.000253, 5.12345, 51.2345, 512.345, 51234.5)] == [
        "0.000253",
        "5.123",
        "51.23",
        "512.3",
        "51,234",
    ]
    assert [plan._dollars(price) for price in (0.5, 12345.67, 13_349_012.0)] == ["$0.50", "$12,346", "$13.35 M"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--devices=8", "--kind=v5ee"], 2, "did you mean v5e?"),
        (["--devices=513"], 2, "1 to 512"),
        (["--devices=0"], 2, "1 to 512"),
        (["--devices=8", "--price=free"], 2, "'free'"),
        (["--devices=7"], 1, "does not divide by 7 devices"),
    ],
)
def test_what_cannot_be_planned_is_one_line(
    words: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.call(plan.main, plan.parser(), ["--config=configs/baseline.py", *words]) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and says in error
