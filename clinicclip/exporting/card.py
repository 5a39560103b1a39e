"""README.md of an export: what the model is, what it learned from, how well it did, how to use it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from clinicclip.exporting.metadata import front_matter, overall
from clinicclip.exporting.origin import UNKNOWN, Origin
from clinicclip.models.clip import DTYPES, ClipSpec
from clinicclip.models.torch_names import OPEN_CLIP, TRANSFORMERS

RESEARCH = "**Research use only. Not a medical device; not for diagnosis or treatment.**"
PHANTOM = (
    "**Trained on PHANTOM data: drawn radiographs with generated reports. Its numbers prove that the code"
    " works; they say nothing about patients.**"
)

USE_TRANSFORMERS = """\
### transformers

```python
import torch
from PIL import Image
from transformers import VisionTextDualEncoderModel, VisionTextDualEncoderProcessor

folder = {folder}
model = VisionTextDualEncoderModel.from_pretrained(folder).eval()
processor = VisionTextDualEncoderProcessor.from_pretrained(folder, backend="pil")  # 4.x: use_fast=False
texts = ["there is a left pleural effusion.", "no pleural effusion."]
image = Image.open("radiograph.png").convert("L")  # 8-bit gray
inputs = processor(text=texts, images=image, padding=True, truncation=True, return_tensors="pt")
with torch.inference_mode():
    out = model(**inputs)  # pass the attention mask too: without it padding is read as text
print(out.image_embeds @ out.text_embeds.T)  # cosine similarities
```

`backend="pil"` matters: the torchvision backend rounds a few pixels differently.
"""

USE_OPEN_CLIP = """\
### open_clip

```python
{imports}import open_clip
import torch
from PIL import Image

folder = {folder}
{opening}
texts = ["there is a left pleural effusion.", "no pleural effusion."]
image = Image.open("radiograph.png").convert("L")  # 8-bit gray
with torch.inference_mode():
    images = model.eval().encode_image(preprocess(image).unsqueeze(0), normalize=True)
    words = model.encode_text(tokenizer(texts), normalize=True)
print(images @ words.T)  # cosine similarities
```
"""

INTENDED = """\
## Intended use

Research on image-report alignment of frontal chest radiographs. Out of scope: any clinical decision, screening or
triage, other body parts, other modalities, other languages.
"""
# Of every model of this kind, whatever its results.
FAILURES = """\
- A finding that reports seldom mention is seldom recognised, and a small one less than a large one.
- Tubes, wires, markers, burned-in text and the look of a scanner or ward stand in for findings they come with.
- Lateral views, children, inverted, rotated or cropped images and hospitals other than those of the training data were
  not measured.
- Left and right, severity and change over time are read from words more than from images.
- Texts are cut after {tokens} tokens. A model of reports knows what reports say, not what they leave out.
- Similarities are no probabilities: a threshold chosen on one data set does not hold on another.
"""
WRONG_IMAGE = "wrong_image"
USES = {TRANSFORMERS: USE_TRANSFORMERS, OPEN_CLIP: USE_OPEN_CLIP}
# On a hub open_clip finds the text tower by its id, from wherever it is called.
HERE = {
    "imports": "import contextlib\n\n",
    "opening": """\
with contextlib.chdir(folder):  # the text tower's configuration is found from here
    model, _, preprocess = open_clip.create_model_and_transforms("local-dir:.")
tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")""",
}
THERE = {
    "imports": "",
    "opening": """\
model, _, preprocess = open_clip.create_model_and_transforms(f"hf-hub:{folder}")
tokenizer = open_clip.get_tokenizer(f"hf-hub:{folder}")""",
}


def card(
    spec: ClipSpec,
    origin: Origin,
    *,
    dialects: Sequence[str],
    text_length: int,
    config: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    parity: Mapping[str, Any] | None,
    dtype: str,
    hub: str,
) -> str:
    """The card as Markdown, with Hugging Face's metadata block on top."""
    sections = [
        front_matter(origin, dialects, results),
        f"# {origin.name}\n",
        "\n\n".join((RESEARCH, PHANTOM) if origin.phantom else (RESEARCH,)) + "\n",
        _description(spec, text_length, origin),
        INTENDED,
        _training(origin, config),
        _results(results, origin),
        _failures(results, text_length),
        "## Use\n\n" + "\n".join(_use(dialect, dtype, hub) for dialect in dialects),
        _notes(spec, dialects, parity, dtype) + _forced(config),
    ]
    return "\n".join(sections)


def _description(spec: ClipSpec, text_length: int, origin: Origin) -> str:
    image, text = spec.image, spec.text
    trained = "trained elsewhere, written by" if origin.data == UNKNOWN else "trained with"
    return f"""\
## Model

A chest-X-ray CLIP, {trained} clinicclip (JAX). Image and report map to unit vectors of {spec.dim} numbers.

| part | what it is |
|---|---|
| image | Swin, {image.image_size} px, patch {image.patch_size}, window {image.window_size}, \
width {image.embed_dim}, depths {"/".join(map(str, image.depths))}, heads {"/".join(map(str, image.heads))} |
| text | BERT, depth {text.depth}, width {text.width}, {text.vocab_size} pieces, pooling `{text.pooling}`, \
at most {text_length} tokens |
| preprocessing | gray, squashed to {image.image_size} x {image.image_size} (bicubic), three equal channels, \
ImageNet mean and std; never flipped |
"""


def _use(dialect: str, dtype: str, hub: str) -> str:
    """The snippet of a dialect; narrow weights are computed with in float32, as they were measured."""
    folder = f'"{hub}"' if hub else '"."  # this folder'
    told = USES[dialect].format(folder=folder, **(THERE if hub else HERE))
    if dtype == DTYPES[0]:
        return told
    return told.replace("Model.from_pretrained(folder)", "Model.from_pretrained(folder, dtype=torch.float32)")


def _training(origin: Origin, config: Mapping[str, Any]) -> str:
    counts = "; ".join(f"{role} {count:,}" for role, count in origin.studies.items())
    pairs = f" Image-report pairs: {counts}." if counts else ""
    citation = f"\nCitation of the data: {origin.data_citation}\n" if origin.data_citation else ""
    steps = "" if origin.data == UNKNOWN else f" {origin.steps:,} steps."
    return f"""\
## Training

Data: {origin.data_title}.{pairs}{steps}
Terms of the data: {origin.data_licence}. They bind whoever uses what was learned from it.
{_started(config)}{citation}
<details><summary>Configuration</summary>

```json
{json.dumps(public(config), indent=1, sort_keys=True)}
```
</details>
"""


def _started(config: Mapping[str, Any]) -> str:
    """Whose weights the training began with, if any."""
    model = public(config.get("model", {}))
    towers = {tower: model[tower]["init"] for tower in ("image", "text") if model.get(tower, {}).get("init")}
    places = (
        {"the whole model": model["init"]} if model.get("init") else {f"the {k} tower": v for k, v in towers.items()}
    )
    return "".join(f"Start of {part}: `{place}`; its terms bind too.\n" for part, place in places.items())


def _results(results: Sequence[Mapping[str, Any]], origin: Origin) -> str:
    if not results:
        return "## Results\n\nNot evaluated.\n"
    label = " (PHANTOM data)" if origin.phantom else ""
    general = overall(results)
    single = [row for row in results if row not in general]
    lines = [f"## Results{label}", "", "Intervals: 95 %, by bootstrap over patients.", "", *_table(general)]
    if single:
        lines += ["", "<details><summary>By finding</summary>", "", *_table(single), "", "</details>"]
    return "\n".join(lines) + "\n"


def _table(results: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["| metric | value | interval | n | data |", "|---|---|---|---|---|"]
    for row in results:
        known = row["ci_low"] is not None and row["ci_high"] is not None
        interval = f"{row['ci_low']:.3f} to {row['ci_high']:.3f}" if known else ""
        value = "not defined" if row["value"] is None else f"{row['value']:.3f}"
        lines.append(f"| {row['metric']} | {value} | {interval} | {row['n']} | {row['data']}, {row['split']} |")
    return lines


def _failures(results: Sequence[Mapping[str, Any]], text_length: int) -> str:
    """Known ways to fail; of negation, as far as it was measured."""
    lines = ["## Failure modes", ""]
    values = {row["metric"]: row["value"] for row in results if row["value"] is not None}
    for metric, value in values.items():
        if (wrong := values.get(f"{metric}/{WRONG_IMAGE}")) is not None:
            lines.append(
                f"- `{metric}`: right for {value:.3f} of the items, and for {wrong:.3f} with images of other patients "
                "in place of the right ones. That much is a habit of the text tower; only what is above it was seen."
            )
    return "\n".join([*lines, FAILURES.format(tokens=text_length)])


def _notes(spec: ClipSpec, dialects: Sequence[str], parity: Mapping[str, Any] | None, dtype: str) -> str:
    lines = [
        "## Notes",
        "",
        "- `extra.safetensors` holds what the formats above have no place for: the logit bias"
        + (" and the graph tower." if spec.graph is not None else ".")
        + " The logit bias shifts all scores alike and belongs to a sigmoid loss; rankings do not need it.",
        "- The metadata of the weights hold, under `golden`, fixed inputs and what the JAX model makes of them: "
        "`safetensors.numpy.load(base64.b64decode(...))`.",
    ]
    if dtype != DTYPES[0]:
        lines.append(f"- Weights are rounded to {dtype}; results above were measured before rounding.")
    if parity is None:
        lines.append(
            "- Written where no PyTorch library that reads this folder was installed: equality was not measured."
        )
    else:
        for dialect, found in parity["max_abs_difference"].items():
            lines.append(
                f"- Measured with {dialect} {found[dialect]}: image embeddings within {found['image']:.1e},"
                f" text embeddings within {found['text']:.1e} of the JAX model's (`parity.json`)."
            )
    if OPEN_CLIP not in dialects:
        lines.append("- No open_clip file: it can only name Swin tiny, small and base at 224 px.")
    if TRANSFORMERS not in dialects:
        lines.append(f"- No transformers file: it has no `{spec.text.pooling}` pooling of BERT.")
    return "\n".join(lines) + "\n"


def _forced(config: Mapping[str, Any]) -> str:
    """What the model is given other than its weights were trained with, if anything."""
    return f"- **Forced, not as its weights were trained:** {config['forced']}.\n" if config.get("forced") else ""


def public(value: Any) -> Any:
    """A configuration without the folders of its machine: of an absolute path only the name stays."""
    if isinstance(value, Mapping):
        return {key: public(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [public(item) for item in value]
    return PurePath(value).name if isinstance(value, str) and value.startswith(("/", "~")) else value
