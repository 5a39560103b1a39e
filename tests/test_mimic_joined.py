"""MS-CXR and CXR-Align: tables whose images are those of MIMIC-CXR-JPG, kept elsewhere."""

from collections.abc import Iterator
from pathlib import Path

import fakes_labelled as fakes
import mimic
import pytest

from clinicclip import cli, prepare
from clinicclip.data import builder, patients, schema
from clinicclip.data.releases import cxr_align, mimic_cxr, ms_cxr
from clinicclip.data.schema import Drop, Study
from clinicclip.errors import UserError


@pytest.fixture(scope="module")
def phrases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.ms_cxr(tmp_path_factory.mktemp("ms_cxr"))


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.cxr_align(tmp_path_factory.mktemp("cxr_align"))


def studies(found: Iterator[Study | Drop]) -> list[Study]:
    return [item for item in found if isinstance(item, Study)]


def test_a_phrase_comes_with_its_boxes_on_an_image_of_mimic(phrases: Path) -> None:
    found = studies(ms_cxr.read(phrases, images=str(phrases / "mimic")))
    assert [study.findings for study in found] == [phrase for _, _, phrase, _ in fakes.MS_CXR]
    assert len({study.image_id for study in found}) == len(found) == 6
    for study, (number, category, _, boxes) in zip(found, fakes.MS_CXR, strict=True):
        shot = mimic.SHOTS[number]
        finding = category.lower().replace(" ", "_")
        assert study.image == mimic.image_path(phrases / "mimic", shot) and study.patient == shot.patient
        assert study.image_id.startswith(f"{shot.image}-") and study.gold == {finding: 1}
        assert [box[1:] for box in study.boxes] == [tuple(map(float, box)) for box in boxes]
        assert {box.finding for box in study.boxes} == {finding}
    assert [study.split for study in found] == ["train", "train", "train", "validation", "test", "train"]


def test_a_version_without_splits_is_all_for_testing(phrases: Path, tmp_path: Path) -> None:
    lines = (phrases / ms_cxr.TABLES[0]).read_text().splitlines()
    (tmp_path / ms_cxr.TABLES[1]).write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    (tmp_path / "files").symlink_to(phrases / "mimic" / "files")  # images beside the table are found unasked
    assert {study.split for study in studies(ms_cxr.read(tmp_path))} == {"test"}


def test_a_version_with_splits_has_to_have_them(phrases: Path, tmp_path: Path) -> None:
    table = (phrases / ms_cxr.TABLES[0]).read_text()
    (tmp_path / ms_cxr.TABLES[0]).write_text(table.replace("split", "part", 1))
    with pytest.raises(UserError, match="lacks the column split"):
        list(ms_cxr.read(tmp_path, images=str(phrases / "mimic")))


def test_phrases_become_records_of_text_and_boxes(phrases: Path, tmp_path: Path) -> None:
    options = {"images": str(phrases / "mimic")}
    manifest = builder.write("ms_cxr", tmp_path / "out", source=phrases, options=options, shorter_side=16)
    assert manifest["reports"] == manifest["images"] == {"used": 6}
    record = builder.open_source(tmp_path / "out", "train")[1]
    assert record["findings"] == "Small bilateral effusions" and (record["height"], record["width"]) == (40, 48)
    assert record["boxes"].tolist() == [[0, 25, 10, 15], [38, 25, 10, 15]]


def test_an_item_keeps_the_altered_reports_of_the_release(items: Path, tmp_path: Path) -> None:
    options = {"images": str(items / "mimic")}
    manifest = builder.write("cxr_align", tmp_path / "out", source=items, options=options, shorter_side=16)
    assert manifest["reports"] == manifest["images"] == {"used": 4, "not_of_mimic": 1}
    assert manifest["labels"] == {"omitted_missing": 1}
    found = {record["image_id"]: record for record in builder.open_source(tmp_path / "out", "test")}
    for number, texts in fakes.CXR_ALIGN.items():
        shot = mimic.SHOTS[number]
        record = found[shot.image]
        assert (record["findings"], record["negated"], record["omitted"]) == texts
        assert record["negated_by"] == "cxr_align" and (record["patient"], record["view"]) == (shot.patient, shot.view)
    turned_on = [schema.FINDINGS[found[mimic.SHOTS[number].image]["altered"]] for number in fakes.CXR_ALIGN]
    assert turned_on == ["cardiomegaly", "pleural_effusion", "edema", "atelectasis"]


def test_patients_are_those_of_mimic_to_whoever_compares_them(phrases: Path) -> None:
    found = studies(ms_cxr.read(phrases, images=str(phrases / "mimic")))
    evaluated = [{"patient": study.patient} for study in found]
    trained = [{"patient": item.patient} for item in mimic_cxr.read(phrases / "mimic") if isinstance(item, Study)]
    for release in ("ms_cxr", "cxr_align"):
        assert set(patients.of(release, evaluated)) <= set(patients.of("mimic_cxr", trained))
    assert not set(patients.of("folder", evaluated)) & set(patients.of("mimic_cxr", trained))


@pytest.mark.parametrize("name", ["ms_cxr", "cxr_align"])
def test_images_that_are_not_there_are_asked_for(
    name: str, phrases: Path, items: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = {"ms_cxr": phrases, "cxr_align": items}[name]
    argv = [name, f"--source={root}", f"--output={tmp_path / 'out'}"]
    assert cli.call(prepare.main, prepare.parser(), argv) == 1
    assert f"{name}: no folder files/ in {root}; name the download with --images=DIR" in capsys.readouterr().err


def test_every_name_of_a_finding_is_understood() -> None:
    assert cxr_align._finding("Pleural Effusion") == cxr_align._finding("pleural effusions")
    assert cxr_align._finding("airspace consolidation") == schema.INDEX["consolidation"]
    assert cxr_align._finding("influenza") == cxr_align._finding("") == -1
