"""What speaks against the networks of a run, as sentences derived from the metrics, so that no bad news is left out."""

from collections.abc import Mapping

from brain_tumor.words import words

_SCORES = {"log_loss": "log loss", "brier": "the Brier score", "ece": "the calibration error"}
# What a control sees, by its place in metrics/audit_model.json.
_BLIND = {
    ("file", "all"): "by the traits of the file alone",
    ("network", "brain_masked"): "by the network, from images without their brain",
}


def weaknesses(
    metrics: Mapping[str, dict], headline: str, healthy_class: str, target_error: float, target_miss: float
) -> list[str]:
    """What a reader should know before believing the headline.

    Args:
        metrics: name of each metrics file -> its content.
        headline: the cohort of the headline.
        healthy_class: the class without a tumour.
        target_error: largest share of wrong answers that the thresholds aim at.
        target_miss: the same of tumours that are answered as healthy.

    Returns:
        A sentence with its figures for each weakness, one for all those of a cohort; empty if there is none.
    """
    main, audit_model, maps = metrics["test"][headline], metrics["audit_model"], metrics["maps"]
    found = [
        f"Calibration made {title} worse: {main[name]:.3f} after it, {main['uncalibrated'][name]:.3f} before."
        for name, title in _SCORES.items()
        if main[name] > main["uncalibrated"][name]
    ]
    limits = {
        "error": (target_error, "of the answers are wrong"),
        "missed": (target_miss, f"of the tumours are answered {words(healthy_class)}"),
    }
    for cohort, figures in metrics["test"].items():
        if said := _worse(figures, main, headline) + _off_target(figures, limits):
            found.append(f"{cohort}: {'; '.join(said)}.")
    for (source, control), how in _BLIND.items():
        figures, chance = audit_model["shortcuts"].get(source, {}).get(control), 1 / len(main["per_class"])
        if figures and figures["balanced_accuracy_ci_low"] > chance:
            score = f"a balanced accuracy of {figures['balanced_accuracy']:.3f} (chance: {chance:.2f})"
            found.append(f"The class can be told without seeing the disease, {how}, with {score}.")
    if maps["peak_in_brain"] <= maps["peak_in_brain_by_chance"]:
        found.append("The maps peak in the brain no more often than by chance.")
    if maps["randomised_similarity"] > 0.5:
        found.append("The maps hardly change when the weights are made random: they do not show what was learned.")
    return found


def _worse(figures: dict, main: dict, headline: str) -> list[str]:
    """Scores of a cohort that are below the interval of the headline's."""
    said = []
    tumour = figures.get("tumour", {}), main.get("tumour", {})
    for (part, whole), name, title in (
        ((figures, main), "accuracy", "accuracy"),
        (tumour, "roc_auc", "ROC-AUC of tumour vs. no tumour"),
    ):
        if name in part and name in whole and part[name] < whole.get(f"{name}_ci_low", whole[name]):
            said.append(f"{title} {part[name]:.3f}, against {whole[name]:.3f} of {headline}")
    return said


def _off_target(figures: dict, limits: dict[str, tuple[float, str]]) -> list[str]:
    """What a cohort does worse than it was aimed at or promised."""
    said = []
    for name, (target, what) in limits.items():
        if (value := figures["selective"].get(name, 0)) > target:
            said.append(f"{_share(value)} {what} (aimed at: {_share(target)})")
    for level, sets in figures.get("conformal", {}).items():
        nominal = level.removeprefix("coverage_")
        if sets.get("coverage_ci_high", sets["coverage"]) < int(nominal) / 100:
            said.append(f"the {nominal} % prediction sets hold the true class in {_share(sets['coverage'])}")
    return said


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"
