"""Graph tower: soft labels from graph similarity, and graph alignment."""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
    config = common.get_config(arg)
    config.loss.graph_stream = 1.0
    config.loss.graph = 1.0
    return config
