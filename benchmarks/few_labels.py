r"""What pretraining gives where labels are few: an encoder against the same network from scratch.

    python -m recipes.simclr --preset=cifar10_small --data_dir=path/to/tfds --out=runs/simclr
    python -m benchmarks.few_labels runs/simclr --data_dir=path/to/tfds [--record]

The first 10,000 images of CIFAR-10, which the encoder was trained on without labels; 1 % and 10 %
of their labels, five draws each, and all of them. Scores on the 10,000 test images, by
`keras_ssl.evaluate`. With `--record` the table goes into RESULTS.md.
"""

import json
import pathlib
import sys

import numpy as np
from absl import app, flags

from benchmarks import results

IMAGES, DRAWS = 10_000, 5
KINDS = ("linear", "linear, random", "fine-tuned", "from scratch")


def table(card):
    """Rows of the study: one a share of the labels."""
    rows = [["labels", "images", *KINDS]]
    for share, found in card.scores["lowshot"].items():
        cells = [f"{100 * found[k]['mean']:.1f} ± {100 * found[k]['std']:.1f}" for k in KINDS]
        rows.append([share, found["fine-tuned"]["images"], *cells])
    linear, tuned = card.scores["linear"], card.scores["finetune"]
    scores = [linear["encoder"], linear["random"], tuned["fine-tuned"], tuned["from scratch"]]
    return [*rows, ["100%", card.data["train"]["size"], *(f"{100 * s:.1f}" for s in scores)]]


def main(arguments):
    """Evaluate the encoder and print the table."""
    import keras_ssl

    if len(arguments) != 2:
        raise app.UsageError("Give the run folder of the encoder.")
    commit = results.commit()
    source, test = keras_ssl.data.splits("cifar10", data_dir=flags.FLAGS.data_dir)
    card = keras_ssl.evaluate(
        arguments[1],
        source.subset(np.arange(IMAGES)),
        pathlib.Path(arguments[1]) / "few_labels.json",
        test=test,
        protocols="linear,lowshot,finetune",
        draws=DRAWS,
    )
    rows = table(card)
    for row in rows:
        print("  ".join(f"{cell!s:>14}" for cell in row))
    if flags.FLAGS.record:
        about = json.loads((pathlib.Path(arguments[1]) / "config.json").read_text())
        results.record(
            "study",
            f"Few labels: accuracy in %, {IMAGES} images of cifar10, {about['backbone']} trained "
            "without labels by SimCLR, and the same network without",
            f"python -m benchmarks.few_labels {' '.join(sys.argv[1:])}",
            {},
            seed=0,
            epochs=about["epochs"],
            table=rows,
            commit=commit,
        )
    return 0


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", None, "Where TFDS data sets lie.")
    flags.DEFINE_bool("record", False, "Whether to write the figures to RESULTS.md.")
    app.run(main)
