"""Pre-trained weights of the backbone, so that training needs no network: data/backbone/."""

from _stage import run

from brain_tumor.files import replacing_folder
from brain_tumor.networks.backbone import write_backbone
from brain_tumor.networks.trunks import pretrained_weights


def main(params, arguments):
    name, weights = params.model.backbone, params.model.weights
    found, origin = (None, {}) if weights == "none" else pretrained_weights(name, weights)
    with replacing_folder("data/backbone") as folder:
        about = write_backbone(folder, found, origin)
    print(f"{name}: {'no pre-trained weights' if found is None else 'weights with SHA-256 ' + about['sha256']}")


if __name__ == "__main__":
    run(main)
