"""CheXpert: images and labels without reports, and the 5x200 set both ways."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
import pytest
from preparing import call

from clinicclip.data import builder, schema
from clinicclip.data.releases import chexpert
from clinicclip.data.schema import Drop, Study


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fakes.chexpert(tmp_path / "CheXpert-v1.0-small")


def read(root: Path, **options: Any) -> tuple[dict[str, Study], dict[str, str]]:
    items = list(chexpert.read(root, **options))
    studies = {item.image_id: item for item in items if isinstance(item, Study)}
    return studies, {item.id: item.reason for item in items if isinstance(item, Drop)}


def test_frontal_images_come_with_their_labels(root: Path) -> None:
    studies, drops = read(root)
    assert drops == dict.fromkeys(
        ("train/patient00001/study1/view2_lateral.jpg", "test/patient64741/study1/view1_lateral.jpg"), "not_frontal"
    )
    one = studies["train/patient00001/study2/view1_frontal.jpg"]
    assert (one.patient, one.study, one.view) == ("patient00001", "patient00001/study2", "PA")
    assert (one.sex, one.age_band, one.split) == ("F", "40-59", "train")
    assert one.labels == dict.fromkeys(schema.CHEXPERT, 0) | {"edema": 1, "cardiomegaly": -1} and one.gold == {}
    for name, split in (("valid/patient64541", "validation"), ("test/patient64741", "test")):
        other = studies[f"{name}/study1/view1_frontal.jpg"]
        assert other.split == split and other.labels is None
        assert other.gold == dict.fromkeys(schema.CHEXPERT, 0) | {"edema": 1}
    assert all(study.image.is_file() for study in studies.values() if isinstance(study.image, Path))


def test_the_batches_that_the_full_size_comes_in_are_read_as_they_are(root: Path, tmp_path: Path) -> None:
    expected, batches = read(root), tmp_path / "chexpertchestxrays"
    first, second, third = (
        batches / f"CheXpert-v1.0 batch {words}" for words in ("1 (validate & csv)", "2 (train 1)", "3 (train 2)")
    )
    for folder in (first, second, third):
        folder.mkdir(parents=True)
    for name in ("train.csv", "valid.csv", "valid"):
        (root / name).rename(first / name)
    for number, patient in enumerate(sorted((root / "train").iterdir())):
        patient.rename((second, third)[number % 2] / patient.name)
    for name in ("test_labels.csv", "test"):
        (root / name).rename(batches / name)
    studies, drops = read(batches)
    assert (studies.keys(), drops) == (expected[0].keys(), expected[1])
    assert all(Path(study.image).is_file() for study in studies.values())
    assert chexpert.count(batches)["images"] == len(studies) + len(drops)


def test_counts_that_are_not_the_published_ones_are_flagged(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = chexpert.count(root)
    fewer = [f"{chexpert.PUBLISHED[kind] - n:,} {kind} fewer" for kind, n in found.items()]
    assert call("chexpert", f"--source={root}", f"--output={tmp_path / 'out'}", "--dry_run", "--features=tfidf") == 0
    told = capsys.readouterr().out
    assert f"WARNING: {', '.join(fewer)} than published" in told
    assert "frozen features (tfidf) would be stored" in told


def test_a_table_of_the_5x200_set_becomes_its_own_split_without_its_patients_elsewhere(
    root: Path, tmp_path: Path
) -> None:
    table = tmp_path / "5x200.csv"
    rows = ["CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg,1,0,0,0,0"]
    for patient in range(2, 6):
        shown = ",".join("1.0" if patient == other else "0" for other in range(1, 6))
        rows.append(f"train/patient0000{patient}/study1/view1_frontal.jpg,{shown}")
    table.write_text("\n".join([",".join(["Path", *fakes.FIVE]), *rows]))
    manifest = builder.write(
        "chexpert", tmp_path / "out", source=root, shorter_side=32, options={"five_by_200": str(table)}
    )
    assert manifest["splits"]["five_by_200"] == {"records": 5, "patients": 5}
    assert manifest["images"] == {"used": 9, "not_frontal": 2, "patient_in_five_by_200": 1}
    record = builder.open_source(tmp_path / "out", "five_by_200")[0]
    gold = dict(zip(record["gold_names"], record["gold_values"].tolist(), strict=True))
    assert gold == {"atelectasis": 1, "cardiomegaly": 0, "consolidation": 0, "edema": 0, "pleural_effusion": 0}
    assert record["gold_source"] == "chexpert_5x200"


def test_the_drawn_5x200_set_shows_one_finding_an_image_and_depends_on_the_seed_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = [
        fakes.chexpert_line(f"train/patient{1000 * i + j}/study1/view1_frontal.jpg", **{name.replace(" ", "_"): "1.0"})
        for i, name in enumerate(fakes.FIVE, 1)
        for j in range(20)
    ]
    (root / "train.csv").write_text((root / "train.csv").read_text() + "\n".join(extra) + "\n")
    monkeypatch.setattr(chexpert, "EACH", 10)

    def drawn(seed: int) -> dict[str, Study]:
        found, _ = read(root, five_by_200="draw", draw_seed=seed)
        return {name: study for name, study in found.items() if study.split == "five_by_200"}

    first = drawn(0)
    assert len(first) == 50 and first == drawn(0) and set(first) != set(drawn(1))
    for finding in chexpert.FIVE:
        assert sum(study.gold[finding] for study in first.values()) == 10
    assert not [name for name in first if "patient00006" in name or "study2" in name or "lateral" in name]
    studies, drops = read(root, five_by_200="draw")
    patients = {study.patient for study in first.values()}
    assert not [study for study in studies.values() if study.split == "train" and study.patient in patients]
    assert all(name.split("/")[1] in patients for name, why in drops.items() if why == "patient_in_five_by_200")


def test_any_of_the_tables_is_enough(root: Path) -> None:
    (root / "train.csv").unlink()
    (root / "valid.csv").unlink()
    (root / "test_labels.csv").rename(root / "groundtruth.csv")
    assert list(read(root)[0]) == ["test/patient64741/study1/view1_frontal.jpg"]


def table(text: str) -> Callable[[Path], list[str]]:
    def write(root: Path) -> list[str]:
        (root / "five.csv").write_text(",".join(["Path", *fakes.FIVE]) + "\n" + text)
        return [f"--five_by_200={root / 'five.csv'}"]

    return write


def change(name: str, old: str, new: str) -> Callable[[Path], list[str]]:
    def write(root: Path) -> list[str]:
        (root / name).write_text((root / name).read_text().replace(old, new))
        return []

    return write


def without_tables(root: Path) -> list[str]:
    for path in root.glob("*.csv"):
        path.unlink()
    return []


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without_tables, ("train.csv", "--source")),
        (change("train.csv", "Path", "Pathx"), ("train.csv", "column Path")),
        (change("train.csv", "Edema", "Oedema"), ("train.csv", "column of edema")),
        (change("valid.csv", "1.0", "2.0"), ("valid.csv", "'2.0'")),
        (change("valid.csv", "valid/patient64541", "patient64541"), ("is no path such as",)),
        (change("train.csv", "patient00002", "patient00003"), ("patient00003", "named before")),
        (lambda root: ["--five_by_200=nowhere.csv"], ("nowhere.csv", "draw")),
        (lambda root: ["--five_by_200=draw"], ("1 training images show atelectasis alone, 200 are needed",)),
        (table("train/patient00001/study1/view1_frontal.jpg,1,1,0,0,0\n"), ("exactly one",)),
        (table("train/patient00001/study1/view2_lateral.jpg,1,0,0,0,0\n"), ("no frontal image",)),
        (table("train/patient00001/study1/view1_frontal.jpg,1,0,0,0,0\n"), ("five.csv", "1 of atelectasis, 0 of")),
        (table("train/patient00001/study1/view1_frontal.jpg,1,0,0,0,0\n" * 2), ("five.csv", "patient00001", "twice")),
        *((change("train.csv", fact, "Fact"), ("train.csv", f"column {fact}")) for fact in chexpert.FACTS),
        (table("train/patient09999/study1/view1_frontal.jpg,1,0,0,0,0\n"), ("no frontal image",)),
    ],
)
def test_what_spoils_the_release_is_one_clear_line(
    root: Path, tmp_path: Path, damage: Callable[[Path], list[str]], words: tuple[str, ...], capsys: Any
) -> None:
    flags = damage(root)
    assert call("chexpert", f"--source={root}", f"--output={tmp_path / 'out'}", *flags) == 1
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and all(word in printed for word in ("chexpert", *words)), printed
