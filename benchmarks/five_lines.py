r"""What five lines of a new user give: every method on a few thousand images, nothing set.

    python -m benchmarks.five_lines --data_dir=path/to/tfds [--methods=simclr,byol] [--record]

5,000 images of CIFAR-10 from `--first` on, `small_conv` (`small_vit` for methods of transformers,
which have tables of their own), 10 epochs: the method's own views, networks, batch size and
optimizer. The figure is the accuracy of weighted kNN (k 200, temperature 0.07) on the 10,000 test
images, before and after training. Each method has a process of its own. With `--record` the rows of
the methods that were run replace theirs in RESULTS.md.
"""

import json
import subprocess
import sys

from absl import app, flags

from benchmarks import results

FLAGS = flags.FLAGS

IMAGES = 5000
HEAD = ["method", "random encoder", "trained", "points", "commit"]


def gain(
    name, source, test, epochs=10, seed=0, optimizer="auto", rate=None, batch_size=None, **options
):
    """Accuracy of kNN with a method's encoder before and after training on `source`.

    Args:
        name: of the method.
        source: `keras_ssl.data.Source` of 32-pixel images with labels.
        test: the same, for the queries.
        epochs: passes over the images.
        seed: of weights, order and views.
        optimizer: "auto" or "paper".
        rate: Adam's peak rate in the place of the method's.
        batch_size: images in a batch; None for the default.
        **options: arguments of the method.

    Returns:
        Two accuracies, and the batch size.
    """
    import dataclasses

    import keras

    import keras_ssl
    from keras_ssl.engine import inputs
    from keras_ssl.methods.create import brings_network, find, keeps_images

    keras.utils.set_random_seed(seed)
    cls = find(name)
    if keeps_images(cls):
        options["num_images"] = source.size
    network = None if brings_network(cls) else network_for(cls)
    model = keras_ssl.create(name, source.image_shape, network, **options)
    if rate:
        model.short_run = dataclasses.replace(model.short_run, learning_rate=rate)
    batch_size = inputs.batch_size_for(source, batch_size, model.short_run, epochs)
    steps = epochs * (source.size // batch_size)
    if optimizer == "paper":
        model.compile(model.paper_optimizer(steps, batch_size))

    def accuracy():
        return keras_ssl.evaluation.knn_accuracy(model.encode, source, test)

    before = accuracy()
    model.fit(source, batch_size=batch_size, epochs=epochs, seed=seed, verbose=0)
    return before, accuracy(), batch_size


def network_for(cls):
    """Name of the small backbone that a method takes."""
    return "small_vit" if cls.needs_tokens else "small_conv"


def _turn(name):
    """Train one method in this process."""
    import keras
    import numpy as np

    import keras_ssl
    from keras_ssl.methods.create import find

    own = FLAGS.precision if find(name).half_precision else "float32"
    keras.config.set_dtype_policy(own)
    source, test = keras_ssl.data.splits("cifar10", data_dir=FLAGS.data_dir)
    source = source.subset(np.arange(FLAGS.first, FLAGS.first + IMAGES))
    images, labels = source.arrays((32, 32))
    source, options = keras_ssl.data.from_array(images, labels), json.loads(FLAGS.options)
    settings = (FLAGS.epochs, FLAGS.seed, FLAGS.optimizer, FLAGS.rate, FLAGS.batch_size)
    print(json.dumps(gain(name, source, test, *settings, **options)))


def main(arguments):
    """Train all methods in turn and print the table."""
    if FLAGS.turn:
        return _turn(FLAGS.turn)
    from keras_ssl.methods import METHODS
    from keras_ssl.methods.create import find, needed

    methods = [method for method in METHODS if not needed(method)]
    if FLAGS.methods is not None:
        methods = [find(name) for name in FLAGS.methods]
    commit = results.commit()
    for name in (method.__name__ for method in methods):
        own = [word for word in sys.argv[1:] if not word.startswith(("--methods", "--record"))]
        command = [sys.executable, "-m", "benchmarks.five_lines", f"--turn={name}", *own]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(name, "failed:", done.stderr[-2000:], file=sys.stderr)
            continue
        before, after, batch_size = json.loads(done.stdout.splitlines()[-1])
        points = f"{100 * (after - before):+.1f}"
        row = [name, f"{before:.4f}", f"{after:.4f}", points, commit]
        print("  ".join(f"{cell:>14}" for cell in row), flush=True)
        if FLAGS.record:
            _record(name, row, batch_size)
    return 0


def _record(name, row, batch_size):
    """Put a method's row into the table of this setting; those of other methods stay."""
    from keras_ssl.methods.create import find

    network = network_for(find(name))
    title = (
        f"Five lines: 5,000 images of cifar10 from {FLAGS.first} on, {network} at 32 px, batches "
        f"of {batch_size}, {FLAGS.precision}"
    )
    old = next((r["table"][1:] for r in results.records() if r["title"] == title), [])
    rows = {each[0]: each for each in old} | {name: row}
    words = (word for word in sys.argv[1:] if not word.startswith(("--methods", "--record")))
    results.record(
        "study",
        title,
        f"python -m benchmarks.five_lines {' '.join(words)} --record",
        {},
        seed=FLAGS.seed,
        epochs=FLAGS.epochs,
        table=[HEAD, *sorted(rows.values(), key=lambda row: -float(row[3]))],
    )


def _define_flags():
    """Not at import: tests take `gain` alone, beside flags of the same names."""
    flags.DEFINE_list("methods", None, "Names of methods; by default all.")
    flags.DEFINE_string("data_dir", None, "Where TFDS data sets lie.")
    flags.DEFINE_integer("first", 0, "First of the 5,000 training images.")
    flags.DEFINE_integer("seed", 0, "Of weights, order and views.")
    flags.DEFINE_integer("epochs", 10, "Passes over the images.")
    flags.DEFINE_integer("batch_size", None, "Images in a batch; for trials.")
    flags.DEFINE_string("precision", "float32", "Number format; float32 for methods that need it.")
    flags.DEFINE_string("options", "{}", "Arguments of the methods, as JSON; for trials.")
    flags.DEFINE_string("optimizer", "auto", "auto or paper.")
    flags.DEFINE_float("rate", None, "Adam's peak rate in the place of the method's; for trials.")
    flags.DEFINE_bool("record", False, "Whether to write the figures to RESULTS.md.")
    flags.DEFINE_string("turn", None, "Internal: train this method and print its figures.")


if __name__ == "__main__":
    _define_flags()
    app.run(main)
