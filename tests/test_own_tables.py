"""Tables as people write them: what is meant is read, and what may be an accident is refused."""

import unicodedata

import pandas as pd
import pytest
from scan_tables import MAIN

from brain_tumor.errors import PipelineError
from brain_tumor.own_tables.patients import UNKNOWN, apart_by_zeros, known_patients
from brain_tumor.own_tables.reading import read_own_table
from brain_tumor.own_tables.spelling import spelled_as
from brain_tumor.prepare.fixes import apply_fixes, read_fixes
from brain_tumor.prepare.sources import SourceImage
from brain_tumor.split.folds import split_table

COLUMNS = ["path", "patient"]


def table(tmp_path, text: str | bytes, columns=COLUMNS) -> pd.DataFrame:
    (tmp_path / "own.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_own_table(tmp_path / "own.csv", columns)


def images(n: int) -> pd.DataFrame:
    """An index of n images of two classes; every second one is a glioma."""
    labels = ["glioma", "healthy"]
    paths = [f"{MAIN}/Training/{labels[k % 2]}/{k:03}.png" for k in range(n)]
    return pd.DataFrame(
        {
            "path": paths,
            "sha256": paths,
            "source": MAIN,
            "label": [p.split("/")[2] for p in paths],
            "folder": "Training",
        }
    )


# --- cells


def test_cells_are_text_without_white_space_around_them(tmp_path):
    found = table(tmp_path, ' path ,patient\t\r\n a.png , 0012 \r\n\r\n,\r\n"b,c.png",\u00a01e5\r\n', COLUMNS)
    assert found.to_dict("list") == {"path": ["a.png", "b,c.png"], "patient": ["0012", "1e5"]}


@pytest.mark.parametrize(
    "text, said",
    [
        ("path,patient\na.png,1,\nb.png,2,\n", "row 2 has 3"),
        ("path,patient\na.png,1\n\nb.png,2, blurred\n", "row 4 has 3"),
        ("path,patient\na.png\n", "row 2 has 1"),
        ("path,patient,patient\na.png,1,2\n", "'patient' several times"),
        ("path;patient\na.png;1\n", "found path;patient"),
        ("", "found none"),
        ('path,patient\n"a.png,1\n', "CSV"),
        ('path,patient\na.png,1\n"b" 2.png,2\n', "line 3"),
        ("path,patient\na.png,J\u00fcrgen\n".encode("latin-1"), "UTF-8"),
        ("path,patient\na.png,1\n".encode("utf-16"), "UTF-8"),
    ],
)
def test_a_table_that_shifts_or_is_none_is_refused_in_one_line(tmp_path, text, said):
    with pytest.raises(PipelineError) as caught:
        table(tmp_path, text)
    assert said in str(caught.value) and "own.csv" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_table_that_is_missing_is_asked_for(tmp_path):
    with pytest.raises(PipelineError, match=r"own\.csv.*path,patient"):
        read_own_table(tmp_path / "own.csv", COLUMNS)


def test_a_comma_in_a_reason_shifts_no_cell(tmp_path):
    for row, fits in (("scans/a/1.png,drop,blurred, cut", False), ('scans/a/1.png,drop,"blurred, cut"', True)):
        (tmp_path / "fixes.csv").write_text(f"path,action,reason\n{row}\n", encoding="utf-8")
        if fits:
            assert read_fixes(tmp_path / "fixes.csv") == {"scans/a/1.png": "drop"}
        else:
            with pytest.raises(PipelineError, match="row 2 has 4"):
                read_fixes(tmp_path / "fixes.csv")


# --- the same letters in other characters


@pytest.mark.parametrize("disk, written", [("NFD", "NFC"), ("NFC", "NFD"), ("NFD", "NFD")])
def test_a_path_is_found_however_its_accents_are_written(tmp_path, disk, written):
    real = unicodedata.normalize(disk, f"{MAIN}/Training/glioma/p0012_\u00e9.png")
    typed = unicodedata.normalize(written, real)
    paths = pd.Series([real, f"{MAIN}/Training/glioma/p0013_e.png"])
    own = table(tmp_path, f"path,patient\n{typed},12\n")
    assert known_patients(paths, own, None, MAIN).tolist() == ["12", ""]
    files = [SourceImage(path, MAIN, "Training", "glioma") for path in paths]
    assert [file.path for file in apply_fixes(files, {typed: "drop"})] == [paths[1]]

    index = images(20)
    index.loc[0, "path"] = real
    groups = pd.DataFrame({"path": index["path"], "group": index["path"], "patient": "", "copies": ""})
    folds = pd.DataFrame({"path": [typed, *index["path"][1:]], "fold": [str(k // 2 % 3) for k in range(20)]})
    options = {"strategy": "own", "folds": 3, "seed": 0, "official_test": "", "own_folds": folds, "main": MAIN}
    found = split_table(index, groups, pd.DataFrame(columns=["group", "joined"]), **options)
    assert found["fold"].tolist() == folds["fold"].tolist() and found["path"].tolist() == index["path"].tolist()


def test_two_fixes_of_one_image_are_refused_however_they_are_written():
    composed, apart = (unicodedata.normalize(form, "a/b/\u00e9.png") for form in ("NFC", "NFD"))
    with pytest.raises(PipelineError, match="one fix per image"):
        apply_fixes([SourceImage(apart, "a", "", "b")], {composed: "drop", apart: "relabel:b"})


def test_two_files_that_differ_in_these_characters_only_stay_two():
    both = [unicodedata.normalize(form, "\u00e9.png") for form in ("NFC", "NFD")]
    assert spelled_as(both, both) == both


# --- patients


def test_a_patient_written_as_unknown_is_unknown(tmp_path):
    spellings = [
        "",
        " ",
        "-",
        "--",
        "?",
        ".",
        "n/a",
        "N/A",
        "NA",
        "nan",
        "None",
        "none",
        "NULL",
        "nil",
        "unknown",
        "Unknown",
    ]
    spellings += ["n.a.", "#N/A", "<NA>", "missing", "unk", "not  available", "ANONYMOUS", "Anonymized", "anonymised"]
    assert {" ".join(spelling.split()).casefold() for spelling in spellings} == set(UNKNOWN)
    index = images(2 * len(spellings))
    rows = "".join(f"{path},{spelling}\n" for path, spelling in zip(index["path"], spellings * 2, strict=True))
    own = table(tmp_path, f"path,patient\n{rows}")
    assert (known_patients(index["path"], own, None, MAIN) == "").all()


INVISIBLE = {
    "space behind": "P\u00e9 12 ",
    "no-break space": "P\u00e9\u00a012",
    "two spaces": "P\u00e9  12",
    "zero width": "P\u00e9 1\u200b2",
    "byte order mark": "\ufeffP\u00e9 12",
    "accent as a character of its own": "Pe\u0301 12",
    "full-width digits": "P\u00e9 \uff11\uff12",
}
VISIBLE = {
    "capital letters": ("p 12", "P 12"),
    "underscore": ("p_12", "p-12"),
    "space": ("p 12", "p_12"),
    "long dash": ("p\u201312", "p-12"),
    "no separator": ("p12", "P-12"),
    "number as a measure": ("12", "12.0"),
}


@pytest.mark.parametrize("spelling", INVISIBLE.values(), ids=INVISIBLE)
def test_ids_that_look_alike_are_one_patient(tmp_path, spelling):
    """48 images of 24 patients, two images each: with the second spelling, every patient stays in one fold."""
    index = images(48)
    patients = [f"P\u00e9 {12 + k // 2}" for k in range(48)]
    written = [spelling.replace("12", str(12 + k // 2)).replace("\uff11\uff12", wide(12 + k // 2)) for k in range(48)]
    written = [s.replace("1\u200b2", "\u200b".join(str(12 + k // 2))) for k, s in enumerate(written)]
    rows = "".join(f"{path},{(patients, written)[k % 2][k]}\n" for k, path in enumerate(index["path"]))
    own = table(tmp_path, f"path,patient\n{rows}")
    found = known_patients(index["path"], own, None, MAIN)
    assert found.nunique() == 24 and (found.groupby(found).size() == 2).all()
    groups = pd.DataFrame({"path": index["path"], "group": found, "patient": found, "copies": ""})
    options = {"strategy": "patient", "folds": 3, "seed": 0, "official_test": "", "own_folds": None, "main": MAIN}
    folds = split_table(index, groups, pd.DataFrame(columns=["group", "joined"]), **options)
    truth = pd.Series(patients)
    assert (folds["fold"].groupby(truth).nunique() == 1).all()


def wide(number: int) -> str:
    return "".join(chr(ord("\uff10") + int(digit)) for digit in str(number))


@pytest.mark.parametrize("one, other", VISIBLE.values(), ids=VISIBLE)
def test_ids_that_differ_by_accident_stop_the_run(tmp_path, one, other):
    index = images(4)
    own = table(tmp_path, f"path,patient\n{index['path'][0]},{one}\n{index['path'][1]},{other}\n")
    with pytest.raises(PipelineError) as caught:
        known_patients(index["path"], own, None, MAIN)
    assert repr(one) in str(caught.value) and repr(other) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_ids_from_the_names_of_files_are_held_to_the_same():
    paths = pd.Series([f"{MAIN}/a/p12_1.png", f"{MAIN}/a/P12_2.png"])
    nobody = pd.DataFrame(columns=COLUMNS, dtype=str)
    with pytest.raises(PipelineError, match="'P12', 'p12'"):
        known_patients(paths, nobody, r"([pP]\d+)_", MAIN)
    assert known_patients(paths, nobody, r"(?i)p(\d+)_", MAIN).tolist() == ["12", "12"]


def test_ids_that_differ_by_leading_zeros_are_named():
    patients = pd.Series(["12", "0012", "p-07", "p-7", "p-70", "p-700", "100", "1000", "0", "00", ""])
    assert apart_by_zeros(patients) == ["'0', '00'", "'0012', '12'", "'p-07', 'p-7'"]
    # Whatever else tells them apart by accident.
    assert apart_by_zeros(pd.Series(["P_012", "p12", "p-13", "0007.0", "7"])) == ["'0007.0', '7'", "'P_012', 'p12'"]
    assert known_patients(pd.Series(["a/x"]), pd.DataFrame({"path": ["a/x"], "patient": ["07"]}), None).tolist() == [
        "07"
    ]


def test_different_patients_stay_different():
    patients = ["p1-2", "p12", "p1-20", "p 3", "1.5", "1.50", "15", "b/p12", "\u00e9", "e"]
    paths = pd.Series([f"a/{k}" for k in range(len(patients))])
    assert known_patients(paths, pd.DataFrame({"path": paths, "patient": patients}), None).tolist() == patients
