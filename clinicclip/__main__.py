"""``python -m clinicclip`` lists the programs."""

import importlib
import sys

import clinicclip
from clinicclip import cli
from clinicclip.errors import nearest

PROGRAMS = {
    "prepare": "a public release (or the synthetic phantom) -> checked, split, ready-to-train records",
    "doctor": "prepared data, an export's weights, or this machine -> what to mend before training or use",
    "plan": "a config and a number of devices -> memory, traffic, time floor and price, before there are any",
    "train": "a config -> a trained, evaluated, exported model; the same command resumes",
    "evaluate": "a checkpoint or export -> zero-shot, retrieval and negation metrics with intervals",
    "reproduce": "a data set -> all variants trained alike and side by side in one table; resumes",
    "finetune": "a checkpoint and labels -> an image classifier learnt from 1, 10 and 100 % of them, scored",
    "predict": "images and a model -> zero-shot similarities by finding, as CSV or JSON lines",
    "embed": "large folders of images, or texts, and a model -> embeddings as safetensors or parquet; resumes",
    "export": "a checkpoint -> a folder that transformers and open_clip load without this package",
    "push": "an export -> its repositories on a hub, private unless told otherwise; nothing else publishes anything",
}


def main(args: list[str]) -> int:
    """Prints the programs, or runs the one named first."""
    if args and args[0] in PROGRAMS:
        if args[0] == "train":
            cli.stoppable()
        program = importlib.import_module(f"clinicclip.{args[0]}")
        return cli.call(program.main, program.parser(), args[1:])
    if args and args[0] not in ("-h", "--help"):
        print(f"error: no program {args[0]!r}{nearest(args[0], PROGRAMS)}", file=sys.stderr)
        return 2
    print(f"clinicclip {clinicclip.__version__}: medical CLIP for chest X-rays that understands negation")
    print("Research use only; not a medical device.\n")
    for name, purpose in PROGRAMS.items():
        print(f"  python -m clinicclip.{name:<9} {purpose}")
    print("\nEach takes --help. First steps: python -m clinicclip.train --config=configs/n_g_dtcg.py:demo")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
