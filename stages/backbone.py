"""Pre-trained weights of the backbone, so that training needs no network: data/backbone/."""

from _stage import quiet_tensorflow, run

quiet_tensorflow("backbone")

from brain_tumor.files import replacing_folder  # noqa: E402
from brain_tumor.model.transfer import application_weights, write_backbone  # noqa: E402


def main(params, arguments):
    name, weights = params.model.backbone, params.model.weights
    found = None if weights == "none" else application_weights(name, weights)
    with replacing_folder("data/backbone") as folder:
        about = write_backbone(folder, found)
    print(f"{name}: {'no pre-trained weights' if found is None else 'weights with SHA-256 ' + about['sha256']}")


if __name__ == "__main__":
    run(main)
