r"""How much faster methods draw images when they keep what earlier pixels have left.

    python -m benchmarks.sampling [--methods=PixelCNN,PixelCNNPP] [--sizes=16,24,32] [--record]

Methods that draw pixel by pixel have `sample(count, seed, cached)` and `complete(images, rows,
seed, cached)`. With `cached`, all `--count` images are drawn. Without, each value costs a forward
pass over whole images, and all cost the same: the last row alone is drawn, and its time multiplied
by the height. Networks are untrained, which does not change their cost; times are medians of three
calls after a first one, which traces. With `--record` the rows that were measured replace theirs in
RESULTS.md.
"""

import time

import numpy as np
from absl import app, flags

from benchmarks import results

FLAGS = flags.FLAGS
REPEATS = 3
HEAD = ["method", "size", "cached, s", "pixel by pixel, s", "ratio", "commit"]


def row(name, size, count):
    """Seconds for `count` images of one size in both ways, and their ratio."""
    import keras_ssl
    from keras_ssl import data

    images = np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype("uint8")
    model = keras_ssl.create(name, (size, size, 3))
    model.begin_epoch(data.from_array(images))  # what starts from data does so
    fast = seconds(lambda: model.sample(count, seed=0))
    slow = size * seconds(lambda: model.complete(images, size - 1, seed=0, cached=False))
    times = [f"{fast:.2f}", f"{slow:.1f}", f"{slow / fast:.0f}"]
    return [name, f"{size} px", *times, results.commit()]


def seconds(draw):
    """Median time of `draw()`, after a call that traces."""
    times = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        np.asarray(draw())
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


def main(arguments):
    """Measure and print the table."""
    rows = []
    for name in FLAGS.methods:
        for size in map(int, FLAGS.sizes):
            rows.append(row(name, size, FLAGS.count))
            print("  ".join(f"{cell:>18}" for cell in rows[-1]), flush=True)
            if FLAGS.record:
                record(rows)
    return 0


def record(rows):
    """Put rows into the table; those of other methods and sizes stay."""
    title = f"Drawing {FLAGS.count} images: cached, and by a forward pass for each value"
    old = next((r["table"][1:] for r in results.records() if r["title"] == title), [])
    kept = {tuple(cells[:2]): cells for cells in [*old, *rows]}
    results.record(
        "speed",
        title,
        "python -m benchmarks.sampling --record",
        {},
        table=[HEAD, *(kept[place] for place in sorted(kept))],
    )


if __name__ == "__main__":
    flags.DEFINE_list(
        "methods", ["PixelCNN", "PixelCNNPP", "PixelRNN", "ImageGPT"], "Names of methods."
    )
    flags.DEFINE_list("sizes", ["16", "24", "32"], "Pixels a side.")
    flags.DEFINE_integer("count", 8, "Images that are drawn together.")
    flags.DEFINE_bool("record", False, "Whether to write the table to RESULTS.md.")
    app.run(main)
