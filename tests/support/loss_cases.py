"""What the loss tests share: the variants, random inputs with every mask, and the formulas once more in float64.

The formulas are written pair by pair with Python loops, as they stand in the papers, and know nothing of blocks,
masks inside a log-sum-exp or streaming.
"""

import math

import jax.numpy as jnp
import numpy as np

from clinicclip.losses import Inputs, LossSpec

SOFT = {"alpha": 0.4, "theta": 0.3}
VARIANTS = {
    "baseline": LossSpec(),
    "dt": LossSpec(**SOFT, text=1.0),
    "dt_c": LossSpec(**SOFT, text=1.0, clinical=1.0),
    "n": LossSpec(negation=1.0),
    "n_dt_c": LossSpec(**SOFT, text=1.0, clinical=0.5, negation=1.0, neg_scope="all"),
    "g": LossSpec(**SOFT, graph_stream=1.0, graph=1.0),
    "g_dtcg": LossSpec(**SOFT, text=1.0, clinical=1.0, graph_stream=1.0, graph=0.5, combine="max"),
    "n_g_dtcg": LossSpec(**SOFT, text=1.0, clinical=2.0, graph_stream=1.0, graph=1.0, negation=1.0),
    "off_clip": LossSpec(clip=0.0, off=1.0, abnormal=1.0),
    "entailment": LossSpec(clip=0.0, entailment=1.0),
    "n_entailment": LossSpec(**SOFT, clinical=1.0, negation=1.0, entailment=0.8),
}
EVERYTHING = LossSpec(
    **SOFT,
    text=1.0,
    clinical=2.0,
    graph_stream=1.0,
    combine="product",
    graph=0.7,
    negation=0.5,
    neg_scope="all",
    entailment=0.6,
    off=0.1,
    off_reduction="pairs",
    abnormal=0.3,
)
MASKS = ("valid", "text_valid", "labels_valid", "graph_valid", "negated_valid", "normal_valid")
DIFFERENTIABLE = ("image", "text", "graph", "negated", "logit_scale", "logit_bias")
Columns = list[int] | range


def make_inputs(studies: int, seed: int = 0, width: int = 8) -> Inputs:
    """Random inputs in which every mask has holes and every stream has likes."""
    rng = np.random.default_rng(seed)

    def unit(columns: int, spread: float = 1.0) -> np.ndarray:
        raw = rng.normal(size=(studies, columns)) * spread + (1.0 - spread)
        return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)

    def holes(kept: float) -> np.ndarray:
        return rng.random(studies) < kept

    graph = unit(width, 0.6)
    others = np.random.default_rng((seed, 1))  # claims of three findings, few of a text, so that many hold

    def claims() -> np.ndarray:
        return others.choice([-1, 0, 1], p=(0.2, 0.6, 0.2), size=(studies, 3)).astype(np.float32)

    inputs = Inputs(
        findings=(others.random((studies, 3)) < 0.4).astype(np.float32),
        text_claims=claims(),
        negated_claims=claims(),
        image=unit(width),
        text=unit(width),
        graph=graph,
        graph_feature=graph,
        negated=unit(width),
        logit_scale=np.float32(math.log(10.0)),
        logit_bias=np.float32(-3.0),
        text_feature=3.0 * unit(5, 0.7),
        labels=(rng.random((studies, 14)) < 0.2).astype(np.float32),
        normal=holes(0.5),
        **dict(zip(MASKS, map(holes, (0.9, 0.8, 0.8, 0.7, 0.6, 0.8)), strict=True)),
    )
    return Inputs(*map(jnp.asarray, inputs))


def take(inputs: Inputs, rows: np.ndarray) -> Inputs:
    """The same inputs with only these studies, in this order."""
    return Inputs(*(leaf if leaf is None or leaf.ndim == 0 else leaf[rows] for leaf in inputs))


def reference(inputs: Inputs, spec: LossSpec) -> dict[str, float]:
    """Loss and metrics of the valid studies, from the formulas in float64."""
    rows = np.flatnonzero(np.asarray(inputs.valid))
    x = {name: np.asarray(leaf, np.float64) for name, leaf in take(inputs, rows)._asdict().items()}
    affinity, offsets = reference_affinity(x, spec)
    out = {f"soft_labels/{name}/mean_cosine": offset for name, offset in offsets.items()}
    terms = {}
    if spec.clip:
        terms["clip"] = _clip(x, affinity, spec)
        out |= _diagnostics(affinity, spec.alpha)
    if spec.entailment:
        terms["entailment"] = np.mean([_entailment(x, i, spec) for i in range(len(rows))])
    if spec.graph:
        terms["graph"] = _graph(x, affinity, spec.alpha)
    if spec.off:
        terms["off"] = _off(x, spec.off_reduction)
    if spec.abnormal:
        odd = [i for i in range(len(rows)) if x["normal_valid"][i] and not x["normal"][i]]
        terms["abnormal"] = np.mean([_contrast(x, "image", "text", i, {i: 1.0}, odd) for i in odd])
    out |= {f"loss/{name}": value for name, value in terms.items()}
    out["loss"] = sum(getattr(spec, name) * value for name, value in terms.items())
    cosines = x["image"] @ x["text"].T
    out["accuracy/i2t"] = np.mean([np.argmax(row) == i for i, row in enumerate(cosines)])
    return out


def reference_affinity(x: dict[str, np.ndarray], spec: LossSpec) -> tuple[np.ndarray, dict[str, float]]:
    """A and each centred stream's mean cosine."""
    sources = {"text": "text_feature", "clinical": "labels", "graph": "graph_feature"}
    valid = {"text": x["text_valid"], "clinical": x["labels_valid"], "graph": x["graph_valid"]}
    everyone = range(len(x["image"]))
    likeness, offsets = {}, {}
    for name in spec.streams:
        norm = np.linalg.norm(x[sources[name]], axis=1, keepdims=True)
        unit = x[sources[name]] / np.where(norm > 0, norm, 1.0)
        cosine = unit @ unit.T
        offset = 0.0
        if name != "clinical":
            known = [i for i in everyone if valid[name][i]]
            offset = offsets[name] = float(np.mean([cosine[i, j] for i in known for j in known if i != j]))
        likeness[name] = np.clip((cosine - offset) / (1.0 - offset), 0.0, 1.0)
    affinity = np.eye(len(everyone))
    for i in everyone:
        for j in everyone:
            seen = {name: s[i, j] for name, s in likeness.items() if valid[name][i] * valid[name][j]}
            if i != j and seen:
                combined = {
                    "mean": np.average(list(seen.values()), weights=[spec.streams[name] for name in seen]),
                    "product": np.prod(list(seen.values())),
                    "max": max(seen.values()),
                }[spec.combine]
                affinity[i, j] = combined if combined >= spec.theta - 1e-6 else 0.0
    return affinity, offsets


def _row(affinity: np.ndarray, i: int, columns: Columns, alpha: float) -> dict[int, float]:
    total = sum(affinity[i, j] for j in columns)
    return {j: (1.0 - alpha) * (i == j) + alpha * affinity[i, j] / total for j in columns}


def _contrast(
    x: dict[str, np.ndarray], left: str, right: str, i: int, target: dict[int, float], columns: Columns
) -> float:
    """L(left, right) of study i."""
    total = 0.0
    for a, b in ((x[left], x[right]), (x[right], x[left])):
        z = {j: math.exp(x["logit_scale"]) * float(a[i] @ b[j]) for j in columns}
        log_sum = math.log(sum(math.exp(value) for value in z.values()))
        total += 0.5 * sum(y * (log_sum - z[j]) for j, y in target.items())
    return total


def _clip(x: dict[str, np.ndarray], affinity: np.ndarray, spec: LossSpec) -> float:
    everyone = range(len(affinity))
    rows = [_contrast(x, "image", "text", i, _row(affinity, i, everyone, spec.alpha), everyone) for i in everyone]
    denied = [_denial(x, i, spec) if spec.negation else 0.0 for i in everyone]
    return float(np.mean(rows) + 0.5 * np.mean(denied))


def _denial(x: dict[str, np.ndarray], i: int, spec: LossSpec) -> float:
    """What the negated columns add to the image-to-text cross entropy of study i."""
    everyone, scale = range(len(x["image"])), math.exp(x["logit_scale"])
    plain = sum(math.exp(scale * float(x["image"][i] @ x["text"][j])) for j in everyone)
    scope = everyone if spec.neg_scope == "all" else [i]
    denied = [math.exp(scale * float(x["image"][i] @ x["negated"][j])) for j in scope if x["negated_valid"][j]]
    return math.log(plain + spec.negation * sum(denied)) - math.log(plain)


def _entailment(x: dict[str, np.ndarray], i: int, spec: LossSpec) -> float:
    """Study i against all texts that hold for it, and its texts against all studies they hold for."""
    everyone = range(len(x["image"]))
    texts = [("text", j) for j in everyone]
    if spec.negation:
        texts += [("negated", j) for j in everyone if x["negated_valid"][j]]

    def holds(study: int, kind: str, j: int) -> bool:
        pairs = zip(x["findings"][study], x[f"{kind}_claims"][j], strict=True)
        return (kind == "text" and study == j) or all(
            claim == 0 or (claim > 0) == (shown > 0) for shown, claim in pairs
        )

    def posterior(study: int, kind: str, j: int) -> float:
        return holds(study, kind, j) / max(sum(holds(k, kind, j) for k in everyone), 1)

    def surprise(logits: list[float], weights: list[float]) -> float:
        return math.log(sum(map(math.exp, logits))) - float(np.average(logits, weights=weights))

    def logit(study: int, kind: str, j: int) -> float:
        return math.exp(x["logit_scale"]) * float(x["image"][study] @ x[kind][j])

    forward = surprise([logit(i, *text) for text in texts], [posterior(i, *text) for text in texts])
    backward = [
        surprise([logit(k, kind, j) for k in everyone], [posterior(k, kind, j) for k in everyone])
        for kind, j in texts
        if j == i and any(holds(k, kind, j) for k in everyone)
    ]
    return 0.5 * (forward + float(np.mean(backward)))


def _graph(x: dict[str, np.ndarray], affinity: np.ndarray, alpha: float) -> float:
    known = [i for i in range(len(affinity)) if x["graph_valid"][i]]
    rows = [
        0.5 * _contrast(x, other, "graph", i, _row(affinity, i, known, alpha), known)
        for i in known
        for other in ("image", "text")
    ]
    return sum(rows) / len(known)


def _off(x: dict[str, np.ndarray], reduction: str) -> float:
    normal = (x["normal"] * x["normal_valid"]).astype(bool)
    z = math.exp(x["logit_scale"]) * x["image"] @ x["text"].T + float(x["logit_bias"])
    everyone = range(len(z))
    pairs = [
        np.logaddexp(0.0, z[i, j]) - (z[i, j] if i == j or (normal[i] and normal[j]) else 0.0)
        for i in everyone
        for j in everyone
    ]
    return float(sum(pairs) / (len(z) if reduction == "batch" else len(pairs)))


def _diagnostics(affinity: np.ndarray, alpha: float) -> dict[str, float]:
    everyone = range(len(affinity))
    target = [_row(affinity, i, everyone, alpha) for i in everyone]
    return {
        "soft_labels/diagonal_mass": np.mean([target[i][i] for i in everyone]),
        "soft_labels/row_entropy": np.mean([-sum(y * math.log(y) for y in t.values() if y) for t in target]),
        "soft_labels/kept": np.mean([affinity[i, j] > 0 for i in everyone for j in everyone if i != j]),
    }
