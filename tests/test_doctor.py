"""The doctor program at its door: what is planted in prepared data is found, and clean data pass."""

import io
import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dicoms
import fakes
import fakes_labelled
import numpy as np
import planting
import pytest
from PIL import Image

from clinicclip import cli, doctor
from clinicclip.data import builder, schema
from clinicclip.data.phantom import world
from clinicclip.data.releases import rsna

REPORT = "FINDINGS: The heart is enlarged. There is a small left pleural effusion.\nIMPRESSION: Cardiomegaly, case {}."
WORD = "zanzibar"  # in every planted report, and never to be printed

Told = dict[str, Any]
Examine = Callable[..., tuple[int, Told]]


def radiograph(seed: int) -> np.ndarray:
    """A picture as it should be, unlike those of other seeds."""
    return world.make("easy", seed, 0, 96).image


def scan(seed: int = 3, **elements: str) -> bytes:
    """The DICOM file of a radiograph whose header names a person, if nothing else is said."""
    return dicoms.content(dicoms.dataset(radiograph(seed), ViewPosition="PA", **elements))


def again(gray: np.ndarray) -> np.ndarray:
    """The same picture scaled down, more contrasted and compressed."""
    stored = io.BytesIO()
    small = Image.fromarray(gray).resize((72, 72), Image.Resampling.BICUBIC).point(lambda level: min(255, 1.2 * level))
    small.save(stored, format="JPEG", quality=60)
    return np.asarray(Image.open(stored))


def folder(root: Path, studies: int, changes: Mapping[int, Mapping[str, Any]] | None = None, first: int = 0) -> Path:
    """A prepared folder of one study a patient, half to evaluate; ``changes`` by number, "gray" pixels or bytes."""
    (root / "in").mkdir(parents=True)
    rows = []
    for number in range(first, first + studies):
        split = "test" if number % 2 else "train"
        row = {"image": f"i{number}.png", "text": REPORT.format(f"{WORD} {number}"), "patient": f"p{number}"}
        row |= {"split": split, "view": "PA", "gray": radiograph(number)} | dict((changes or {}).get(number, {}))
        gray, file = row.pop("gray"), root / "in" / row["image"]
        file.write_bytes(gray) if isinstance(gray, bytes) else Image.fromarray(gray).save(file)
        rows.append(json.dumps(row) + "\n")
    (root / "in" / "pairs.jsonl").write_text("".join(rows))
    builder.write("folder", root / "out", source=root / "in", say=lambda line: None)
    return root / "out"


@pytest.fixture
def examine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Examine:
    def call(*words: str) -> tuple[int, Told]:
        output = tmp_path / "page"
        code = cli.call(doctor.main, doctor.parser(), ["data", *words, f"--output={output}"])
        printed = capsys.readouterr()
        assert not printed.err
        lines = " ".join(printed.out.split())
        told = json.loads((output / "doctor.json").read_text())
        assert WORD not in printed.out + (output / "doctor.md").read_text() + json.dumps(told)
        for finding in told["findings"]:
            assert finding["says"] in lines and finding["advice"] in lines
        return code, told

    return call


def found(told: Told, least: Sequence[str] = ("spoils", "look")) -> dict[str, Told]:
    return {finding["check"]: finding for finding in told["findings"] if finding["gravity"] in least}


def test_phantom_data_have_nothing_to_mend(examine: Examine, tmp_path: Path) -> None:
    options = {"level": "easy", "studies": 300, "size": 64}
    builder.write("phantom", tmp_path / "data", options=options, say=lambda line: None)
    code, told = examine(str(tmp_path / "data"))
    assert (code, found(told)) == (0, {})
    likes = told["sections"]["False negatives"]["by"]
    assert likes["same labels"]["touched_64"] > 0
    assert {path.name for path in (tmp_path / "page").iterdir()} == {"doctor.md", "doctor.json", "in_batch.png"}


def test_a_clean_folder_has_nothing_to_tell(examine: Examine, tmp_path: Path) -> None:
    code, told = examine(str(folder(tmp_path, 24)))
    assert (code, told["findings"]) == (0, [])
    assert told["sections"]["Reports"]["test"] == {
        "records": 12,
        "both": 12,
        "findings only": 0,
        "impression only": 0,
        "none": 0,
        "distinct_reports": 12,
    }


def test_a_patient_on_both_sides_of_two_sets_of_one_source_spoils_them(examine: Examine, tmp_path: Path) -> None:
    one = folder(tmp_path, 12)
    pairs = tmp_path / "in" / "pairs.jsonl"
    pairs.write_text(pairs.read_text().replace('"patient": "p4", "split": "train"', '"patient": "p4", "split": "test"'))
    other = tmp_path / "twin"
    builder.write("folder", other, source=tmp_path / "in", say=lambda line: None)
    code, told = examine(f"{one},{other}")
    overlap = found(told)["patient_overlap"]
    assert (code, overlap["gravity"], overlap["count"], overlap["of"]) == (1, "spoils", 1, 12)
    assert overlap["examples"] == [f"p4 in {one}:train and {other}:test"]


def test_a_patient_id_of_another_folder_of_pairs_is_to_be_looked_at(examine: Examine, tmp_path: Path) -> None:
    one = folder(tmp_path / "one", 12)
    other = folder(tmp_path / "other", 12, {101: {"patient": "p4"}, 103: {"patient": "p5"}}, first=100)
    code, told = examine(f"{one},{other}")
    overlap = found(told)["patient_overlap"]
    assert (code, overlap["gravity"], overlap["count"], overlap["of"]) == (0, "look", 1, 22)
    assert overlap["examples"] == [f"p4 in {one}:train and {other}:test"]


def test_ids_of_different_releases_are_not_compared(examine: Examine, tmp_path: Path) -> None:
    options = {"level": "easy", "studies": 8, "size": 64}
    manifest = builder.write("phantom", tmp_path / "phantom", options=options, seed=5, say=lambda line: None)
    stored = builder.open_source(tmp_path / "phantom", "+".join(manifest["splits"]))
    names = {2 * i + 1: {"patient": record["patient"]} for i, record in enumerate(stored)}
    code, told = examine(f"{tmp_path / 'phantom'},{folder(tmp_path / 'folder', 24, names)}")
    assert code == 0 and "patient_overlap" not in found(told)


def test_images_are_recognised_within_and_across_splits(examine: Examine, tmp_path: Path) -> None:
    changes = {
        1: {"gray": radiograph(0)},  # equal, in different splits
        4: {"gray": radiograph(2)},  # equal, of another patient
        8: {"gray": radiograph(6), "patient": "p6"},  # equal, of the same patient
        11: {"gray": again(radiograph(10))},  # saved anew, in different splits
        14: {"gray": again(radiograph(12))},
    }
    code, told = examine(str(folder(tmp_path, 40, changes)))
    told_of = [(f["check"], f["gravity"], f["count"], f["examples"]) for f in told["findings"] if "dup" in f["check"]]
    assert code == 1
    assert told_of == [
        ("duplicate_image", "spoils", 2, ["i0.png (train) = i1.png (test)"]),
        ("near_duplicate_image", "spoils", 2, ["i10.png (train) = i11.png (test)"]),
        ("duplicate_image", "look", 2, ["i2.png (train) = i4.png (train)"]),
        ("near_duplicate_image", "look", 2, ["i12.png (train) = i14.png (train)"]),
        ("duplicate_image", "note", 2, ["i6.png (train) = i8.png (train)"]),
    ]


def test_an_image_id_of_two_sets_of_one_release_is_told(examine: Examine, tmp_path: Path) -> None:
    sets = []
    for place, count in (("one", 6), ("other", 8)):
        options = {"level": "easy", "studies": count, "size": 64}
        builder.write("phantom", tmp_path / place, options=options, say=lambda line: None)
        sets.append(str(tmp_path / place))
    repeated = found(examine(",".join(sets))[1])["image_id_repeated"]
    assert (repeated["gravity"], repeated["count"], repeated["of"]) == ("look", 6, 8)


def test_an_image_id_of_two_folders_of_pairs_agrees_by_chance(examine: Examine, tmp_path: Path) -> None:
    sets = folder(tmp_path / "one", 6), folder(tmp_path / "other", 6, {100: {"image": "i1.png"}}, first=100)
    code, told = examine(",".join(map(str, sets)))
    assert code == 0 and "image_id_repeated" not in found(told)


LONG = " ".join(f"There is a {letter} density." for letter in "abcdefghijklmnop")
PLANTED: dict[str, Mapping[str, Any]] = {
    "looks_inverted": {"gray": 255 - radiograph(3)},
    "looks_upside_down": {"gray": radiograph(3)[::-1].copy()},
    "looks_sideways": {"gray": np.rot90(radiograph(3), 3).copy()},
    "burned_in_annotation": {"gray": scan(BurnedInAnnotation="YES", PatientIdentityRemoved="YES")},
    "personal_header": {"gray": scan()},
    "low_contrast": {"gray": 100 + radiograph(3) // 16},
    "clipped": {"gray": np.clip(radiograph(3).astype(int) * 3, 0, 255).astype(np.uint8)},
    "view_not_frontal": {"view": "LATERAL"},
    "view_unknown": {"view": None},
    "private_date": {"text": f"FINDINGS: The {WORD} lungs are clear. Comparison with 03/14/2011."},
    "private_record_number": {"text": f"FINDINGS: The {WORD} lungs are clear. Record 00482913."},
    "private_name_after_title": {"text": f"FINDINGS: The lungs are clear. Told to Dr. {WORD.title()}."},
    "private_telephone": {"text": f"FINDINGS: The {WORD} lungs are clear. Call 555-010-4477."},
    "private_e_mail": {"text": f"FINDINGS: The lungs are clear. Sent to {WORD}@example.org."},
    "truncated_impression": {"text": f"FINDINGS: {LONG} IMPRESSION: Mild {WORD} edema."},
    "truncated_negation": {"text": f"FINDINGS: {LONG} No {WORD} edema is seen."},
}


@pytest.mark.parametrize("check", PLANTED)
def test_one_planted_fault_is_found_by_its_own_check_alone(check: str, examine: Examine, tmp_path: Path) -> None:
    code, told = examine(str(folder(tmp_path, 24, {3: PLANTED[check]})), "--text_length=64")
    assert code == 0 and set(found(told)) == {check}
    assert (found(told)[check]["count"], found(told)[check]["examples"]) == (1, ["i3.png"])


def test_a_box_over_the_border_and_people_nobody_can_tell_are_to_be_looked_at(examine: Examine, tmp_path: Path) -> None:
    root = fakes_labelled.rsna(tmp_path / "in")
    for seed, path in enumerate(sorted((root / "stage_2_train_images").iterdir()), start=20):
        path.write_bytes(scan(seed, PatientIdentityRemoved="YES"))
    over = planting.put(rsna.TARGETS[0], "95", "width", where=lambda row: row["Target"] == "1", name="patientId")
    (image,) = {*over(root, random.Random(1))} & {*fakes_labelled.RSNA}
    builder.write("rsna", tmp_path / "rsna", source=root, options={"split": "image"}, say=lambda line: None)
    code, told = examine(str(tmp_path / "rsna"))
    assert (code, set(found(told))) == (0, {"box_clipped", "people_untold"})
    assert found(told)["box_clipped"]["examples"] == [image]
    assert found(told)["people_untold"]["says"] == "are split by image, and not by person"
    chest = tmp_path / "chestxray14"
    builder.write("chestxray14", chest, source=fakes.chestxray14(tmp_path / "chest"), say=lambda line: None)
    untold = [f for f in examine(f"{tmp_path / 'rsna'},{chest}")[1]["findings"] if f["check"] == "people_untold"]
    assert f"of {tmp_path / 'rsna'} may be of people in {chest} (chestxray14)" in [f["says"] for f in untold]


def test_repeated_reports_and_unknown_labels_are_noted(examine: Examine, tmp_path: Path) -> None:
    same = {"text": f"FINDINGS: The {WORD} lungs are clear."}
    changes = {0: same, 1: same, 2: same, 4: {"labels": {"edema": None}}}
    code, told = examine(str(folder(tmp_path, 24, changes)))
    notes = found(told, ["note"])
    assert code == 0 and not found(told)
    assert {name: note["count"] for name, note in notes.items()} == {"report_repeated": 3, "labels_unknown": 1}
    assert told["sections"]["Reports"]["train"]["findings only"] == 2
    labels = told["sections"]["Labels for training"]["train"]
    assert labels["edema"] == {"present": 0, "absent": 11, "uncertain": 0, "unknown": 1}
    assert labels["normal"]["present"] == 2


def test_gold_is_counted_by_split(examine: Examine, tmp_path: Path) -> None:
    options = {"level": "easy", "studies": 60, "size": 64}
    manifest = builder.write("phantom", tmp_path / "data", options=options, say=lambda line: None)
    _, told = examine(str(tmp_path / "data"))
    for split, counts in manifest["splits"].items():
        stored = list(builder.open_source(tmp_path / "data", split))
        place = [record["gold_names"].index("edema") for record in stored]
        present = sum(record["gold_values"][i] == 1 for i, record in zip(place, stored, strict=True))
        assert told["sections"]["Gold labels"][split]["edema"] == {"present": present, "coded": counts["records"]}


def test_a_release_without_reports_is_examined_for_the_rest(examine: Examine, tmp_path: Path) -> None:
    labels = [name.replace("_", " ").title() for name in schema.CHEXPERT]
    lines = [",".join(["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *labels])]
    for number in range(6):
        path = f"valid/patient{number:05d}/study1/view1_frontal.jpg"
        (tmp_path / "in" / path).parent.mkdir(parents=True)
        Image.fromarray(radiograph(max(number, 1))).save(tmp_path / "in" / path)
        lines.append(",".join([f"CheXpert-v1.0-small/{path}", "Male", "60", "Frontal", "PA", *"01" * 7]))
    (tmp_path / "in" / "valid.csv").write_text("\n".join(lines) + "\n")
    builder.write("chexpert", tmp_path / "out", source=tmp_path / "in", say=lambda line: None)
    code, told = examine(str(tmp_path / "out"))
    assert code == 0 and set(found(told)) == {"duplicate_image"}
    assert [counts["none"] for counts in told["sections"]["Reports"].values()] == [6]
    assert "False negatives" not in told["sections"] and not (tmp_path / "page" / "in_batch.png").exists()


def test_the_same_data_give_the_same_page(examine: Examine, tmp_path: Path) -> None:
    data = str(folder(tmp_path, 16))
    assert examine(data) == examine(data)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["data", "nowhere"], 1, "python -m clinicclip.prepare"),
        (["dat", "nowhere"], 2, "did you mean data"),
        (["data", "a,a"], 2, "twice"),
        (["data"], 2, "place"),
        (["data", "a", "--theta=2"], 2, "from 0 to 1"),
        (["data", "a", "--text_length=2"], 2, "3 or more"),
        (["data", "a", "--tokeniser=x"], 2, "did you mean --tokenizer"),
    ],
)
def test_faults_are_one_line_with_the_way_out(
    words: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.call(doctor.main, doctor.parser(), words) == code
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1 and says in printed


def test_an_unknown_training_split_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", str(folder(tmp_path, 4)), "--train=fold0"]
    assert cli.call(doctor.main, doctor.parser(), words) == 1
    assert "no split fold0, only test, train" in capsys.readouterr().err
