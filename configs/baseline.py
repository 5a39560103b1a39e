"""Plain CLIP: one-hot targets, no graph tower, no negation."""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
    config = common.get_config(arg)
    return config
