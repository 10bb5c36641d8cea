"""A self-contained page about the run: report/index.html. It shows images of the data set, so it is never in git."""

import hashlib
import json
from pathlib import Path

from _stage import run

import brain_tumor
from brain_tumor.files import replacing_folder
from brain_tumor.report.identity import code_fingerprint
from brain_tumor.report.page import write_report
from brain_tumor.tables.csv_tables import read_table
from brain_tumor.tables.store import fingerprint

GALLERIES = ("data/audit", "data/audit_model", "data/galleries", "data/novelty")


def main(params, arguments):
    files = sorted(Path("metrics").glob("*.json"))
    metrics = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}
    galleries = [path for folder in GALLERIES for path in sorted(Path(folder).glob("*.html"))]
    text = Path("params.yaml").read_text(encoding="utf-8")
    # What predicts is made by the run, and no part of what made it.
    rooms = [path.parent for path in Path("src/brain_tumor").glob("*/__init__.py") if path.parent.name != "serving"]
    with replacing_folder("report") as folder:
        write_report(
            folder / "index.html",
            metrics,
            {path.stem: path for path in sorted(Path("plots").glob("*.svg"))},
            {path.stem: path for path in galleries},
            params=params.model_dump(),
            params_text=text,
            simulated=any(source.kind[0] == "phantoms" for source in params.data.sources.values()),
            version=brain_tumor.__version__,
            fingerprints={
                "data": fingerprint(read_table("data/prepared/index.csv")),
                "params": hashlib.sha256(text.encode()).hexdigest(),
                "code": code_fingerprint(["stages", *rooms]),
            },
        )
        size = (folder / "index.html").stat().st_size
    print(f"report/index.html: {size / 1e6:.1f} MB, opens in any browser")


if __name__ == "__main__":
    run(main)
