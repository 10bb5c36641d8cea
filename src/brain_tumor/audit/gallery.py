"""Pictures of findings for a person to judge. They show images of the data set: DVC caches them, git never has them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from brain_tumor.audit.copies import COPY, IDENTICAL, LOOK_ALIKE
from brain_tumor.audit.findings import LABEL_CONFLICT, PATIENT_CONFLICT
from brain_tumor.audit.views import ORIENTATIONS
from brain_tumor.evaluation.figures import figure_file
from brain_tumor.imaging import decode, resize_square

_EDGE = 192  # pixels an image is shown with
_MOST = 52  # findings of a kind that are shown
_TITLES = {
    IDENTICAL: "Byte-identical files",
    COPY: "Copies, the least certain first",
    LOOK_ALIKE: "Not accepted as copies, the most alike first",
    LABEL_CONFLICT: "One picture in two classes",
    PATIENT_CONFLICT: "One patient in two classes",
}


def gallery_png(
    path: Path | str, root: Path | str, rows: Sequence[tuple[Sequence[str], str]], title: str, columns: int = 4
) -> None:
    """Draw images side by side, one cell per finding.

    Args:
        path: PNG file to write.
        root: of the data set.
        rows: (paths of the one or two images of a finding, caption); an empty list gives a page that says so.
        title: of the page.
        columns: findings per line.
    """
    lines = max(-(-len(rows) // columns), 1)
    with figure_file(path, columns * 3.6, lines * 2.35 + 0.4, dpi=110) as figure:
        figure.suptitle(title if len(rows) else f"{title}: none", fontsize=11, fontweight="bold")
        for axes, (paths, caption) in zip(figure.subplots(lines, columns, squeeze=False).flat, rows, strict=False):
            images = [resize_square(decode((Path(root) / name).read_bytes()), _EDGE) for name in paths]
            gap = np.full((_EDGE, 4), 255, np.uint8)
            axes.imshow(np.hstack([images[0], *[part for image in images[1:] for part in (gap, image)]]), cmap="gray")
            axes.set_title(caption, fontsize=7, fontweight="normal")
        for axes in figure.axes:
            axes.set_axis_off()


def pair_galleries(folder: Path | str, root: Path | str, findings: pd.DataFrame, pairs: pd.DataFrame) -> None:
    """Draw `<kind>.png` for each kind of pair that a person should judge, at most 52 of each.

    Args:
        folder: existing, to write to.
        root: of the data set.
        findings: what `findings.findings_table` returns; kinds stand in it the ones to judge first.
        pairs: what `copies.find_copies` returns, for the nearest pairs that were not accepted.
    """
    nearest = pairs[pairs["kind"] == LOOK_ALIKE].sort_values(["score", "path", "other"], ascending=[False, True, True])
    shown = {kind: findings[findings["kind"] == kind] for kind in _TITLES} | {LOOK_ALIKE: nearest}
    for kind, title in _TITLES.items():
        rows = []
        for row in shown[kind].head(_MOST).itertuples():
            turned = f", {row.orientation}" if row.orientation not in ("", ORIENTATIONS[0]) else ""
            rows.append(((row.path, row.other), f"{row.path}\n{row.other}\n{row.score:.3f}{turned}"))
        gallery_png(Path(folder) / f"{kind}.png", root, rows, f"{title} ({len(rows)} of {len(shown[kind])})")


def label_gallery(path: Path | str, root: Path | str, suspects: pd.DataFrame) -> None:
    """Draw the images whose labels are the most suspicious, at most 52.

    Args:
        path: PNG file to write.
        root: of the data set.
        suspects: rows of what `labels.suspicious_labels` returns, the most suspicious first.
    """
    rows = [
        ((row.path,), f"{row.rank}. {row.path}\nlabel {row.label} ({row.quality:.3f})\nmodels say {row.suggested}")
        for row in suspects.head(_MOST).itertuples()
    ]
    gallery_png(path, root, rows, f"Suspicious labels ({len(rows)} of {len(suspects)})")
