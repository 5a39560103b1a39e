"""What makes one result differ from another: what was not the same, and, run anew, how far each of it moves a number.

From A's setting to B's one thing is exchanged after the other and everything is scored again, so that the steps add
up to the whole difference. What is left at either end is owed to the code, or to what cannot be run here.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from clinicclip import api, files, guests, scoring, tabular
from clinicclip.errors import UserError
from clinicclip.evals import sets, stored
from clinicclip.evals.stored import Stored
from clinicclip.evals.tables import headlines
from clinicclip.scoring import Setting
from clinicclip.tabular import Table

# What may differ -> the columns of a result that tell it.
FACTORS = {
    "data": ("data_title", "data_hash"),
    "split": ("split",),
    "prompts": ("prompts",),
    "preprocessing": ("preprocessing",),
    "pixels": ("pixel_hash",),
    "tokenizer": ("tokenizer",),
    "checkpoint": ("checkpoint", "parameters_sha256"),
    "code": ("clinicclip",),
    "bootstrap": ("bootstrap_draws", "seed"),
}
BEFORE, AFTER = "run anew", "left over"  # between what was stored and what today's code and machine give
HOW = (
    "Each column tells how far a number moves when that is exchanged, A's for B's, after all columns before it. "
    f"`{BEFORE}`: A scored again here; `{AFTER}`: from the last step to what B's folder holds. Both are 0 where code "
    "and machine do not matter."
)
Scores = dict[tuple[str, str], float]
Load = Callable[[str], scoring.Model]


@dataclass(frozen=True)
class State:
    """One stop on the way from A to B: whose model, preprocessing, tokenizer and setting."""

    setting: Setting
    view: str  # checkpoint that lends its preprocessing
    tokenizer: str  # checkpoint that lends it

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
    """Tells what differs, runs the way from A to B where both can be run, writes explain.md."""
    sides = stored.read(first), stored.read(second)
    differing = differences(*sides)
    files.make_folder(output)
    lines = [f"A: {first}", f"B: {second}", "", *tabular.aligned(differing)]
    if len(differing) == 1:
        lines += ["nothing that the results tell of differs"]
    print("\n".join(lines), flush=True)
    load: Load = functools.cache(api.load_any)
    settings, reason = runnable(*sides, load)
    moved = [] if settings is None else walk(*sides, *settings, load)
    told = tabular.markdown(moves(moved)) if moved else [f"Not run anew: {reason}."]
    whole = [f"A: {first}", "", f"B: {second}", "", *tabular.markdown(differing), HOW, "", *told]
    files.write_whole(output / "explain.md", "\n".join(whole).rstrip() + "\n")
    print("\n".join(["", *(tabular.aligned(moves(moved)) if moved else told)]))
    print(f"\nexplanation: {output / 'explain.md'}")
    return 0


def differences(first: Stored, second: Stored) -> Table:
    """A row for each factor that is not the same in both, with what it is in either."""
    table = [["differs", "A", "B"]]
    for factor, columns in FACTORS.items():
        values = [_told(side, columns) for side in (first, second)]
        explained = factor == "pixels" and {"data", "split", "preprocessing"} & {row[0] for row in table}
        if values[0] != values[1] and not explained:
            table.append([factor, *values])
    return table


def _told(side: Stored, columns: tuple[str, ...]) -> str:
    """What the columns hold over all results of a folder, set by set where the sets are not alike."""
    rows = {tuple(_short(str(row.get(column, "not told"))) for column in columns) for row in side.records.values()}
    return "; ".join(", ".join(row) for row in sorted(rows))


def _short(value: str) -> str:
    """A whole hash by its first twelve digits; everything else as it is."""
    return value[:12] if len(value) == 64 and value.isalnum() else value


def runnable(first: Stored, second: Stored, load: Load) -> tuple[tuple[Setting, Setting] | None, str]:
    """The settings of both where checkpoints and data are still there and the same, else why not."""
    settings = []
    for letter, side in (("A", first), ("B", second)):
        try:
            setting = Setting.load(side.folder)
            told = next(iter(side.records.values()), {}).get("parameters_sha256")
            if told != load(setting.checkpoint).describe()["parameters_sha256"]:
                return None, f"{letter}'s checkpoint {setting.checkpoint} is no longer the one that was scored"
        except UserError as fault:
            return None, f"{letter} cannot be run: {fault}"
        for name, place in setting.data.items():
            if not (Path(place.folder) / "manifest.json").is_file():
                return None, f"{letter}'s data {name} is no longer in {place.folder}"
        settings.append(setting)
    if set(settings[0].data) != set(settings[1].data):
        return None, "A and B name other data sets: their numbers have no common names"
    return (settings[0], settings[1]), ""


def walk(first: Stored, second: Stored, start: Setting, end: Setting, load: Load) -> list[Move]:
    """How far each exchange moves each number a reader looks at first, in the order they are made.

    What cannot be exchanged alone (a split that B's data lack under A's name, squares of another size, a tokenizer of
    other pieces than the model has vectors for, a guest's tokenizer) goes along with the next exchange, and is named
    with it.
    """
    suites = tuple(suite for suite in start.suites if suite in end.suites)
    state, goal = (dataclasses.replace(setting, draws=0, suites=suites) for setting in (start, end))
    run, along = _Runner(load), ""
    now = State.own(state)
    scores = run(now)
    moved = [Move(BEFORE, _values(first), scores)]
    for factor, exchange in EXCHANGES.items():
        before, now = now, exchange(now, goal)
        if run.alike(before, now):
            continue
        name = f"{along}{factor}"
        if not run.possible(now):
            along = f"{name} and "
            continue
        print(f"scoring with B's {name}", flush=True)
        after = run(now)
        moved.append(Move(name, scores, after))
        scores, along = after, ""
    return [*moved, Move(AFTER, scores, _values(second))]


def _values(side: Stored) -> Scores:
    return {key: row["value"] for key, row in side.records.items() if row["value"] is not None}


def moves(moved: Sequence[Move]) -> Table:
    """A row a number: A's value, how far each exchange moves it, and B's value."""
    table = [["number", "A", *(move.factor for move in moved), "B"]]
    start, end = moved[0].before, moved[-1].after
    for key in start:
        data, metric = key
        if metric in headlines(data) and all(key in scores for move in moved for scores in (move.before, move.after)):
            steps = [f"{move.after[key] - move.before[key]:+.3f}" for move in moved]
            title = f"{headlines(data)[metric][0]} ({data})"
            table.append([title, f"{start[key]:.3f}", *steps, f"{end[key]:.3f}"])
    return table


def _with_data(state: State, goal: Setting) -> State:
    data = {name: dataclasses.replace(place, split=state.setting.data[name].split) for name, place in goal.data.items()}
    return dataclasses.replace(state, setting=dataclasses.replace(state.setting, data=data))


def _with_split(state: State, goal: Setting) -> State:
    return dataclasses.replace(state, setting=dataclasses.replace(state.setting, data=goal.data))


def _with_drawn(state: State, goal: Setting) -> State:
    setting = dataclasses.replace(state.setting, seed=goal.seed, findings=goal.findings)
    return dataclasses.replace(state, setting=setting)


def _with_prompts(state: State, goal: Setting) -> State:
    return dataclasses.replace(state, setting=dataclasses.replace(state.setting, prompts=goal.prompts))


def _with_view(state: State, goal: Setting) -> State:
    return dataclasses.replace(state, view=goal.checkpoint)


def _with_tokenizer(state: State, goal: Setting) -> State:
    return dataclasses.replace(state, tokenizer=goal.checkpoint)


def _with_checkpoint(state: State, goal: Setting) -> State:
    return State.own(dataclasses.replace(state.setting, checkpoint=goal.checkpoint))


EXCHANGES: Mapping[str, Callable[[State, Setting], State]] = {
    "data": _with_data,
    "split": _with_split,
    "seed and findings": _with_drawn,
    "prompts": _with_prompts,
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
        return all(sets.has_split(place.folder, place.split) for place in state.setting.data.values())

    def __call__(self, state: State) -> Scores:
        model, reader = self._load(state.setting.checkpoint), self._load(state.tokenizer)
        if not (isinstance(model, guests.Guest) or isinstance(reader, guests.Guest)):
            model = model.with_tokenizer(reader.tokenizer, reader.text_length)
        opened = list(scoring.open_sets(state.setting, self._load(state.view)))
        return {(r.data, r.metric): r.value for r in scoring.score(state.setting, model, opened).results}
