r"""SimCLR v2's three steps: pretrain without labels, fine-tune on few, distil without labels.

Chen et al. 2020, https://arxiv.org/abs/2006.10029, sections 2 and 3.

    python -m recipes.simclr_v2 --preset=cifar10_small --data_dir=path/to/tfds --out=runs/simclr-v2

For 1 and for 10 % of the labels, drawn evenly from the classes: a network trained on them alone;
the pretrained one fine-tuned from the input of its projection head (layer 0) and from its first
hidden layer (layer 1), which the paper finds better; a student without pretraining that learns the
latter's predictions for all images; and a smaller one that learns that student's.
`table.csv` holds the accuracies on the test split, of the last weights. Each result is
kept below `--out`, so that a killed study goes on where it was. The paper, on ImageNet with
ResNet-50: fine-tuned 57.9 and 68.4 % with 1 and 10 % of the labels, and 73.9 and 77.5 % as the
student of a larger network.

`cifar10_small`, whose table is in `benchmarks/RESULTS.md`, is a small budget of our own: few
images, a small network, few epochs, Adam, temperature 0.2 in pretraining. There too fine-tuning
from the first hidden layer is better than from the head's input, but students stay below their
teachers. `cifar10` pretrains as the authors' command for it does, and `imagenet` as the paper; both
need GPUs and have not been run. Departures from the paper: fine-tuning takes the Nesterov momentum
of SimCLR v1 (appendix B.5) in the place of LARS; it and distillation take one device; ResNets are
plain ones, without selective kernels; networks trained on the labels alone get twice the epochs.
"""

import dataclasses
import json
import os
import pathlib

import keras
import numpy as np

from keras_ssl import SimCLR, backbones, data, evaluation, losses, optimizers, views
from keras_ssl.ops import to_unit_range
from keras_ssl.runs import precisions
from keras_ssl.runs.folder import write_atomically
from recipes import _runner
from recipes._runner import IMAGENET, SMALL


@dataclasses.dataclass(frozen=True)
class Config(_runner.Config):
    """Settings of the study: those of pretraining, and of what follows it.

    Students get the batch, optimizer and learning rate of pretraining, as in the paper.
    """

    tuning_batch_size: int = 128
    tuning_rate: float = 0.025  # 0.05 * 128 / 256
    scratch_rate: float = 0.05  # of networks trained on the labels alone
    epochs_1: int = 60  # of fine-tuning on 1 % of the labels
    epochs_10: int = 30
    student_epochs: int = 400


RECIPE = _runner.Recipe(
    SimCLR,
    {
        "cifar10_small": Config(
            **SMALL,
            optimizer="adam",
            learning_rate=3e-3,
            warmup_epochs=1,
            options={"version": 2, "temperature": 0.2},
            tuning_batch_size=32,
            tuning_rate=1e-3,
            scratch_rate=1e-3,
            epochs_10=15,
            student_epochs=10,
        ),
        "cifar10": Config(batch_size=512, epochs=1000, learning_rate=2.0, options={"version": 2}),
        "imagenet": Config(
            batch_size=4096,
            epochs=800,
            learning_rate=6.4,  # 0.1 * sqrt(4096)
            options={"version": 2},
            tuning_batch_size=1024,
            tuning_rate=0.2,  # 0.05 * 1024 / 256
            scratch_rate=0.4,
            **IMAGENET,
        ),
    },
)

TEMPERATURES = {"same": 0.1, "smaller": 1.0}  # of distillation, for students of that size

SMALLER = {
    "small_conv": lambda shape: backbones.small_conv(shape, widths=(16, 32, 64, 128)),
    "resnet18": lambda shape: backbones.small_conv(shape),
    "resnet50": lambda shape: backbones.resnet18(shape),
}


def balanced(labels, share, seed):
    """Indices of a share of the images of each class, one at least; a larger share holds them too.

    Args:
        labels: `(n,)`.
        share: in (0, 1].
        seed: of the choice.

    Returns:
        Sorted array of indices.
    """
    generator, chosen = np.random.default_rng(seed), []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        chosen.append(members[: max(1, round(share * len(members)))])
    return np.sort(np.concatenate(chosen))


def classifier(encoder, classes, kernel="zeros"):
    """`encoder` with a layer of logits on it."""
    logits = keras.layers.Dense(classes, kernel_initializer=kernel, dtype="float32", name="logits")
    return keras.Model(encoder.input, logits(encoder.output), name="classifier")


def fresh(backbone, classes):
    """A classifier without pretraining; the logits' kernel is that of the authors' code."""
    images = keras.Input(backbone.image_shape, name="images")
    encoder = keras.Model(images, backbone(images), name="encoder")
    return classifier(encoder, classes, keras.initializers.RandomNormal(stddev=0.01))


def tune(model, source, config, epochs, rate):
    """Train all weights of a classifier on labelled images; crop and flip, cosine to zero."""
    batch_size = min(config.tuning_batch_size, source.size)
    schedule = optimizers.WarmupCosine(rate, epochs * (source.size // batch_size))
    if config.optimizer != "adam":
        optimizer = keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True)
    else:
        optimizer = keras.optimizers.Adam(schedule)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    _fit(model, source, config, batch_size, epochs, labels=True)
    return model


def distil(teacher, student, source, config, temperature):
    """Train `student` on the predictions of `teacher` for unlabelled images; crop and flip.

    Both see the same crop; the teacher stays as it is, in inference mode.
    """
    distiller = keras.distillation.Distiller(
        teacher,
        student,
        keras.distillation.LogitsDistillation(
            temperature=1.0,  # the loss divides by its own
            loss=lambda t, s: losses.soft_target_cross_entropy(s, t, temperature),
        ),
        student_loss_weight=0.0,
    )
    steps = source.size // config.batch_size
    total, warmup = config.student_epochs * steps, config.student_epochs * steps // 20
    schedule = optimizers.WarmupCosine(config.learning_rate, total, warmup)
    # Keras asks for a loss on labels, though its weight is 0.
    distiller.compile(_optimizer(config, schedule), loss="sparse_categorical_crossentropy")
    _fit(distiller, source, config, config.batch_size, config.student_epochs, labels=False)
    return student


def study(config, out, data_dir=None):
    """The three steps below `out`; writes, prints and returns the table."""
    out = pathlib.Path(out)
    _claim(config, out)
    source, test = data.splits(
        config.data, image_size=config.image_size, data_dir=data_dir, seed=config.seed
    )
    if test is None:
        raise ValueError(f"`data` must have labels and a test split. Received: {config.data!r}.")
    if config.images and config.images < source.size:
        source = source.subset(range(config.images))
    if not (out / "pretrained.keras").exists():
        run = _runner.run(RECIPE, config, out / "pretraining", data_dir)
        _save(run.model, out / "pretrained.keras")
    judged = test.arrays((config.image_size, config.image_size))
    table = []
    for share, epochs in ((0.01, config.epochs_1), (0.1, config.epochs_10)):
        labelled = source.subset(balanced(source.labels, share, config.seed))
        folder = out / f"{100 * share:.0f}-percent"
        folder.mkdir(exist_ok=True)
        makers = _makers(config, folder, source, labelled, epochs, int(judged[1].max()) + 1)
        for name, make in makers.items():
            row = _step(folder / name, make, judged, config)
            table.append({"labels": f"{share:.0%}", "images": labelled.size, "model": name, **row})
    rows = [{**row, "accuracy": f"{row['accuracy']:.4f}"} for row in table]
    rows = [list(rows[0]), *(list(row.values()) for row in rows)]
    _runner.write_study(out, "SimCLR v2 with few labels", config, rows, [out / "pretraining"])
    return table


def _makers(config, folder, source, labelled, epochs, classes):
    """Functions that train each of the study's networks on `labelled`, in this order."""
    shape = (config.image_size, config.image_size, 3)

    def load(path):
        return keras.saving.load_model(path, compile=False)

    def scratch():
        model = fresh(backbones.get(config.backbone, shape), classes)
        return tune(model, labelled, config, 2 * epochs, config.scratch_rate)

    def tuned(layers):
        encoder = load(folder.parent / "pretrained.keras").encoder(layers)
        return tune(classifier(encoder, classes), labelled, config, epochs, config.tuning_rate)

    def student(size, teacher):
        maker = SMALLER[config.backbone] if size == "smaller" else None
        backbone = maker(shape) if maker else backbones.get(config.backbone, shape)
        model, temperature = fresh(backbone, classes), TEMPERATURES[size]
        return distil(load(folder / f"{teacher}.keras"), model, source, config, temperature)

    return {
        "labels-alone": scratch,
        "head-layer-0": lambda: tuned(0),
        "head-layer-1": lambda: tuned(1),
        "student": lambda: student("same", "head-layer-1"),
        "small-student": lambda: student("smaller", "student"),
    }


def _step(path, make, judged, config):
    """The result that lies at `path`; first made, and its network kept beside it, where absent."""
    record = path.with_name(f"{path.name}.json")
    if not record.exists():
        precisions.clear_session()
        keras.utils.set_random_seed(config.seed)
        model = make()
        result = {"parameters": model.count_params(), "accuracy": _accuracy(model, judged)}
        _save(model, path.with_name(f"{path.name}.keras"))
        write_atomically(record, json.dumps(result))
        print(f"{path.parent.name}, {path.name}: test accuracy {result['accuracy']:.4f}")
    return json.loads(record.read_text())


def _accuracy(model, judged):
    images, labels = judged
    scores = evaluation.extract(lambda x: model.predict_on_batch(to_unit_range(x)), images)
    return float(np.mean(scores.argmax(axis=1) == labels))


def _fit(model, source, config, batch_size, epochs, labels):
    """`model.fit` on crops with their labels, or on crops alone."""
    size = (config.image_size, config.image_size)
    crop = views.Compose([views.RandomResizedCrop(size), views.HorizontalFlip()])
    stream = data.stream(source, views.SingleView(crop), batch_size, config.seed, labels=labels)
    batches = stream.map(lambda b: (b["views"][0], b["label"]) if labels else b["views"][0])
    steps = source.size // batch_size
    model.fit(batches, epochs=epochs, steps_per_epoch=steps, shuffle=False, verbose=0)


def _optimizer(config, schedule):
    """LARS, or Adam for the small budget: in pretraining and of students."""
    if config.optimizer != "adam":
        return optimizers.LARS(schedule, weight_decay=1e-4, velocity="update")
    return keras.optimizers.Adam(schedule)


def _claim(config, out):
    """Refuse a folder that holds results of other settings."""
    out.mkdir(parents=True, exist_ok=True)
    path, settings = out / "study.json", json.dumps(dataclasses.asdict(config), indent=2) + "\n"
    if path.exists() and path.read_text() != settings:
        raise ValueError(f"`out` holds a study with other settings, see {path}. Choose another.")
    write_atomically(path, settings)


def _save(model, path):
    """The whole model, or nothing, at `path`."""
    partial = path.with_name(f"partial-{path.name}")
    model.save(partial)
    os.replace(partial, path)


if __name__ == "__main__":
    _runner.main(RECIPE, study)
