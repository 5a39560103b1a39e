"""Temperature and bias of the loss among the single numbers of a foreign file."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from clinicclip.errors import UserError
from clinicclip.importing.layout import Row
from clinicclip.models.torch_names import Leaf

SCALES, TEMPERATURES, BIASES = ("logit_scale",), ("temperature", "temp", "tau"), ("logit_bias",)
DEFAULT_SCALE = math.log(10.0)  # the published fixed temperature, 0.1


class LossState(NamedTuple):
    """Leaves with the arrays they stand for in our form, and the leaves that the file does not have."""

    leaves: tuple[Leaf, ...]
    arrays: dict[str, np.ndarray]
    defaults: dict[str, np.ndarray]
    rows: tuple[Row, ...]


def find_loss_state(left: Mapping[str, np.ndarray], source: str) -> LossState:
    """The logarithm of the inverse temperature, and the bias of a sigmoid loss.

    Raises UserError when either is there twice, or a temperature is none.
    """
    numbers = {key: array.reshape(()) for key, array in left.items() if array.size == 1 and array.ndim < 2}
    scale, bias = _one(numbers, SCALES + TEMPERATURES, source), _one(numbers, BIASES, source)
    leaves, arrays, rows = [], {}, []
    defaults = {"logit_scale": np.float32(DEFAULT_SCALE), "logit_bias": np.float32(0.0)}
    if scale is not None:
        as_log = scale.rpartition(".")[2] in SCALES
        arrays[scale] = numbers[scale] if as_log else _log(numbers[scale], scale, source)
        by = "name" if as_log else f"name; read as a temperature of {float(numbers[scale]):.4g}"
        rows.append(Row("logit scale", scale, f"exp({float(arrays[scale]):.4f})", by))
    else:
        rows.append(Row("logit scale", "-", f"exp({DEFAULT_SCALE:.4f})", "assumed: the published fixed temperature"))
    if bias is not None:
        arrays[bias] = numbers[bias]
        rows.append(Row("logit bias", bias, f"{float(arrays[bias]):.4f}", "name"))
    for path, key in (("logit_scale", scale), ("logit_bias", bias)):
        if key is not None:
            leaves.append(Leaf(path, (key,), "plain", ()))
            del defaults[path]
    return LossState(tuple(leaves), arrays, {k: np.asarray(v) for k, v in defaults.items()}, tuple(rows))


def _one(numbers: Mapping[str, np.ndarray], names: tuple[str, ...], source: str) -> str | None:
    found = [key for key in numbers if key.rpartition(".")[2] in names]
    if len(found) > 1:
        raise UserError(f"{source}: holds {len(found)} of one kind ({', '.join(found)}); save the one to be read alone")
    return found[0] if found else None


def _log(temperature: np.ndarray, key: str, source: str) -> np.ndarray:
    value = float(temperature)
    if not 0 < value < 1:
        raise UserError(
            f"{source}: {key} = {value:g} is no temperature between 0 and 1; save it as logit_scale, a logarithm"
        )
    return np.asarray(-math.log(value), np.float32)
