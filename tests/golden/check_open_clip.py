"""Check an export with open_clip alone: python check_open_clip.py DIR

Run in an environment of its own, without this package:
    pip install torch torchvision open_clip_torch transformers safetensors
Loads DIR as its card says (stock code, no network), embeds the images and texts stored in DIR/parity.safetensors,
and prints the largest difference to the embeddings stored there, which the JAX model gave. Exit code 1 above 1e-4.
"""

import contextlib
import json
import os
import socket
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors import safe_open

TOLERANCE = 1e-4


def refuse(*address: object, **named: object) -> None:
    raise AssertionError(f"the network was asked for {address}")


def main(folder: str) -> int:
    socket.socket.connect = refuse
    socket.getaddrinfo = refuse
    with safe_open(os.path.join(folder, "parity.safetensors"), "np") as file:
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        texts = json.loads(file.metadata()["texts"])
    with contextlib.chdir(folder):
        model, _, preprocess = open_clip.create_model_and_transforms("local-dir:.")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(texts)
    pixels = torch.stack([preprocess(Image.fromarray(image)) for image in kept["images"]])
    with torch.inference_mode():
        image = model.eval().encode_image(pixels, normalize=True).numpy()
        text = model.encode_text(tokens, normalize=True).numpy()
    differences = {
        "image": float(np.abs(image - kept["image_embedding"]).max()),
        "text": float(np.abs(text - kept["text_embedding"]).max()),
    }
    same = bool(np.array_equal(tokens.numpy(), kept["ids"]))
    print(f"open_clip {open_clip.__version__}, torch {torch.__version__}: largest difference {differences}")
    print(f"token ids equal: {same}; texts padded to {tokens.shape[1]}")
    return 0 if same and max(differences.values()) <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
