"""A self-contained page about the run: report/index.html. It shows images of the data set, so it is never in git."""

import json
from pathlib import Path

from _stage import run

from brain_tumor.files import replacing_folder
from brain_tumor.report.page import write_report
from brain_tumor.tables.csv_tables import read_table
from brain_tumor.tables.store import fingerprint

PICTURES = ("data/audit", "data/audit_model", "data/galleries", "data/novelty", "plots")


def main(params, arguments):
    files = sorted(Path("metrics").glob("*.json"))
    metrics = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}
    found = [path for folder in PICTURES for path in sorted(Path(folder).glob("*.png"))]
    with replacing_folder("report") as folder:
        write_report(
            folder / "index.html",
            metrics,
            {path.stem: path for path in found},
            params=params.model_dump(),
            params_text=Path("params.yaml").read_text(encoding="utf-8"),
            fingerprint=fingerprint(read_table("data/prepared/index.csv")),
        )
        size = (folder / "index.html").stat().st_size
    print(f"report/index.html: {size / 1e6:.1f} MB, opens in any browser")


if __name__ == "__main__":
    run(main)
