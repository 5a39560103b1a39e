"""The report as one page that needs no network: tables, figures as SVG, and, of open sets, images and texts."""

import base64
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from clinicclip.data import images
from clinicclip.evals import figures
from clinicclip.evals.numbers import CAUTION, CAUTION_SAYS, Numbers
from clinicclip.evals.results import Case, Evaluation, Exhibit, Passage, Picture, SetFacts, Verdict
from clinicclip.evals.sections import (
    CALIBRATION,
    PHANTOM,
    RESEARCH,
    ZERO_SHOT,
    Section,
    hidden,
    left_out,
    run_table,
    sections,
    sets_table,
    title,
)
from clinicclip.evals.tables import auroc_rows
from clinicclip.tabular import Table

STYLE = Path(__file__).with_suffix(".css")
MARKS = {Verdict.RIGHT: "\N{CHECK MARK}", Verdict.NEAR: "\N{ALMOST EQUAL TO}", Verdict.WRONG: "\N{BALLOT X}"}
COUNT = re.compile(r"-?[\d.]+|.*[\d.]+ %\)?")
LONG = 40  # letters of a cell that says more than a name
NUMBER = re.compile(r"(-?[\d.]+) \[(-?[\d.]+), (-?[\d.]+)\]([^(]*)(\(.*\))?")
READING = (
    ("AUROC", "the chance that an image with the finding is scored above one without it; 0.5 is a guess, 1 is perfect"),
    ("AUPRC", "precision averaged over recall; a guess reaches the share of positives"),
    ("[low, high]", "95 % interval from redrawing patients; of one run of training, not of several"),
    (CAUTION, CAUTION_SAYS),
    ("wrong images", "the same question about images of other patients; what remains is a habit of the text alone"),
    ("image-driven", "rate on the own image minus rate on wrong images: what the model saw"),
)


def html(evaluation: Evaluation, provenance: Mapping[str, str]) -> str:
    """The whole page."""
    phantom = any(facts.phantom for facts in evaluation.sets)
    name = provenance.get("checkpoint", "")
    sets = "".join(_set(evaluation, facts, number) for number, facts in enumerate(evaluation.sets))
    links = [(f"set{number}", facts.name) for number, facts in enumerate(evaluation.sets)]
    run = _table(run_table(evaluation, provenance), "facts") + _table(sets_table(evaluation), "facts")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Evaluation of {escape(name)}</title><style>{STYLE.read_text()}</style></head><body>"
        f'<header><h1>Evaluation of <span class="model">{escape(name)}</span></h1>'
        f'<p class="warn">{escape(RESEARCH)}</p>'
        + (f'<p class="phantom">{escape(PHANTOM)}</p>' if phantom else "")
        + f"<nav>{_links([*links, ('run', 'What was run')])}</nav>{_reading()}</header><main>{sets}"
        f'<section id="run"><h2>What was run, on what</h2>{run}{_paragraph(hidden(evaluation))}</section>'
        "</main></body></html>\n"
    )


def _set(evaluation: Evaluation, facts: SetFacts, number: int) -> str:
    drawn = {ZERO_SHOT: _curves(evaluation, facts), CALIBRATION: _reliability(evaluation, facts)}
    parts = [_section(section, drawn.get(section.title, ())) for section in sections(evaluation, facts)]
    parts += [
        _block(found.title, found.note, _figure(figures.heat(found)))
        for found in evaluation.heats
        if found.data == facts.name
    ]
    parts += [_exhibit(found) for found in evaluation.exhibits if found.data == facts.name]
    about = " ".join(filter(None, (f"{facts.title}." if facts.title else "", f"Truth: {facts.truth}.")))
    lost = f'<p class="lost">{escape(left_out(facts))}</p>' if facts.unread else ""
    heading = f"<h2>{escape(title(facts))}</h2>{_paragraph(about)}{lost}"
    return f'<section id="set{number}" class="set">{heading}{"".join(parts)}</section>'


def _curves(evaluation: Evaluation, facts: SetFacts) -> list[str]:
    drawn = [curve for curve in evaluation.curves if curve.data == facts.name]
    rows = auroc_rows(Numbers(evaluation, facts))
    return ([figures.intervals(rows)] if rows else []) + ([figures.curves(drawn)] if drawn else [])


def _reliability(evaluation: Evaluation, facts: SetFacts) -> list[str]:
    drawn = [found for found in evaluation.calibrated if found.data == facts.name]
    return [figures.reliability(drawn)] if drawn else []


def _section(section: Section, drawn: Sequence[str]) -> str:
    return _block(section.title, section.note, _table(section.table) + "".join(map(_figure, drawn)))


def _block(heading: str, note: str, body: str) -> str:
    return f"<article><h3>{escape(heading)}</h3>{_paragraph(note)}{body}</article>"


def _figure(drawn: str) -> str:
    return f"<figure>{drawn}</figure>"


def _paragraph(text: str) -> str:
    """A text in which names between backticks are set as such."""
    words = re.sub("`(.+?)`", r"<code>\1</code>", escape(text))
    return f"<p>{words}</p>" if text else ""


def _links(places: Iterable[tuple[str, str]]) -> str:
    return " \N{MIDDLE DOT} ".join(f'<a href="#{place}">{escape(name)}</a>' for place, name in places)


def _reading() -> str:
    terms = "".join(f"<dt>{escape(term)}</dt><dd>{escape(meaning)}</dd>" for term, meaning in READING)
    return f"<details open><summary>How to read the numbers</summary><dl>{terms}</dl></details>"


def _table(table: Table, kind: str = "") -> str:
    heading, *rows = table
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heading)
    body = "".join(f"<tr>{''.join(_cells(row))}</tr>" for row in rows)
    return f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cells(row: Sequence[str]) -> Iterator[str]:
    """The last cell that says something takes the room of those after it: there stands a reason, not a number."""
    told = max(place for place, text in enumerate(row) if text or not place)
    for place, text in enumerate(row[: told + 1]):
        yield _cell(text, len(row) - told if place == told else 1)


def _cell(text: str, across: int) -> str:
    found = NUMBER.fullmatch(text)
    if found:
        value, low, high, mark, counts = found.groups()
        below = f"<small>{escape(counts)}</small>" if counts else ""
        return f'<td class="number"><b>{value}</b> <span>[{low}, {high}]{escape(mark)}</span>{below}</td>'
    kind = ' class="number"' if COUNT.fullmatch(text) else ' class="remark"' if len(text) > LONG else ""
    width = f' colspan="{across}"' if across > 1 else ""
    return f"<td{kind}{width}>{escape(text)}</td>"


def _exhibit(found: Exhibit) -> str:
    cases = "".join(_case(case) for case in found.cases)
    return _block(found.title, found.note, f'<div class="cases">{cases}</div>')


def _case(case: Case) -> str:
    pictures = "".join(map(_picture, case.pictures))
    first = case.texts[0].text if case.texts else ""
    texts = "".join(_passage(passage, first) for passage in case.texts)
    heading = f"<h4>{escape(case.heading)}</h4>" if case.heading else ""
    width = "several" if len(case.pictures) > 1 else "one"
    return f'<div class="case {width}">{heading}<div class="pictures">{pictures}</div><div>{texts}</div></div>'


def _picture(shown: Picture) -> str:
    data = base64.b64encode(images.encode(shown.image)).decode()
    return (
        f'<figure class="{shown.verdict.value}"><img alt="{escape(shown.caption)}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{_mark(shown.verdict)}{escape(shown.caption)}</figcaption></figure>"
    )


def _passage(said: Passage, first: str) -> str:
    caption = f"<span>{_mark(said.verdict)}{escape(said.caption)}</span>" if said.caption else ""
    return f'<p class="passage {said.verdict.value}">{caption}{_changed(first, said.text)}</p>'


def _changed(first: str, text: str) -> str:
    """The text, with the words that an earlier one has not set apart."""
    before, after = first.split(), text.split()
    parts = []
    for kind, _, _, start, end in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        words = escape(" ".join(after[start:end]))
        parts.append(f"<mark>{words}</mark>" if words and kind in ("replace", "insert") else words)
        if kind == "delete":
            parts.append("<mark>\N{HORIZONTAL ELLIPSIS}</mark>")
    return " ".join(filter(None, parts))


def _mark(verdict: Verdict) -> str:
    return f"{MARKS[verdict]} " if verdict in MARKS else ""
