"""Features of every image and its mirror image from a frozen backbone, once for all folds: data/features/."""

import numpy as np
from _stage import run

from brain_tumor.files import replacing_folder
from brain_tumor.networks.backbone import read_backbone
from brain_tumor.tables.store import Store


def main(params, arguments):
    if params.model.frozen < 1:
        features = np.empty((0, 2, 0), np.float32)
        print("the backbone is trained: no features to keep")
    else:
        # TensorFlow takes four seconds to load.
        from brain_tumor.networks.determinism import make_deterministic
        from brain_tumor.networks.trunks import pooled_features, trunk

        make_deterministic(params.run.threads)
        weights, _ = read_backbone("data/backbone")
        images, shape = Store("data/prepared").images, params.model.model_dump(include={"backbone", "width", "stride"})
        body = trunk(size=images.shape[1], weights=weights, **shape)
        features = pooled_features(body, images, params.predict.batch_size)
        print(f"{len(features)} images, {features.shape[-1]} features")
    with replacing_folder("data/features") as folder:
        np.save(folder / "features.npy", features)


if __name__ == "__main__":
    run(main)
