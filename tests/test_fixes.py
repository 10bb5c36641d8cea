"""data/fixes.csv leads from a finding to other data; what does not fit is refused."""

import pandas as pd
import pytest

from brain_tumor.errors import PipelineError
from brain_tumor.prepare.fixes import apply_fixes, read_fixes
from brain_tumor.source.layout import ImageFile

FILES = [ImageFile(f"Training/{label}/{k}.png", "Training", label) for label in "ab" for k in range(3)]


def written(folder, *rows: str):
    path = folder / "fixes.csv"
    path.write_text("\n".join(["path,action,reason", *rows]) + "\n", encoding="utf-8")
    return path


def test_images_are_dropped_and_relabelled(tmp_path):
    path = written(tmp_path, "Training/a/1.png,drop,blurred", 'Training/b/0.png,relabel:a,"seen, and wrong"')
    kept = apply_fixes(FILES, read_fixes(path))
    assert [(file.path, file.label) for file in kept] == [
        ("Training/a/0.png", "a"),
        ("Training/a/2.png", "a"),
        ("Training/b/0.png", "a"),
        ("Training/b/1.png", "b"),
        ("Training/b/2.png", "b"),
    ]
    assert apply_fixes(FILES, read_fixes(written(tmp_path))) == FILES


@pytest.mark.parametrize(
    "row, said",
    [
        ("Training/a/1.png,delete,x", "'delete'"),
        ("Training/a/1.png,,x", "drop or relabel:<class>"),
        ("Training/a/9.png,drop,x", "'Training/a/9.png'"),
        ("Training/a/1.png,relabel:c,x", "['a', 'b']"),
        ("Training/a/1.png,relabel:,x", "['a', 'b']"),
        ("Training/a/1.png,drop,x\nTraining/a/1.png,relabel:b,y", "several"),
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
