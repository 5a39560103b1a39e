"""What is read from compiled programs: every exchange as often as it happens, every buffer where it is."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from clinicclip.training.compiled import Array, Collective, buffers, collectives
from clinicclip.training.sharding import AXIS, by_study, make_mesh

HLO = """HloModule example, is_scheduled=true, num_partitions=8

%body (state: (s32[], f32[4,16])) -> (s32[], f32[4,16]) {
  %state = (s32[], f32[4,16]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %x = f32[4,16]{1,0} get-tuple-element(%state), index=1
  %y = f32[4,16]{1,0} collective-permute(%x), channel_id=1, source_target_pairs={{0,1},{1,0}}
  %z = f32[4,16]{1,0} call(%y), to_apply=%inner
  ROOT %out = (s32[], f32[4,16]{1,0}) tuple(%i, %z)
}

%condition (state.1: (s32[], f32[4,16])) -> pred[] {
  %state.1 = (s32[], f32[4,16]{1,0}) parameter(0)
  ROOT %less = pred[] constant(true)
}

%inner (p: f32[4,16]) -> f32[4,16] {
  %p = f32[4,16]{1,0:T(8,128)} parameter(0)
  ROOT %sum = f32[4,16]{1,0} all-reduce(%p), replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add
}

%fused (q: bf16[8]) -> bf16[8] {
  %q = bf16[8]{0} parameter(0)
  %wide = f32[8,8]{1,0} broadcast(%q), dimensions={0}
  ROOT %narrow = bf16[8]{0} slice(%wide)
}

%yes (a: f32[3]) -> f32[3] {
  %a = f32[3]{0} parameter(0)
  ROOT %shared = f32[3]{0} all-to-all(%a), replica_groups=[1,8]<=[8]
}

%no (b: f32[3]) -> f32[3] {
  ROOT %b = f32[3]{0} parameter(0)
}

ENTRY %main (x.0: bf16[8], c: (s32[], f32[4,16]), /*index=2*/flag: pred[], v: f32[3]) -> bf16[64] {
  %x.0 = bf16[8]{0} parameter(0)
  %c = (s32[], f32[4,16]{1,0}) parameter(1)
  %flag = pred[] parameter(2)
  %v = f32[3]{0} parameter(3)
  %loop = (s32[], f32[4,16]{1,0}) while(%c), condition=%condition, body=%body, TRIPS
  %f = bf16[8]{0} fusion(%x.0), kind=kLoop, calls=%fused
  %begun = (bf16[8]{0}, bf16[64]{0}) all-gather-start(%f), replica_groups=[1,8]<=[8], dimensions={0}
  %part = f32[2,6]{1,0} reduce-scatter(%v), replica_groups=[2,4]<=[8], dimensions={0}, to_apply=%add
  %either = f32[3]{0} conditional(%flag, %v, %v), true_computation=%yes, false_computation=%no
  ROOT %done = bf16[64]{0} all-gather-done(%begun)
}
""".replace("TRIPS", 'backend_config={"known_trip_count":{"n":"5"}}')


def test_exchanges_count_as_often_as_their_loops_run() -> None:
    assert set(collectives(HLO)) == {
        Collective("collective-permute", Array("f32", (4, 16)), 8, 5),
        Collective("all-reduce", Array("f32", (4, 16)), 4, 5),
        Collective("all-gather", Array("bf16", (64,)), 8, 1),
        Collective("reduce-scatter", Array("f32", (8, 6)), 4, 1),
        Collective("all-to-all", Array("f32", (3,)), 8, 1),
    }


def test_a_device_sends_the_least_a_ring_needs() -> None:
    array = Array("f32", (8, 4))
    sent = {kind: Collective(kind, array, 8, 3).sent for kind in ("all-gather", "all-reduce", "collective-permute")}
    assert array.bytes == 128
    assert sent == {"all-gather": 3 * 112, "all-reduce": 2 * 3 * 112, "collective-permute": 3 * 128}


def test_an_exchange_in_a_loop_of_unknown_length_is_refused() -> None:
    with pytest.raises(ValueError, match="trip count"):
        collectives(HLO.replace("known_trip_count", "guessed_trip_count"))


def test_text_without_an_entry_is_refused() -> None:
    with pytest.raises(ValueError, match="ENTRY"):
        collectives(HLO.replace("ENTRY ", ""))


def test_buffers_are_what_is_written_not_what_a_fusion_keeps_to_itself() -> None:
    found = {(buffer.name, str(buffer.array), buffer.computation) for buffer in buffers(HLO)}
    assert ("y", "f32[4,16]", "body") in found and ("f", "bf16[8]", "main") in found
    assert not {"wide", "x.0", "out"} & {name for name, _, _ in found}


def test_a_ring_in_a_scan_is_counted_step_by_step() -> None:
    mesh = make_mesh()
    ring = [(device, (device + 1) % 8) for device in range(8)]

    def turn(block: jax.Array) -> jax.Array:
        moved = jax.lax.scan(lambda x, _: (jnp.sin(jax.lax.ppermute(x, AXIS, ring)), None), block, length=7)
        return moved[0]

    part = PartitionSpec(AXIS)
    turned = jax.jit(jax.shard_map(turn, mesh=mesh, in_specs=part, out_specs=part))
    rows = jax.ShapeDtypeStruct((16, 5), jnp.float32, sharding=by_study(mesh))
    (found,) = collectives(turned.lower(rows).compile().as_text() or "")
    assert (found.kind, found.array, found.times) == ("collective-permute", Array("f32", (2, 5)), 7)


def test_a_matrix_of_all_pairs_is_seen_among_the_buffers() -> None:
    def pairs(x: jax.Array) -> jax.Array:
        return jnp.sort(x @ x.T, axis=1)[:, 0]

    hlo = jax.jit(pairs).lower(jax.ShapeDtypeStruct((48, 3), jnp.float32)).compile().as_text() or ""
    assert any(buffer.array.shape.count(48) == 2 for buffer in buffers(hlo))
