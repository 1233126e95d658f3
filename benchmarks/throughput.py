r"""Images a second of training, against a bare loop and against a PyTorch peer, in one run.

    python -m benchmarks.throughput [--what=fit,peers] [--batch_size=128] [--rounds=5]

- `fit`: `SimCLR.fit` against a bare TensorFlow loop over the same network, views and optimizer.
- `peers`: `SimCLR.fit` on ResNet-18 (32 px, CIFAR stem), end to end from images in memory, against
  lightly's SimCLR in PyTorch as its documentation writes it, and with PyTorch's channels-last
  layout. Needs the extra `peers`.

Contestants take turns, and what is printed is the median of the ratios of neighbouring turns: the
machine's mood cancels. Each turn runs in a process of its own.
"""

import json
import statistics
import subprocess
import sys
import time

from absl import app, flags

from benchmarks import results

flags.DEFINE_list("what", ["fit", "peers"], "Comparisons to make.")
flags.DEFINE_integer("batch_size", 128, "Images in a batch; each gives two views.")
flags.DEFINE_integer("rounds", 5, "Turns of each contestant.")
flags.DEFINE_integer("steps", 6, "Steps timed in a turn.")
flags.DEFINE_bool("record", False, "Whether to write the figures to RESULTS.md.")
flags.DEFINE_string("turn", None, "Internal: run one turn of this contestant and print its figure.")
FLAGS = flags.FLAGS

TITLES = {"fit": "`fit` against a bare loop", "peers": "`fit` against lightly in PyTorch"}
NETWORKS = {"fit": "small_conv", "peers": "resnet18"}


def _images(n):
    """Noise: what views and networks cost does not depend on what the images show."""
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


def _ours(network, batch_size, steps):
    """Images/s of `fit`, from the first step's end to the last's."""
    import keras

    import keras_ssl

    class Clock(keras.callbacks.Callback):
        times = []

        def on_train_batch_end(self, batch, logs=None):
            self.times.append(time.perf_counter())

    model = keras_ssl.create("simclr", (32, 32, 3), network)
    clock = Clock()
    model.fit(
        _images(batch_size * 4), batch_size=batch_size, epochs=steps, verbose=0, callbacks=[clock]
    )
    return _rate(clock.times, batch_size, steps)


def _bfloat16(network, batch_size, steps):
    """The same in half precision; the peer is timed in float32, as its documentation writes it."""
    import keras

    keras.config.set_dtype_policy("mixed_bfloat16")
    return _ours(network, batch_size, steps)


def _rate(times, batch_size, steps):
    """Images/s over the last `steps` of the recorded ends of steps."""
    return batch_size * steps / (times[-1] - times[-1 - steps])


def _bare(network, batch_size, steps):
    """The same network, views and optimizer in the plainest loop one can write."""
    import tensorflow as tf

    import keras_ssl

    model = keras_ssl.create("simclr", (32, 32, 3), network)
    optimizer = model.paper_optimizer(steps * 4, batch_size)
    optimizer.build(model.trainable_variables)
    variables = [v.value for v in model.trainable_variables]
    source = keras_ssl.data.load(_images(batch_size * 4))
    stream = keras_ssl.data.stream(source, model.default_views((32, 32)), batch_size, seed=0)

    @tf.function
    def step(batch):
        with tf.GradientTape() as tape:
            z = model.projector(
                model.backbone(tf.concat(batch["views"], 0), training=True), training=True
            )
            loss = keras_ssl.losses.nt_xent(*tf.split(z, 2), temperature=0.5)
        optimizer.apply(tape.gradient(loss, variables), model.trainable_variables)
        return loss

    times = []
    for batch in stream.take(steps * 4):
        step(batch).numpy()
        times.append(time.perf_counter())
    return _rate(times, batch_size, steps)


def _lightly(batch_size, steps, channels_last):
    """Lightly's SimCLR example, with the CIFAR stem, on the same images."""
    from benchmarks import lightly_simclr

    return lightly_simclr.images_per_second(
        _images(batch_size * 4), batch_size, steps, channels_last
    )


CONTESTANTS = {
    "fit: keras_ssl": lambda b, s: _ours(NETWORKS["fit"], b, s * 5),
    "fit: bare loop": lambda b, s: _bare(NETWORKS["fit"], b, s * 5),
    "peers: keras_ssl": lambda b, s: _ours(NETWORKS["peers"], b, s),
    "peers: keras_ssl, mixed_bfloat16": lambda b, s: _bfloat16(NETWORKS["peers"], b, s),
    "peers: lightly": lambda b, s: _lightly(b, s, False),
    "peers: lightly, channels last": lambda b, s: _lightly(b, s, True),
}


def _turn(name):
    command = [sys.executable, "-m", "benchmarks.throughput", f"--turn={name}"]
    command += [f"--batch_size={FLAGS.batch_size}", f"--steps={FLAGS.steps}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{name} failed:\n{result.stderr[-3000:]}")
    return json.loads(result.stdout.strip().splitlines()[-1])


def compare(what):
    """Rows of one comparison: contestant, median images/s, ratios of keras_ssl to it."""
    names = [name for name in CONTESTANTS if name.startswith(f"{what}:")]
    turns = [{name: _turn(name) for name in names} for _ in range(FLAGS.rounds)]
    rows = []
    for name in names:
        rates = [turn[name] for turn in turns]
        ratios = [turn[names[0]] / turn[name] for turn in turns]
        rows.append(
            (name, statistics.median(rates), statistics.median(ratios), min(ratios), max(ratios))
        )
    return rows


def main(_):
    """Run what the flags say."""
    if FLAGS.turn:
        print(json.dumps(CONTESTANTS[FLAGS.turn](FLAGS.batch_size, FLAGS.steps)))
        return
    for what in FLAGS.what:
        print(
            f"\n{NETWORKS[what]}, 32 px, {FLAGS.batch_size} images x 2 views a step, "
            f"{FLAGS.rounds} turns each"
        )
        print(f"{'':32} images/s   keras_ssl is ... times as fast (median, range)")
        figures = {}
        for name, rate, ratio, low, high in compare(what):
            print(f"{name:32} {rate:8.1f}   {ratio:.2f} ({low:.2f} to {high:.2f})")
            times = f"{ratio:.2f} times as fast ({low:.2f} to {high:.2f})"
            other = "" if name.endswith("keras_ssl") else f"; keras_ssl is {times}"
            figures[name.split(": ")[1]] = f"{rate:.1f} images/s{other}"
        if FLAGS.record:
            title = (
                f"{TITLES[what]}: SimCLR, {NETWORKS[what]}, 32 px, batches of {FLAGS.batch_size}"
            )
            command = " ".join(["python -m benchmarks.throughput", *sys.argv[1:]])
            results.record("speed", title, command, {**figures, "turns": FLAGS.rounds})


if __name__ == "__main__":
    app.run(main)
