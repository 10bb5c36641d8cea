"""Find copies, patients and contradicting labels: data/audit/ and metrics/audit.json."""

from _stage import run

from brain_tumor.audit.copies import find_copies
from brain_tumor.audit.findings import audit_metrics, findings_table
from brain_tumor.audit.galleries import pair_galleries
from brain_tumor.audit.groups import group_table, known_patients
from brain_tumor.audit.reading import read_views
from brain_tumor.files import replacing_folder, write_json
from brain_tumor.tables.csv_tables import read_table, write_table


def main(params, arguments):
    options = params.audit
    index = read_table("data/prepared/index.csv")
    patients = known_patients(index["path"], read_table("data/patients.csv", ["path", "patient"]), options.patients)
    views, traits = read_views("data/raw", index)
    pairs = find_copies(
        index,
        views,
        hash_distance=options.hash_distance,
        candidates_per_image=options.candidates,
        crops=options.crops,
        least=options.similarity,
    )
    groups = group_table(index, pairs, patients, max_share=options.max_group_share)
    findings = findings_table(index, pairs, groups)
    figures = audit_metrics(index, findings, groups, read_table("data/prepared/fixed.csv"))
    with replacing_folder("data/audit") as folder:
        write_table(folder / "groups.csv", groups)
        write_table(folder / "findings.csv", findings)
        write_table(folder / "traits.csv", traits)
        pair_galleries(folder, "data/raw", findings, pairs)
    write_json("metrics/audit.json", figures)
    copies, conflicts = figures["copies"], figures["conflicts"]
    print(f"{copies['images']} images show {copies['groups']} pictures, at most {copies['largest']} the same one")
    print(f"contradicting labels: {conflicts['label']} within a picture, {conflicts['patient']} within a patient")
    for name, part in figures.get("folders", {}).items():
        print(f"{name}: {part['with_copy_elsewhere']} of {part['n']} images have a copy in another folder")


if __name__ == "__main__":
    run(main)
