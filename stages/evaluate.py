"""Figures, curves and pictures of what the models predicted of the test images; needs no TensorFlow."""

from _stage import run

from brain_tumor.evaluation import metrics, plots
from brain_tumor.evaluation.cohorts import class_names, cohorts, load_predictions, probabilities
from brain_tumor.evaluation.crossvalidation import fold_figures
from brain_tumor.evaluation.table import metrics_table
from brain_tumor.files import write_json
from brain_tumor.tables import write_table


def main(params, arguments):
    folds, least = params.train.folds, params.evaluate.min_class_images
    frame = load_predictions("data/predictions/test", "data/split/folds.csv", folds)
    classes = class_names(frame)

    def figures(part):
        return metrics.cohort_metrics(part["label"], probabilities(part), classes, least, part["group"])

    parts = cohorts(frame, params.split.strategy)
    test = {name: figures(part) for name, part in parts.items()}
    headline = next(iter(parts))
    test[headline] |= fold_figures(parts[headline], params.evaluate.searched_folds, least)
    write_json("metrics/test.json", test)

    shown = parts[headline]["label"], probabilities(parts[headline]), classes
    write_table("plots/confusion.csv", metrics.confusion_rows(*shown))
    plots.confusion_png("plots/confusion.png", metrics.confusion_counts(*shown), title=headline)
    curves = metrics.roc_curves(*shown)
    write_table("plots/roc.csv", curves.melt("fpr", var_name="class", value_name="tpr"))
    plots.roc_png("plots/roc.png", curves, metrics.roc_areas(*shown), title=headline)
    print(metrics_table(test), end="")


if __name__ == "__main__":
    run(main)
