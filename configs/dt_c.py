"""Dynamic soft labels from report text and clinical labels."""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
    config = common.get_config(arg)
    config.loss.text = 1.0
    config.loss.clinical = 1.0
    return config
