"""Negated reports as hard negatives."""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
    config = common.get_config(arg)
    config.loss.negation = 1.0
    return config
