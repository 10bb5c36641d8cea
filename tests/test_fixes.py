"""data/fixes.csv leads from a finding to other data; what does not fit is refused."""

import pandas as pd
import pytest

from brain_tumor.errors import PipelineError
from brain_tumor.prepare.fixes import apply_fixes, read_fixes
from brain_tumor.prepare.sources import SourceImage

FILES = [SourceImage(f"scans/Training/{label}/{k}.png", "scans", "Training", label) for label in "ab" for k in range(3)]


def written(folder, *rows: str):
    path = folder / "fixes.csv"
    path.write_text("\n".join(["path,action,reason", *rows]) + "\n", encoding="utf-8")
    return path


def test_images_are_dropped_and_relabelled(tmp_path):
    path = written(
        tmp_path, "scans/Training/a/1.png,drop,blurred", 'scans/Training/b/0.png,relabel:a,"seen, and wrong"'
    )
    kept = apply_fixes(FILES, read_fixes(path))
    assert [(file.path, file.label) for file in kept] == [
        ("scans/Training/a/0.png", "a"),
        ("scans/Training/a/2.png", "a"),
        ("scans/Training/b/0.png", "a"),
        ("scans/Training/b/1.png", "b"),
        ("scans/Training/b/2.png", "b"),
    ]
    assert apply_fixes(FILES, read_fixes(written(tmp_path))) == FILES


@pytest.mark.parametrize(
    "row, said",
    [
        ("scans/Training/a/1.png,delete,x", "'delete'"),
        ("scans/Training/a/1.png,,x", "drop or relabel:<class>"),
        ("scans/Training/a/9.png,drop,x", "'scans/Training/a/9.png'"),
        ("scans/Training/a/1.png,relabel:c,x", "['a', 'b']"),
        ("scans/Training/a/1.png,relabel:,x", "['a', 'b']"),
        ("scans/Training/a/1.png,drop,x\nscans/Training/a/1.png,relabel:b,y", "several"),
    ],
)
def test_a_fix_that_does_not_fit_is_refused(tmp_path, row, said):
    with pytest.raises(PipelineError) as caught:
        apply_fixes(FILES, read_fixes(written(tmp_path, row)))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_table_of_another_kind_is_refused(tmp_path):
    pd.DataFrame({"path": ["x"], "label": ["a"]}).to_csv(tmp_path / "fixes.csv", index=False)
    with pytest.raises(PipelineError, match="path,action,reason"):
        read_fixes(tmp_path / "fixes.csv")
