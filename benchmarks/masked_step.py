r"""What it saves that masked encoders compute visible patches alone: steps of MAE by mask rate.

    python -m benchmarks.masked_step [--rates=0.75,0.5] [--record]

A training step of `MAE` with its default decoder, AdamW, compiled; with a share of the patches
hidden, and with one patch hidden alone, in turn in one process. Seconds are medians of `--steps`
steps after two that compile and warm up. The paper reports 2.8 to 4.1 times for ViT-L and ViT-H
with 75 % hidden (table 2).
"""

import statistics
import sys
import time

import numpy as np
from absl import app, flags

from benchmarks import results

flags.DEFINE_list("rates", ["0.75"], "Shares of hidden patches.")
flags.DEFINE_list(
    "networks", ["vit_tiny:32:128", "vit_small:224:8"], "Network, pixels a side, images a step."
)
flags.DEFINE_integer("steps", 7, "Steps of each kind.")
flags.DEFINE_bool("record", False, "Whether to write the figures to RESULTS.md.")
FLAGS = flags.FLAGS

HEAD = ["network", "patches", "hidden", "s a step", "s with one hidden", "ratio"]


def stepper(network, side, batch, rate):
    """A function that takes one step, and the number of patches."""
    import keras

    import keras_ssl

    backbone = keras_ssl.backbones.get(network, (side, side, 3))
    length = int(np.prod(backbone.token_grid()))
    model = keras_ssl.MAE(backbone, mask_rate=rate if rate else 1 / length)
    model.compile(keras.optimizers.AdamW(1e-4))
    rng = np.random.default_rng(0)
    images = keras.ops.convert_to_tensor(rng.random((batch, side, side, 3), "float32"))
    noise = keras.ops.convert_to_tensor(rng.random((batch, length), "float32"))
    model.make_train_function()
    data = iter(lambda: {"views": (images,), "mask_noise": noise}, None)

    def take():
        logs = model.train_function(data)
        return {name: float(value) for name, value in logs.items()}  # waits for the result

    return take, length


def main(_):
    """Print, and with `--record` keep, the table."""
    rows = []
    for text in FLAGS.networks:
        network, side, batch = text.split(":")
        for rate in map(float, FLAGS.rates):
            turns = [stepper(network, int(side), int(batch), r) for r in (rate, None)]
            seconds = [[], []]
            for number in range(FLAGS.steps + 2):
                for (take, _), kept in zip(turns, seconds):
                    start = time.perf_counter()
                    take()
                    if number >= 2:
                        kept.append(time.perf_counter() - start)
            masked, whole = map(statistics.median, seconds)
            shown = [f"{network}, {side} px, {batch} images", turns[0][1], f"{100 * rate:g} %"]
            rows.append([*shown, f"{masked:.3f}", f"{whole:.3f}", f"{whole / masked:.2f}"])
            print("  ".join(f"{cell!s:>16}" for cell in rows[-1]), flush=True)
    if FLAGS.record:
        command = " ".join(["python -m benchmarks.masked_step", *sys.argv[1:]])
        results.record("speed", "MAE's step by mask rate", command, {}, table=[HEAD, *rows])


if __name__ == "__main__":
    app.run(main)
