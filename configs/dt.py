"""Dynamic soft labels from report text."""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
    config = common.get_config(arg)
    config.loss.text = 1.0
    return config
