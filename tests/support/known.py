"""The phantom world as a set whose truth is known, and embedding functions over it that can exactly so much.

What labels decide, and what not, for who reads gold labels in the image:

    suite                        reads statements (`reader`)   knows a report's labels (`labels`)
    zero_shot, five_way          perfect                       perfect
    normality, subgroups         perfect                       perfect
    operating                    perfect but for calibration   perfect but for calibration
    pair_strict                  perfect                       perfect
    cxr_align                    perfect                       not asked: altered reports have no labels
    retrieval, label F1 at 1     reports leave findings unsaid perfect
    retrieval, recall and ranks  equal labels are no one study equal labels are no one study
    probe                        perfect with enough patients  the same
    grounding                    not asked: boxes decide, not labels (`patches` holds maps that know them)
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from planted import WIDTH, by_image, by_text, noise, unit

from clinicclip.data import records, schema, text
from clinicclip.data.releases import phantom
from clinicclip.evals import prompts
from clinicclip.evals.base import EmbedFns, EvalSet, Rows

SIDE = 32
NORMAL = schema.INDEX["no_finding"]
PROMPTS = {
    prompt: (finding, sign)
    for finding in schema.FINDINGS
    for sign, side in zip((1, -1), prompts.REPORTS.ensemble(finding), strict=True)
    for prompt in side
}


@cache
def world(studies: int = 240, first: int = 0) -> EvalSet:
    """Studies of the easy phantom world, from number ``first`` on."""
    made = [records.make(phantom._study("easy", i, 0, 64), records.Recipe()) for i in range(first, first + studies)]
    assert all(isinstance(record, dict) for record in made)
    return EvalSet.from_records("world", "test", made, SIDE, True, phantom=True, release="phantom")


def gold(evalset: EvalSet) -> np.ndarray:
    """+1 for each finding that is there and -1 for each that is not, the last place for normality.

    The finer findings are not coded; the reports of this world state all that is there.
    """
    coded = np.isfinite(evalset.truth).any(axis=0)
    truth = 2 * np.where(coded, evalset.truth, evalset.mentioned == 1) - 1.0
    truth[:, NORMAL] = 0
    return np.column_stack([truth, 2 * evalset.normal - 1])


def stated(said: str) -> np.ndarray:
    """+1 for each finding that a text affirms, -1 for each it denies; normality where it names none."""
    vector = np.zeros(WIDTH + 1)
    for sentence in text.sentences(said, ""):
        if sentence.finding >= 0 and vector[sentence.finding] <= 0:
            vector[sentence.finding] = {schema.PRESENT: 1, schema.ABSENT: -1}.get(sentence.polarity, 0)
    vector[WIDTH] = 0.0 if vector.any() else 1.0
    return vector


def _read(said: str) -> np.ndarray:
    """A prompt by the finding it is about, any other text by what it states."""
    if said not in PROMPTS:
        return stated(said)
    finding, sign = PROMPTS[said]
    vector = np.zeros(WIDTH + 1)
    vector[WIDTH if finding == "no_finding" else schema.INDEX[finding]] = sign
    return vector


def _named(said: str) -> np.ndarray:
    """1 for each finding that a text names, affirmed or denied."""
    vector = np.abs(_read(said)) + 1e-3
    vector[WIDTH] = 1e-3
    return vector


def reader(evalset: EvalSet) -> EmbedFns:
    """Sees the gold labels, understands every statement."""
    rows = gold(evalset)
    return EmbedFns(by_image(evalset, lambda row: rows[row]), by_text(_read))


def labels(evalset: EvalSet) -> EmbedFns:
    """Sees the gold labels, and knows those of the study that a report belongs to."""
    rows = gold(evalset)
    of_report = {report: rows[row] for row, report in enumerate(evalset.reports)}
    return EmbedFns(by_image(evalset, lambda row: rows[row]), by_text(lambda t: of_report.get(t, _read(t))))


def spotter(evalset: EvalSet) -> EmbedFns:
    """Sees the gold labels, and hears of a text only which findings it names, affirmed or denied."""
    rows = gold(evalset)
    return EmbedFns(by_image(evalset, lambda row: rows[row]), by_text(_named))


def prior(evalset: EvalSet) -> EmbedFns:
    """Understands every statement and sees nothing: each image is the usual one, by the findings' prevalence."""
    usual = gold(evalset).mean(axis=0)
    return EmbedFns(by_image(evalset, lambda row: usual), by_text(_read))


def label_free(evalset: EvalSet, seed: int) -> EmbedFns:
    """Directions that depend on nothing but the seed, the image's place and the text's letters."""
    images = by_image(evalset, lambda row: noise(f"{seed} image {evalset.ids[row]}"))
    return EmbedFns(images, by_text(lambda said: noise(f"{seed} {said}")))


def shortcut(evalset: EvalSet) -> EmbedFns:
    """As `reader`, but takes every support device for a pneumothorax, and nothing else for one."""
    rows = gold(evalset)
    rows[:, schema.INDEX["pneumothorax"]] = rows[:, schema.INDEX["support_devices"]]
    return EmbedFns(by_image(evalset, lambda row: rows[row]), by_text(_read))


def patches(embed: EmbedFns, evalset: EvalSet, side: int, where: Callable[[int, str], np.ndarray]) -> EmbedFns:
    """Adds patches whose vectors carry, for each boxed finding, the map [side, side] of ``where(row, finding)``."""
    number = {image.tobytes(): row for row, image in enumerate(evalset.images)}

    def with_patches(pictures: np.ndarray) -> Rows:
        grids = np.full((len(pictures), side, side, WIDTH + 1), 1e-3)
        for place, picture in enumerate(pictures):
            row = number[picture.tobytes()]
            for finding in {box.finding for box in evalset.boxes[row]}:
                grids[place, :, :, schema.INDEX[finding]] = where(row, finding)
        found = unit(grids.reshape(-1, WIDTH + 1)).reshape(grids.shape)
        return embed.images(pictures)._replace(patches=found)

    return embed._replace(patches=with_patches)
