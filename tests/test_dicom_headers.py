"""DICOM files: what is kept of a header, what never is, and what is refused by name."""

import json
import logging
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dicoms
import numpy as np
import pydicom
import pytest
from dicoms import SHAPE, fault, ramp, table
from pydicom import Dataset, config, uid
from pydicom.sequence import Sequence

from clinicclip.data import builder, images
from clinicclip.data.images import ImageFault
from clinicclip.errors import UserError

ROOT = Path(__file__).parents[1]

# Facts, and what is never kept


def test_the_facts_of_a_header_are_kept() -> None:
    elements = {"ViewPosition": "PA", "PatientSex": "F", "PatientAge": "047Y", "BurnedInAnnotation": "YES"}
    picture = images.read(dicoms.content(dicoms.dataset(ramp(12), 12, **elements)))
    assert picture.facts == ("PA", "F", "40-59", True, True)
    assert (picture.height, picture.width) == SHAPE


def test_a_header_that_says_nothing_gives_no_facts() -> None:
    bare = dict.fromkeys(dicoms.SECRETS)
    assert images.read(dicoms.content(dicoms.dataset(ramp(8), **bare))).facts == images.Facts()
    odd = bare | {"PatientSex": "X", "PatientAge": "old"}
    with config.disable_value_validation():
        content = dicoms.content(dicoms.dataset(ramp(8), **odd))
    assert images.read(content).facts == images.Facts()


@pytest.mark.parametrize("name", [name for name in dicoms.SECRETS if name not in ("PatientID", "StudyDate")])
def test_a_header_that_names_a_person_is_flagged_unless_it_says_they_are_removed(name: str) -> None:
    def personal(**elements: str) -> bool:
        bare = dict.fromkeys(dicoms.SECRETS) | elements
        return images.read(dicoms.content(dicoms.dataset(ramp(8), **bare))).facts.personal

    filled = {name: dicoms.SECRETS[name]}
    assert personal(**filled) and not personal(**{name: ""})
    assert not personal(**filled, PatientIdentityRemoved="YES") and personal(**filled, PatientIdentityRemoved="NO")
    assert not personal(PatientID="a pseudonym", StudyDate="20210704")


@pytest.mark.parametrize(
    ("age", "band"),
    [
        *[("000Y", "0-17"), ("011M", "0-17"), ("017Y", "0-17"), ("018Y", "18-39"), ("39Y", "18-39"), ("059Y", "40-59")],
        *[
            ("060Y", "60-79"),
            ("080Y", "80+"),
            ("104Y", "80+"),
            ("121Y", ""),
            ("", ""),
            ("45", ""),
            ("Y", ""),
            ("?45Y", ""),
        ],
    ],
)
def test_ages_are_kept_as_bands(age: str, band: str) -> None:
    assert images.age_band(age) == band


def test_nothing_that_names_a_person_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from clinicclip.data.images import dicom

    parsed: list[Dataset] = []
    check = dicom._check
    monkeypatch.setattr(dicom, "_check", lambda dataset, name: (parsed.append(dataset), check(dataset, name)))
    images.read(dicoms.content(dicoms.dataset(ramp(8))))
    assert not [keyword for keyword in dicoms.SECRETS if keyword in parsed[0]]


def test_of_elements_that_name_a_person_the_length_is_looked_at_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from clinicclip.data.images import dicom

    parsed: list[Dataset] = []
    dcmread = pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda *words, **more: parsed.append(dcmread(*words, **more)) or parsed[-1])
    assert dicom._personal(dicoms.content(dicoms.dataset(ramp(8))))
    elements = list(parsed[0].values())
    assert len(elements) == 4 and not any(element.value for element in elements)


def test_a_faulty_header_says_nothing_of_the_person(caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    caplog.set_level(logging.DEBUG)
    with config.disable_value_validation():
        elements = {"PatientSex": "Planted^Name", "RescaleSlope": "1.2345678", "RescaleIntercept": "0"}
        content = dicoms.content(dicoms.dataset(ramp(8), **elements))
    images.read(content)
    broken = content.replace(b"1.2345678", b"Planted^N")
    with pytest.raises(ImageFault, match="invalid") as caught:
        images.read(broken)
    assert "Planted" not in caplog.text + "".join(capfd.readouterr()) + str(caught.value)


def pairs(root: Path, pixels: np.ndarray) -> Path:
    """A folder release of one DICOM image with its report."""
    facts = {"ViewPosition": "AP", "PatientSex": "M", "PatientAge": "071Y", "BurnedInAnnotation": "YES"}
    root.mkdir()
    (root / "scan.dcm").write_bytes(dicoms.content(dicoms.dataset(pixels, 12, **facts)))
    row = {"image": "scan.dcm", "text": "FINDINGS: The lungs are clear.", "patient": "p", "split": "train"}
    (root / "pairs.jsonl").write_text(json.dumps(row))
    return root


def test_prepare_stores_the_facts_of_a_file_and_nothing_that_names_a_person(tmp_path: Path) -> None:
    output = tmp_path / "out"
    manifest = builder.write("folder", output, source=pairs(tmp_path / "in", ramp(12)), shorter_side=32)
    record = builder.open_source(output, "train")[0]
    assert (record["view"], record["sex"], record["age_band"]) == ("AP", "M", "60-79")
    assert (record["height"], record["width"]) == SHAPE and "burned_in_annotation" in record["image_flags"]
    assert manifest["image_flags"]["burned_in_annotation"] == manifest["image_flags"]["personal_header"] == 1
    for path in filter(Path.is_file, output.rglob("*")):
        content = path.read_bytes()
        assert not [secret for secret in dicoms.SECRETS.values() if secret.encode() in content]


@pytest.mark.parametrize("workers", [0, 1])
def test_prepare_without_the_packages_is_one_line(tmp_path: Path, workers: int) -> None:
    root = pairs(tmp_path / "in", ramp(12))
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "imagecodecs.py").write_text("raise ImportError")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path / 'without'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "clinicclip.prepare", "folder", f"--source={root}", f"--output={tmp_path / 'out'}"]
    ended = subprocess.run(
        [*command, f"--workers={workers}"], capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120
    )
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1, ended.stderr
    assert "pip install 'clinicclip[dicom]'" in ended.stderr


# Refusals


def changed(**elements: Any) -> Dataset:
    return dicoms.dataset(ramp(12), 12, **elements)


def without(*keywords: str) -> Dataset:
    made = changed()
    for keyword in keywords:
        delattr(made, keyword)
    return made


def colour() -> Dataset:
    made = changed(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    made.PixelData = made.PixelData * 3
    return made


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: without("PixelData"), "dicom_without_image"),
        (lambda: without("Rows"), "image_unreadable"),
        (lambda: without("BitsStored", "HighBit"), "image_unreadable"),
        (lambda: changed(NumberOfFrames=2), "image_multi_frame"),
        (colour, "dicom_not_grayscale"),
        (lambda: changed(PhotometricInterpretation="PALETTE COLOR"), "dicom_not_grayscale"),
        (lambda: changed(BitsAllocated=32), "dicom_unsupported_bits"),
        (lambda: changed(HighBit=15), "dicom_unsupported_bits"),
        (lambda: changed(Rows=2 * SHAPE[0]), "image_unreadable"),
        (lambda: changed(Rows=60_000, Columns=60_000), "image_too_large"),
        (lambda: changed(Rows=0), "image_unreadable"),
        (lambda: changed(WindowCenter=100, WindowWidth=0), "dicom_invalid_window"),
        (lambda: changed(WindowCenter=100, WindowWidth=10, VOILUTFunction="CUBIC"), "dicom_invalid_window"),
        (lambda: changed(VOILUTSequence=table(np.arange(10), 0, 7)), "dicom_invalid_window"),
        (lambda: changed(VOILUTSequence=table(np.arange(5000), 0, 12)), "dicom_invalid_window"),
        (lambda: changed(VOILUTSequence=Sequence([Dataset()])), "dicom_invalid_window"),
        (lambda: changed(WindowCenter=9000, WindowWidth=10), "image_constant"),
        (lambda: dicoms.dataset(np.full(SHAPE, 7, np.uint8)), "image_constant"),
        (lambda: changed(RescaleSlope="1e308", RescaleIntercept="0"), "image_not_finite"),
    ],
)
def test_what_is_no_radiograph_is_refused_by_name(make: Callable[[], Dataset], reason: str) -> None:
    assert fault(dicoms.content(make())) == reason


def test_a_video_is_refused_by_name() -> None:
    made = dicoms.compress(changed(), uid.MPEG2MPML, b"\0" * 100)
    assert fault(dicoms.content(made)) == "dicom_unsupported_syntax"


def test_a_deflated_file_is_refused_by_name() -> None:
    made = changed()
    made.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    assert fault(dicoms.content(made)) == "dicom_unsupported_syntax"


@pytest.mark.parametrize("name", [name for name, case in dicoms.SYNTAXES.items() if 12 in case[2]])
def test_a_frame_larger_than_the_header_says_is_refused_before_it_is_decoded(name: str) -> None:
    syntax, _, _, encode = dicoms.SYNTAXES[name]
    large = np.zeros((3000, 3000), np.uint16)
    large[::7] = 90
    content = dicoms.content(dicoms.compress(changed(), syntax, encode(large, 12)))
    tracemalloc.start()
    assert fault(content) == "image_unreadable"
    assert tracemalloc.get_traced_memory()[1] < 10 * len(content) + 2_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("name", [None, *dicoms.SYNTAXES])
def test_a_file_cut_anywhere_is_refused(name: str | None) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
    made = dicoms.dataset(pixels, 8)
    if name:
        syntax, _, tested, encode = dicoms.SYNTAXES[name]
        if 8 not in tested:
            made = dicoms.dataset(pixels.astype(np.uint16), 12)
        bits = made.BitsStored
        dicoms.compress(made, syntax, encode(pixels if bits == 8 else pixels.astype(np.uint16), bits))
    content = dicoms.content(made)
    for share in (0.1, 0.3, 0.6, 0.8, 0.95):
        reason = fault(content[: int(len(content) * share)])
        assert reason in ("image_unreadable", "dicom_without_image")


# Without JPEG-LS: CharLS may think about a damaged stream for ten seconds before it refuses it.
@pytest.mark.parametrize("name", [None, *(name for name in dicoms.SYNTAXES if not name.startswith("jpeg_ls"))])
def test_whatever_bytes_are_wrong_a_picture_or_a_named_fault_comes_back(name: str | None) -> None:
    rng = np.random.default_rng(11)
    syntax, _, tested, encode = dicoms.SYNTAXES[name or "jpeg_lossless"]
    pixels = ramp(bits := tested[-1])
    made = dicoms.dataset(pixels, bits, WindowCenter=[90, 70], WindowWidth=[100, 50], PatientAge="040Y")
    content = dicoms.content(dicoms.compress(made, syntax, encode(pixels, bits)) if name else made)
    reasons = set()
    for _ in range(60):
        wrong = bytearray(content)
        for _ in range(int(rng.integers(1, 5))):
            at = int(rng.integers(len(wrong)))
            wrong[at : at + int(rng.integers(0, 3))] = rng.bytes(int(rng.integers(0, 3)))
        try:
            picture = images.read(bytes(wrong), 16)
            assert picture.gray.dtype == np.uint8
        except ImageFault as fault:
            reasons.add(fault.reason)
    assert "image_unreadable" in reasons


@pytest.mark.parametrize("package", ["pydicom", "imagecodecs"])
def test_missing_packages_stop_instead_of_dropping_image_after_image(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = dicoms.content(changed())
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"clinicclip\[dicom\]") as caught:
        images.read(content)
    assert not isinstance(caught.value, ImageFault)


def test_a_dicom_file_is_known_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(dicoms.content(changed()))
    assert images.read(path, 16).gray.shape == SHAPE
