"""Pages of pairs of images for a person to judge."""

from pathlib import Path

import pandas as pd

from brain_tumor.audit.copies import COPY, IDENTICAL, LOOK_ALIKE
from brain_tumor.audit.findings import LABEL_CONFLICT, PATIENT_CONFLICT, SOURCE_CONFLICT
from brain_tumor.audit.views import ORIENTATIONS
from brain_tumor.drawing.gallery import MOST, file_gallery_html
from brain_tumor.progress import bar
from brain_tumor.words import words

_TITLES = {
    IDENTICAL: "Byte-identical files",
    COPY: "Copies, the least certain first",
    LOOK_ALIKE: "Not accepted as copies, the most alike first",
    LABEL_CONFLICT: "One picture in two classes",
    PATIENT_CONFLICT: "One patient in two classes",
    SOURCE_CONFLICT: "Labels that the origin of the image contradicts",
}


def pair_galleries(folder: Path | str, root: Path | str, findings: pd.DataFrame, pairs: pd.DataFrame) -> None:
    """Write `<kind>.html` for each kind of pair, at most 52 pairs of each.

    Args:
        folder: existing, to write to.
        root: of the data set.
        findings: what `findings.findings_table` returns; the pairs to judge first are first.
        pairs: what `copies.find_copies` returns, for the nearest pairs that were not accepted.
    """
    nearest = pairs[pairs["kind"] == LOOK_ALIKE].sort_values(["score", "path", "other"], ascending=[False, True, True])
    shown = {kind: findings[findings["kind"] == kind] for kind in _TITLES} | {LOOK_ALIKE: nearest}
    for kind, title in bar(_TITLES.items(), desc="draw", unit="page"):
        rows = []
        for row in shown[kind].head(MOST).itertuples():
            turned = f", {row.orientation}" if row.orientation not in ("", ORIENTATIONS[0]) else ""
            if kind == SOURCE_CONFLICT:
                place, _, name = row.path.rpartition("/")
                rows.append(((row.path,), f"{place}\n{name}\norigin: {words(row.other_label)}"))
            else:
                rows.append(((row.path, row.other), f"{row.path}\n{row.other}\n{row.score:.3f}{turned}"))
        title = f"{title} ({len(rows)} of {len(shown[kind])})"
        file_gallery_html(Path(folder) / f"{kind}.html", root, rows, title)
