"""OFF-CLIP: off-diagonal loss for normal studies, InfoNCE over the abnormal ones, and its sentence filter."""

import math

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
    config = common.get_config(arg)
    config.data.sentence_filter = "abnormal"
    config.loss.clip = 0.0
    config.loss.off = 1.0
    config.loss.abnormal = 1.0
    config.model.logit_scale = math.log(10.0)
    config.model.logit_bias = -10.0
    config.model.learn_temperature = True
    return config
