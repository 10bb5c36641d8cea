"""Pre-trained weights of the backbone, so that training needs no network: data/backbone/."""

from _stage import run

from brain_tumor.files import replacing_folder
from brain_tumor.networks.backbone import write_backbone


def main(params, arguments):
    name, weights, found, origin = params.model.backbone, params.model.weights, None, {}
    if weights != "none":
        from brain_tumor.networks.trunks import pretrained_weights  # loads TensorFlow, which takes four seconds

        found, origin = pretrained_weights(name, weights)
    with replacing_folder("data/backbone") as folder:
        about = write_backbone(folder, found, origin)
    print(f"{name}: {'no pre-trained weights' if found is None else 'weights with SHA-256 ' + about['sha256']}")


if __name__ == "__main__":
    run(main)
