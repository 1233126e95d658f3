r"""Yardsticks for likelihood models on CIFAR-10: what images cost without one.

    python -m benchmarks.yardsticks --data_dir=path/to/tfds [--record]

Bits per dimension of the 10,000 test images: under independent pixels, whose distributions are
counted on the 10,000 training images of the small protocol, and on all 50,000; and as lossless
files, one an image. At 32 px, and at the 16 px of the models that draw slowest.
"""

import sys

import numpy as np
from absl import app, flags

from benchmarks import results

SIZES = (32, 16)


def yardsticks(source, test, size):
    """Bits per dimension of the test images at a size, and their standard error, by name."""
    from keras_ssl import evaluation

    train, images = (each.arrays((size, size))[0] for each in (source, test))
    return {
        "independent pixels, 10,000 training images": evaluation.independent_pixels(
            train[np.arange(10_000)], images
        ),
        "independent pixels, 50,000 training images": evaluation.independent_pixels(train, images),
        "PNG": evaluation.compressed(images),
        "WebP, lossless": evaluation.compressed(images, "WEBP"),
    }


def main(arguments):
    """Measure and print the table."""
    from keras_ssl import data

    source, test = data.splits("cifar10", data_dir=flags.FLAGS.data_dir)
    columns = [yardsticks(source, test, size) for size in SIZES]
    table = [["bits per dimension", *(f"{size} px" for size in SIZES)]]
    for name in columns[0]:
        cells = (column[name] for column in columns)
        table.append([name, *(f"{mean:.3f} ± {error:.3f}" for mean, error in cells)])
    for row in table:
        print("  ".join(f"{cell:<44}" for cell in row))
    if flags.FLAGS.record:
        results.record(
            "study",
            "Yardsticks for likelihoods: 10,000 test images of cifar10 without a model",
            f"python -m benchmarks.yardsticks {' '.join(sys.argv[1:])}",
            {},
            table=table,
        )
    return 0


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", None, "Where TFDS data sets lie.")
    flags.DEFINE_bool("record", False, "Whether to write the table to RESULTS.md.")
    app.run(main)
