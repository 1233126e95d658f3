r"""What a memory bank and a queue cost a step, by their size.

    python -m benchmarks.memory_bank [--sizes=1k,10k,100k,1M] [--batch_size=128] [--record]

Milliseconds of a training step of `fit` on ready batches of 32 px, with a network so small that the
memory's cost shows, and of the update of the memory alone; medians over the steps.

- `bank, 4096 negatives`: InstDisc with noise-contrastive estimation, which reads and writes as many
  rows whatever the size.
- `bank, all rows`: InstDisc with the cross-entropy over all rows, in proportion to the size (as
  CMC's, and PIRL's, without negatives).
- `queue`: MoCo, whose loss reads all keys.
- `bank, update` and `queue, update`: the rows of a batch put in, nothing else.

Rows have 128 numbers, 512 bytes. A million rows need gigabytes of memory, more with larger
batches: the scores of a batch against all rows, and their gradients.
"""

import gc
import statistics
import sys
import time

from absl import app, flags

from benchmarks import results

flags.DEFINE_list("sizes", ["1k", "10k", "100k", "1M"], "Rows: numbers, or such with k or M.")
flags.DEFINE_integer("batch_size", 128, "Images in a batch.")
flags.DEFINE_integer("steps", 20, "Steps timed of each, after five that are not.")
flags.DEFINE_bool("record", False, "Whether to write the figures to RESULTS.md.")
FLAGS = flags.FLAGS

WIDTH, NEGATIVES, WARM_UP = 128, 4096, 5


def rows(text):
    """Number of rows from `1000`, `1k` or `1M`."""
    unit = {"k": 1_000, "M": 1_000_000}.get(text[-1:])
    return int(text[:-1]) * unit if unit else int(text)


def _network():
    """One convolution of 16 channels, on 8 x 8 places."""
    import keras

    return keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Conv2D(16, 4, strides=4, activation="relu")]
    )


def _batches(size, batch_size, views):
    """A dataset of as many ready batches as are timed, whose images lie all over the memory."""
    import numpy as np
    import tensorflow as tf

    rng = np.random.default_rng(0)
    image = tf.constant(rng.random((batch_size, 32, 32, 3)), tf.float32)
    steps = WARM_UP + FLAGS.steps
    index = np.stack([rng.integers(size, size=batch_size) for _ in range(steps)])
    dataset = tf.data.Dataset.from_tensor_slices(index)
    return dataset.map(lambda places: {"views": (image,) * views, "index": places}).prefetch(2)


def _step(model, size, batch_size, views=1):
    """Milliseconds of each step of `fit`."""
    import keras

    class Clock(keras.callbacks.Callback):
        times = []

        def on_train_batch_end(self, batch, logs=None):
            self.times.append(time.perf_counter())

    clock = Clock()
    model.compile(keras.optimizers.SGD(1e-3))
    model.fit(_batches(size, batch_size, views), verbose=0, callbacks=[clock])
    return [1e3 * (b - a) for a, b in zip(clock.times, clock.times[1:])][WARM_UP - 1 :]


def _instdisc(negatives):
    import keras_ssl

    def measure(size, batch_size):
        model = keras_ssl.InstDisc(_network(), size, dim=WIDTH, num_negatives=negatives)
        return _step(model, size, batch_size)

    return measure


def _moco(size, batch_size):
    import keras_ssl

    model = keras_ssl.MoCo(_network(), queue_size=size, groups=1, version=1)
    return _step(model, size, batch_size, views=2)


def _calls(function, *arguments):
    """Milliseconds of each call of `function`, compiled; reading what it gives waits for it."""
    import tensorflow as tf

    compiled, times = tf.function(function), []
    for _ in range(WARM_UP + FLAGS.steps):
        start = time.perf_counter()
        compiled(*arguments).numpy()
        times.append(1e3 * (time.perf_counter() - start))
    return times[WARM_UP:]


def _bank_update(size, batch_size):
    import tensorflow as tf

    from keras_ssl.layers.memory_bank import MemoryBank

    bank = MemoryBank(size, WIDTH)

    def update(index, embeddings):
        bank.update(index, embeddings)
        return bank.look_up(index[:1])

    index = tf.random.uniform((batch_size,), 0, size, tf.int32)
    return _calls(update, index, tf.random.normal((batch_size, WIDTH)))


def _queue_update(size, batch_size):
    import tensorflow as tf

    from keras_ssl.layers.queue import Queue

    queue = Queue(size, WIDTH)

    def update(embeddings):
        queue.enqueue(embeddings)
        return tf.identity(queue.pointer.value)

    return _calls(update, tf.random.normal((batch_size, WIDTH)))


CONTESTANTS = {
    f"bank, {NEGATIVES} negatives": _instdisc(NEGATIVES),
    "bank, all rows": _instdisc(0),
    "queue": _moco,
    "bank, update": _bank_update,
    "queue, update": _queue_update,
}


def measure(name, size):
    """Median milliseconds of one contestant at one size."""
    import keras

    found = statistics.median(CONTESTANTS[name](size, FLAGS.batch_size))
    keras.backend.clear_session()
    gc.collect()
    return found


def main(_):
    """Print, and with `--record` keep, the table."""
    print(f"milliseconds, {FLAGS.batch_size} images a step, rows of {WIDTH} numbers")
    print(f"{'rows':24}" + "".join(f"{size:>10}" for size in FLAGS.sizes))
    figures = {"rows": " / ".join(FLAGS.sizes)}
    for name in CONTESTANTS:
        print(f"{name:24}", end="", flush=True)
        times = []
        for size in FLAGS.sizes:
            times.append(f"{measure(name, rows(size)):.2f}")
            print(f"{times[-1]:>10}", end="", flush=True)
        print()
        figures[name] = " / ".join(times) + " ms"
    if FLAGS.record:
        title = (
            f"Memory bank (InstDisc) and queue (MoCo): a step, and the update alone, batches of "
            f"{FLAGS.batch_size} of 32 px"
        )
        command = " ".join(["python -m benchmarks.memory_bank", *sys.argv[1:]])
        results.record("speed", title, command, {**figures, "steps": FLAGS.steps})


if __name__ == "__main__":
    app.run(main)
