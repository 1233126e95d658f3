r"""Continued pretraining: what an encoder of other images gains, or loses, on a few of one's own.

    python -m recipes.simclr --preset=cifar10_small --data_dir=path/to/tfds --out=runs/simclr
    python -m benchmarks.continued runs/simclr --data=path/to/photos [--record]

The encoder was trained on CIFAR-10; the photographs (a folder with `train` and `val`, sub-folders
are classes) are other images. Trained on a part of them without labels: from new weights; from the
encoder by the method's default optimizer; by the gentle one; and that with layer-wise decay. The
figure is the accuracy of weighted kNN (k 200, temperature 0.07), all training photographs as the
bank, on those of `val`. With `--record` the table goes into RESULTS.md.
"""

import pathlib
import sys

import numpy as np
from absl import app, flags

from benchmarks import results

SIZE, BATCH = 32, 128
RUNS = (("SimCLR", 1000, 20), ("SimCLR", 5000, 5), ("BYOL", 1000, 20))  # method, images, epochs
HEAD = [
    "method",
    "images",
    "steps",
    "as it came",
    "new weights",
    "default",
    "gentle",
    "layer decay",
]
DECAY = 0.7


def trained(name, source, epochs, start, optimizer, layer_decay=None):
    """The method after training on `source`."""
    import keras

    import keras_ssl
    from keras_ssl import backbones
    from keras_ssl.engine import optimizer as frame

    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    shape = (SIZE, SIZE, 3)
    backbone = keras_ssl.load_encoder(start) if start else backbones.small_conv(shape)
    model = keras_ssl.create(name, shape, backbone)
    factors = layer_decay and backbones.rate_factors(model, model.backbone, layer_decay)
    steps = source.size // BATCH
    frame.compile_default(model, epochs, steps, BATCH, None, optimizer, factors)
    if epochs:
        model.fit(source, batch_size=BATCH, epochs=epochs, seed=0, verbose=0)
    return model


def main(arguments):
    """Train with each setting and print the table."""
    import keras

    import keras_ssl

    if len(arguments) != 2:
        raise app.UsageError("Give the run folder of the encoder.")
    keras.config.set_dtype_policy(flags.FLAGS.precision)
    start, folder = arguments[1], pathlib.Path(flags.FLAGS.data)
    commit = results.commit()
    bank, queries = (keras_ssl.data.load(folder / part) for part in ("train", "val"))
    bank, queries = (source.arrays((SIZE, SIZE)) for source in (bank, queries))
    order = np.random.default_rng(0).permutation(len(bank[0]))

    def knn(encoder):
        return f"{keras_ssl.evaluation.knn_accuracy(encoder, bank, queries):.4f}"

    came, table = keras_ssl.load_encoder(start), [HEAD]
    print("  ".join(HEAD), flush=True)
    for name, count, epochs in RUNS:
        source = keras_ssl.data.from_array(bank[0][order[:count]])
        row = [name, count, epochs * (count // BATCH), knn(came)]
        for setting in (
            {"start": None, "optimizer": "auto"},
            {"start": start, "optimizer": "auto"},
            {"start": start, "optimizer": "gentle"},
            {"start": start, "optimizer": "gentle", "layer_decay": DECAY},
        ):
            row.append(knn(trained(name, source, epochs, **setting).encode))
            print("  ".join(map(str, row)), flush=True)
        table.append(row)
    if flags.FLAGS.record:
        results.record(
            "study",
            f"Continued pretraining: kNN on {len(queries[0])} photographs of "
            f"{len(set(queries[1].tolist()))} classes, at {SIZE} px, by small_conv that SimCLR "
            "trained on 10,000 images of cifar10",
            f"python -m benchmarks.continued {' '.join(sys.argv[1:])}",
            {},
            seed=0,
            epochs="20 (1,000 images), 5 (5,000)",
            table=table,
            commit=commit,
        )
    return 0


if __name__ == "__main__":
    flags.DEFINE_string("data", None, "Folder of photographs, with train and val.")
    flags.DEFINE_string("precision", "float32", "Number format.")
    flags.DEFINE_bool("record", False, "Whether to write the table to RESULTS.md.")
    app.run(main)
