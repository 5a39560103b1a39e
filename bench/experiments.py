"""One short run on validation: a configuration with overrides is trained and scored, and told as a JSON line.

For choosing a recipe: nothing here reads the test split, and nothing is exported. A run's folder may be given again
with more steps of another run's settings only as another folder: as in training, the same command resumes.

    python bench/experiments.py --config=configs/n_g_dtcg.py:demo --workdir=DIR --log=FILE [--config.KEY=VALUE]
"""

import argparse
import json
import time
from pathlib import Path

from clinicclip import cli, host, runs
from clinicclip.train import configured, fit
from clinicclip.training import watch

TOLD = ("cxr_align/task", "pair_strict/", "zero_shot/")


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(
        program="bench/experiments.py",
        description=__doc__ or "",
        example="python bench/experiments.py --config=configs/dt_c.py:demo --workdir=runs/dt_c",
        overrides=True,
    )
    flags.add_argument("--config", required=True, metavar="FILE[:ARG]", help="as of clinicclip.train")
    flags.add_argument("--workdir", required=True, type=Path, help="where the run lives")
    flags.add_argument("--data_dir", help="prepared data (default config.data.dir)")
    flags.add_argument("--log", type=Path, help="file that the JSON line is added to")
    return flags


def main(args: argparse.Namespace) -> int:
    """Trains, scores on validation, prints the findings and one JSON line."""
    config = configured(args)
    with host.StopRequest() as stop:
        run = runs.set_up(config, args.workdir)
        began = time.process_time()
        with watch.Watch(args.workdir, config.watchdog) as watched:
            state = fit(run, stop, watched)
        trained = time.process_time() - began
    scores = {name.removeprefix("validation/"): value for name, value in runs.validate(run, state).items()}
    for line in table(scores, config.data.name):
        print(line)
    told = {name: value for name, value in scores.items() if name.startswith(TOLD) and "auprc" not in name}
    detail = {
        "config": args.config,
        "overrides": dict(args.overrides),
        "steps": config.total_steps,
        "batch": config.batch_size,
        "processor_minutes": round(trained / 60, 2),
        "validation": {name: round(value, 4) for name, value in told.items() if name.count("/") < 3 or "auroc" in name},
    }
    pair = scores[f"zero_shot/{config.data.name}/auroc/pair/macro"]
    line = json.dumps({"name": "experiments", "value": pair, "unit": "macro AUROC", "goal": 0.92, "detail": detail})
    if args.log:
        with args.log.open("a") as log:
            log.write(line + "\n")
    print(line)
    return 0


def table(scores: dict[str, float], data: str) -> list[str]:
    """AUROC of every finding by both rules, then the rates of negation."""
    head = f"zero_shot/{data}/auroc/"
    lines = [f"{'finding':28} {'pair':>7} {'positive':>9} {'strict':>7}"]
    for name in sorted(key.removeprefix(f"{head}pair/") for key in scores if key.startswith(f"{head}pair/")):
        cells = [scores.get(f"{head}{rule}/{name}", float("nan")) for rule in ("pair", "positive")]
        cells.append(scores.get(f"pair_strict/{name}", float("nan")))
        lines.append(f"{name:28} {cells[0]:7.3f} {cells[1]:9.3f} {cells[2]:7.3f}")
    for task in ("task_a", "task_b"):
        cells = [scores[f"cxr_align/{task}{kind}"] for kind in ("", "/wrong_image", "/image_driven")]
        lines.append(f"{task}: {cells[0]:.3f}, wrong image {cells[1]:.3f}, image-driven {cells[2]:.3f}")
    return lines


if __name__ == "__main__":
    cli.run(main, parser())
