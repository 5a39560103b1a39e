"""The account of prepared data as a terminal shows it: what there is, what was left out, and what looks odd."""

from collections.abc import Mapping, Sequence
from typing import Any

from clinicclip.data import graphs, negation
from clinicclip.data.manifest import BEYOND_LIMIT, USED

WORDS = {BEYOND_LIMIT: "not read (--limit)"}


def told(manifest: Mapping[str, Any]) -> str:
    """The table of splits and of what was dropped for which reason; of a dry run, with the first ids of each."""
    examples = manifest.get("examples", {})
    rows = [("split", "records", "patients")]
    rows += [(name, f"{n['records']:,}", f"{n['patients']:,}") for name, n in manifest["splits"].items()]
    total = {unit: sum(n[unit] for n in manifest["splits"].values()) for unit in rows[0][1:]}
    rows.append(("total", f"{total['records']:,}", f"{total['patients']:,}"))
    lines = ["  " + name.ljust(12) + "".join(cell.rjust(10) for cell in cells) for name, *cells in rows]
    for kind, found in manifest["source"].items():
        lines.append(f"  {found:,} {kind.replace('_', ' ')} found{_published(manifest['published'].get(kind), found)}")
        if kind not in manifest:
            continue
        counts = manifest[kind]
        lines[-1] += f": {counts[USED]:,} used"
        lines += _reasons(counts, examples.get(kind, {}))
    if "labels" in manifest:
        lines.append(
            "  labels, graphs and altered texts that are there twice, belong to nothing, or are not there (then the "
            "report is read):"
        )
        lines += _reasons(manifest["labels"], examples.get("labels", {}))
    if manifest["image_flags"]:
        lines.append("  images used as they are, but look at them (image_flags):")
        lines += [f"    {n:>8,} {flag}" for flag, n in manifest["image_flags"].items()]
    lines += _negated(manifest) * ("reports" in manifest)
    lines += _graphs(manifest["language"])
    lines += _unlike(manifest)
    return "\n".join([*lines, f"  {manifest['title']}; licence: {manifest['licence']}"])


def _negated(manifest: Mapping[str, Any]) -> list[str]:
    """How many records have a negated report, and why the others have none."""
    counts, generator = manifest["language"], manifest["settings"]["generator"]
    made = counts.get("records_with_negated_report", 0)
    lines = [f"  {counts['records']:,} records: {made:,} with a negated report (generator {generator})"]
    reasons = {reason: counts.get(f"records_not_negated_{reason}", 0) for reason in negation.REASONS}
    return lines + [f"    {n:>8,} without: {reason.replace('_', ' ')}" for reason, n in reasons.items() if n]


def _graphs(counts: Mapping[str, int]) -> list[str]:
    """How many records have a report graph, whose, and how large."""
    prefix = "records_with_graph_by_"
    makers = {key.removeprefix(prefix): n for key, n in counts.items() if key.startswith(prefix)}
    if not makers:
        return []
    total = sum(makers.values())
    told = ", ".join(f"{n:,} by {maker}" for maker, n in makers.items())
    each = " and ".join(f"{counts[f'graph_{unit}'] / total:.1f} {unit}" for unit in ("nodes", "edges"))
    over = counts["graphs_over_budget"] / total
    return [
        f"  {total:,} report graphs ({told}) of {each} each; {over:.2%} do not fit {graphs.NODES} nodes and "
        f"{graphs.EDGES} edges"
    ]


def _published(stated: int | None, found: int) -> str:
    if stated is None:
        return ""
    return ", as published" if stated == found else f" of the {stated:,} published"


def _unlike(manifest: Mapping[str, Any]) -> list[str]:
    """A line that says what is not there as often as the release's owners state; none where all is."""
    found = manifest["source"].items()
    apart = {kind: n - manifest["published"].get(kind, n) for kind, n in found}
    told = [f"{abs(n):,} {kind.replace('_', ' ')} {'more' if n > 0 else 'fewer'}" for kind, n in apart.items() if n]
    return [f"  WARNING: {', '.join(told)} than published: is the download whole, and of this version?"] * bool(told)


def _reasons(counts: Mapping[str, int], examples: Mapping[str, Sequence[str]]) -> list[str]:
    lines = []
    for reason, n in counts.items():
        if reason != USED:
            ids = examples.get(reason, ())
            named = ", ".join([*ids, *["..."] * (n > len(ids))])
            lines.append(f"    {n:>8,} {WORDS.get(reason, reason)}" + f": {named}" * bool(ids))
    return lines
