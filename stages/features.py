"""What a frozen backbone makes of every image and its mirror image, once for all folds: data/features/."""

import numpy as np
from _stage import quiet_tensorflow, run

quiet_tensorflow("features")

from brain_tumor.data.store import Store  # noqa: E402
from brain_tumor.files import replacing_folder  # noqa: E402
from brain_tumor.model import networks, transfer  # noqa: E402
from brain_tumor.model.determinism import make_deterministic  # noqa: E402


def main(params, arguments):
    make_deterministic(params.train.threads)
    if params.model.frozen < 1:
        features = np.empty((0, 2, 0), np.float32)
        print("the backbone is trained: no features to keep")
    else:
        weights, _ = transfer.read_backbone("data/backbone")
        shape = params.model.model_dump(include={"backbone", "width", "stride"})
        trunk = networks.trunk(size=params.preprocess.size, weights=weights, **shape)
        features = transfer.pooled_features(trunk, Store("data/prepared").images, params.predict.batch_size)
        print(f"{len(features)} images, {features.shape[-1]} features")
    with replacing_folder("data/features") as folder:
        np.save(folder / "features.npy", features)


if __name__ == "__main__":
    run(main)
