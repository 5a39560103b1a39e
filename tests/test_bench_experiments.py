"""What the bench of recipes shows of a run's validation."""

from benches import load

experiments = load("experiments")


def test_the_table_has_a_line_a_finding_and_one_a_task() -> None:
    scores = {f"zero_shot/phantom/auroc/{rule}/edema": value for rule, value in (("pair", 0.9), ("positive", 0.8))}
    scores |= {"zero_shot/phantom/auprc/pair/fracture": 0.1, "pair_strict/edema": 0.5}
    for task in ("task_a", "task_b"):
        scores |= {f"cxr_align/{task}{kind}": 0.25 for kind in ("", "/wrong_image", "/image_driven")}
    _, edema, *tasks = experiments.table(scores, "phantom")
    assert edema.split() == ["edema", "0.900", "0.800", "0.500"]
    assert tasks == [f"{task}: 0.250, wrong image 0.250, image-driven 0.250" for task in ("task_a", "task_b")]
