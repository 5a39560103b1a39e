"""Beyond the paper: soft labels t + c, negated reports, and every text against all studies that it holds for."""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
    config = common.get_config(arg)
    config.loss.text = 1.0
    config.loss.clinical = 1.0
    config.loss.negation = 1.0
    config.loss.entailment = 1.0
    return config
