"""What makes one result differ from another: what was not the same, and, run anew, how far each of it moves a number.

From A's setting to B's one thing is exchanged after the other and everything is scored again, so that the steps add
up to the whole difference. What is left at either end is owed to the code, or to what cannot be run here.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clinicclip import files, guests, scoring, tabular
from clinicclip.errors import UserError
from clinicclip.evals import comparing, prompts, sets, stored
from clinicclip.evals.stored import Stored
from clinicclip.evals.tables import headlines
from clinicclip.scoring import Checkpoint, Setting
from clinicclip.tabular import Table

BEFORE, AFTER = "run anew", "left over"  # between what was stored and what today's code and machine give
HOW = (
    "Each column tells how far a number moves when that is exchanged, A's for B's, after all columns before it. "
    f"`{BEFORE}`: A scored again here; `{AFTER}`: from the last step to what B's folder holds. Both are 0 where code "
    "and machine do not matter."
)
Scores = dict[tuple[str, str], float]
Load = Callable[[Checkpoint], scoring.Model]


@dataclass(frozen=True)
class State:
    """One stop on the way from A to B: whose model, preprocessing, tokenizer and setting."""

    setting: Setting
    view: Checkpoint  # checkpoint that lends its preprocessing
    tokenizer: Checkpoint  # checkpoint that lends it

    @classmethod
    def own(cls, setting: Setting) -> "State":
        """A model with what is its own."""
        return cls(setting, setting.checkpoint, setting.checkpoint)


class Move(NamedTuple):
    """One exchange, and every number before and after it."""

    factor: str
    before: Scores
    after: Scores


def explain(first: Path, second: Path, output: Path) -> int:
    """Tells what differs, runs the way from A to B where both can be run, writes explain.md and explain.csv."""
    sides = stored.read(first), stored.read(second)
    differing = comparing.differences(*sides)
    files.make_folder(output)
    lines = [f"A: {first}", f"B: {second}", "", *tabular.aligned(differing)]
    if len(differing) == 1:
        lines += ["nothing that the results tell of differs"]
    print("\n".join(lines), flush=True)
    load: Load = functools.cache(Checkpoint.load)
    settings, reason = runnable(*sides, load)
    moved = [] if settings is None else walk(*sides, *settings, load)
    told = tabular.markdown(moves(moved)) if moved else [f"Not run anew: {reason}."]
    whole = [f"A: {first}", "", f"B: {second}", "", *tabular.markdown(differing), HOW, "", *told]
    files.write_whole(output / "explain.md", "\n".join(whole).rstrip() + "\n")
    if moved:
        files.write_whole(output / "explain.csv", tabular.comma_separated(steps(moved)))
    print("\n".join(["", *(tabular.aligned(moves(moved)) if moved else told)]))
    print(f"\nexplanation: {output / 'explain.md'}")
    return 0


def runnable(first: Stored, second: Stored, load: Load) -> tuple[tuple[Setting, Setting] | None, str]:
    """The settings of both where checkpoints and data are still there and the same, else why not."""
    settings = []
    for letter, side in (("A", first), ("B", second)):
        try:
            setting = Setting.load(side.folder)
            told = next(iter(side.records.values()), {})
            if told.get("parameters_sha256") != load(setting.checkpoint).describe()["parameters_sha256"]:
                return None, f"{letter}'s checkpoint {setting.checkpoint} is no longer the one that was scored"
            if told.get("prompts") != prompts.PromptSet.load(setting.prompts).describe():
                return None, f"{letter}'s prompts {setting.prompts} were changed after they were scored"
        except UserError as fault:
            return None, f"{letter} cannot be run: {fault}"
        for name, place in setting.data.items():
            if not (Path(place.folder) / "manifest.json").is_file():
                return None, f"{letter}'s data {name} is no longer in {place.folder}"
            if not place.is_as_scored():
                return None, f"{letter}'s data {name} were prepared again in {place.folder} after they were scored"
        settings.append(setting)
    if set(settings[0].data) != set(settings[1].data):
        return None, "A and B name other data sets: their numbers have no common names"
    return (settings[0], settings[1]), ""


def walk(first: Stored, second: Stored, start: Setting, end: Setting, load: Load) -> list[Move]:
    """How far each exchange moves each number a reader looks at first, in the order they are made.

    What cannot be exchanged alone (a split that B's data lack under A's name, or that is learnt from or chosen by,
    squares of another size, a tokenizer of other pieces than the model has vectors for, a guest's tokenizer) goes along
    with the next exchange, and is named with it. So does what would have a model score patients it was trained on,
    unless A or B did.
    """
    suites = tuple(suite for suite in start.suites if suite in end.suites)
    state, goal = (dataclasses.replace(setting, draws=0, suites=suites) for setting in (start, end))
    run, along = _Runner(load), ""
    now = State.own(state)
    held_out = not any(map(run.trained_on, (now, State.own(goal))))
    scores = run(now)
    moved = [Move(BEFORE, _values(first), scores)]
    for factor, exchange in EXCHANGES.items():
        before, now = now, exchange(now, goal)
        if run.alike(before, now):
            continue
        name = f"{along}{factor}"
        if not run.possible(now) or (held_out and run.trained_on(now)):
            along = f"{name} and "
            continue
        print(f"scoring with B's {name}", flush=True)
        after = run(now)
        moved.append(Move(name, scores, after))
        scores, along = after, ""
    return [*moved, Move(AFTER, scores, _values(second))]


def _values(side: Stored) -> Scores:
    return {key: row["value"] for key, row in side.records.items() if row["value"] is not None}


def steps(moved: Sequence[Move]) -> list[dict[str, Any]]:
    """Of every number that there is all the way: A's value, how far each exchange moves it, and B's value."""
    start, end = moved[0].before, moved[-1].after
    everywhere = [key for key in start if all(key in scores for move in moved for scores in move[1:])]
    return [
        {"data": key[0], "metric": key[1], "A": start[key]}
        | {move.factor: move.after[key] - move.before[key] for move in moved}
        | {"B": end[key]}
        for key in everywhere
    ]


def moves(moved: Sequence[Move]) -> Table:
    """The same of the numbers a reader looks at first, for people."""
    factors = [move.factor for move in moved]
    table = [["number", "A", *factors, "B"]]
    for step in steps(moved):
        titles = headlines(step["data"])
        if step["metric"] in titles:
            title = f"{titles[step['metric']][0]} ({step['data']})"
            moved_by = [tabular.signed(step[name]) for name in factors]
            table.append([title, f"{step['A']:.3f}", *moved_by, f"{step['B']:.3f}"])
    return table


def _with_places(state: State, goal: Setting, fields: Sequence[str]) -> State:
    """The state with these fields of the goal's places, set by set."""
    data = {
        name: dataclasses.replace(place, **{field: getattr(goal.data[name], field) for field in fields})
        for name, place in state.setting.data.items()
    }
    return dataclasses.replace(state, setting=dataclasses.replace(state.setting, data=data))


def _with_setting(state: State, goal: Setting, fields: Sequence[str]) -> State:
    setting = dataclasses.replace(state.setting, **{field: getattr(goal, field) for field in fields})
    return dataclasses.replace(state, setting=setting)


def _with_view(state: State, goal: Setting) -> State:
    return dataclasses.replace(state, view=goal.checkpoint)


def _with_tokenizer(state: State, goal: Setting) -> State:
    return dataclasses.replace(state, tokenizer=goal.checkpoint)


def _with_checkpoint(state: State, goal: Setting) -> State:
    return State.own(dataclasses.replace(state.setting, checkpoint=goal.checkpoint))


EXCHANGES: Mapping[str, Callable[[State, Setting], State]] = {
    "data": functools.partial(_with_places, fields=("folder", "limit", "digest")),
    "split": functools.partial(_with_places, fields=("split",)),
    "training and validation split": functools.partial(_with_places, fields=("train", "validation")),
    "seed": functools.partial(_with_setting, fields=("seed",)),
    "macro findings": functools.partial(_with_setting, fields=("findings",)),
    "prompts": functools.partial(_with_setting, fields=("prompts",)),
    "preprocessing": _with_view,
    "tokenizer": _with_tokenizer,
    "checkpoint": _with_checkpoint,
}


class _Runner:
    """Scores states."""

    def __init__(self, load: Load) -> None:
        self._load = load

    def alike(self, one: State, other: State) -> bool:
        """Whether two states differ at most in who lends the same preprocessing or tokenizer."""
        return one.setting == other.setting and self._lent(one) == self._lent(other)

    def _lent(self, state: State) -> tuple[object, ...]:
        viewer, reader = self._load(state.view), self._load(state.tokenizer)
        read = state.tokenizer if isinstance(reader, guests.Guest) else (reader.tokenizer, reader.text_length)
        return viewer.says.format(viewer.image_size), read

    def possible(self, state: State) -> bool:
        """Whether the model takes such squares and has vectors for the tokenizer's pieces, and the data the splits."""
        model, reader = self._load(state.setting.checkpoint), self._load(state.tokenizer)
        if self._load(state.view).image_size != model.image_size:
            return False
        if reader is not model:
            if isinstance(model, guests.Guest) or isinstance(reader, guests.Guest):
                return False
            longest = model.spec.text.max_positions
            if model.tokenizer.vocab_size != reader.tokenizer.vocab_size or reader.text_length > longest:
                return False
        places = state.setting.data.values()
        return all(sets.has_splits(place.folder, place.splits()) for place in places)

    def trained_on(self, state: State) -> bool:
        """Whether patients are scored that the model was trained on."""
        model = self._load(state.setting.checkpoint)
        places = state.setting.data.values()
        return any(sets.overlap(place.folder, place.split, model.config, model.trained_on) for place in places)

    def __call__(self, state: State) -> Scores:
        model, reader = self._load(state.setting.checkpoint), self._load(state.tokenizer)
        if not (isinstance(model, guests.Guest) or isinstance(reader, guests.Guest)):
            model = model.with_tokenizer(reader.tokenizer, reader.text_length)
        opened = list(scoring.open_sets(state.setting, self._load(state.view)))
        results = scoring.score(state.setting, model, opened).results
        return {(r.data, r.metric): r.value for r in results if np.isfinite(r.value)}
