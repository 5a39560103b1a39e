"""The full method: soft labels t + c + g, graph alignment, negated reports as hard negatives."""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
    config = common.get_config(arg)
    config.loss.text = 1.0
    config.loss.clinical = 1.0
    config.loss.graph_stream = 1.0
    config.loss.graph = 1.0
    config.loss.negation = 1.0
    return config
