"""Export a full-size model of random weights in every dialect: python full_size_export.py DIR [POOLING]

The weights are those of recipe.py. `check_open_clip.py DIR` reads the folder in an environment without this
package.
"""

import dataclasses
import sys

import recipe

from clinicclip.data.tokenizer import Tokenizer, train_wordpiece
from clinicclip.exporting import Origin, parity, write_export
from clinicclip.models.gcn import GcnSpec


def main(output: str, pooling: str = "pooler") -> None:
    full = recipe.SIZES["full"]
    text = dataclasses.replace(full.text, pooling=pooling)
    spec = dataclasses.replace(full, text=text, graph=GcnSpec())
    pieces = train_wordpiece(parity.TEXTS, 150).vocabulary
    unused = tuple(f"[unused{k}]" for k in range(spec.text.vocab_size - len(pieces)))
    origin = Origin(
        name="full-size random weights",
        data="none",
        data_title="no data: random weights",
        data_licence="none",
        data_citation="",
        data_open=True,
        phantom=True,
        steps=0,
    )
    measured = write_export(
        output,
        spec=spec,
        params=recipe.weights(spec),
        tokenizer=Tokenizer((*pieces, *unused)),
        text_length=256,
        config={},
        origin=origin,
    )
    print(measured or "no parity.json: no PyTorch library that reads this folder is installed here")


if __name__ == "__main__":
    main(*sys.argv[1:])
