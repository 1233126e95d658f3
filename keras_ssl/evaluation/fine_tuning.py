"""Fine-tuning: the accuracy of the whole network, trained on from the encoder's weights."""

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_ssl import backbones, optimizers
from keras_ssl.data import Source, from_array, stream
from keras_ssl.encoders import copy_encoder, saved_model_of
from keras_ssl.evaluation.features import extract, labelled
from keras_ssl.ops import to_unit_range
from keras_ssl.views import Compose, HorizontalFlip, RandomResizedCrop, SingleView

STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 500, 20, 100
FEW = 2000  # labelled images below which batches are small
SCALE = (0.35, 1.0)  # area of the crops


@dataclasses.dataclass(frozen=True)
class FineTuned:
    """Result of `fine_tune`; `float(result)` is the accuracy.

    Attributes:
        accuracy: share of test images whose class is predicted, of the last weights.
        num_images: labelled images it was trained on.
        epochs: passes over them.
        batch_size: of the training.
        learning_rate: peak.
        model: the classifier, from float images in [0, 1] to logits.
    """

    accuracy: float
    num_images: int
    epochs: int
    batch_size: int
    learning_rate: float
    model: keras.Model

    def __float__(self) -> float:
        return self.accuracy


def fine_tune(
    encoder: keras.Model,
    train: Any,
    test: Any,
    *,
    rows: np.ndarray | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float = 1e-3,
    layer_decay: float = 1.0,
    freeze: str | None = None,
    seed: int = 0,
    verbose: Any = 0,
) -> FineTuned:
    """Train a copy of the encoder and a new linear layer on labels, all weights.

    Minimises the mean cross-entropy on random crops (35 to 100 % of the area) and flips by Adam,
    with a warm-up of a twentieth of the steps and half a cosine to zero. The last weights are
    judged on whole test images; nothing is chosen by the test set.

    Args:
        encoder: a `Backbone`, as `load_encoder` gives it; it stays as it is. `fresh(encoder)` for
            the same network trained on the labels alone.
        train: (images, labels), or a `data.Source` with labels.
        test: the same, for the accuracy.
        rows: indices of the labelled images to train on, such as a `draw_labels`; None takes all.
        epochs: passes over them; by default so many that there are 500 steps, from 20 to 100.
        batch_size: by default 128, or 32 below 2,000 images.
        learning_rate: Adam's peak.
        layer_decay: factor of the rate from each stage to the one before it, in (0, 1], see
            `backbones.rate_factors`; 0.65 to 0.75 is usual for transformers.
        freeze: name of a stage, one of `backbones.stages`, up to which the network is held still.
        seed: of the linear layer, order and crops.
        verbose: as in `keras.Model.fit`.

    Returns:
        a `FineTuned`.

    Raises:
        ValueError: labels are missing or fewer than two classes, or `layer_decay` or `freeze` does
            not fit the network.
    """
    source = train if isinstance(train, Source) else from_array(*labelled(train))
    size = encoder.image_shape[:2]
    test_images, test_labels = labelled(test, size, "test", classes_of=train)
    if not source.has_labels or len(np.unique(source.labels)) < 2:
        raise ValueError(
            "`train` must hold at least two classes. Received: "
            f"{source.name}, with {'one' if source.has_labels else 'no labels'}."
        )
    classes = int(source.labels.max()) + 1
    source = source if rows is None else source.subset(np.asarray(rows))
    batch_size = min(batch_size or (32 if source.size < FEW else 128), source.size)
    steps = source.size // batch_size
    epochs = epochs or int(np.clip(-(-STEPS // steps), FEWEST_EPOCHS, MOST_EPOCHS))
    keras.utils.set_random_seed(seed)
    copy = copy_encoder(encoder)
    copy.trainable = True
    if freeze is not None:
        backbones.freeze(copy, freeze)
    model = _classifier(copy, classes)
    schedule = optimizers.WarmupCosine(learning_rate, epochs * steps, epochs * steps // 20)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    factors = backbones.rate_factors(model, copy, layer_decay)
    model.compile(optimizers.AdamW(schedule, factors=factors), loss, jit_compile=False)
    views = SingleView(Compose([RandomResizedCrop(size, SCALE), HorizontalFlip()]))
    batches = stream(source, views, batch_size, seed, labels=True)
    model.fit(
        batches.map(lambda batch: (batch["views"][0], batch["label"])),
        epochs=epochs,
        steps_per_epoch=steps,
        shuffle=False,
        verbose=verbose,
    )
    scores = extract(lambda x: model.predict_on_batch(to_unit_range(x)), test_images)
    accuracy = float(np.mean(scores.argmax(axis=1) == test_labels))
    return FineTuned(accuracy, source.size, epochs, batch_size, float(learning_rate), model)


def fresh(encoder: keras.Model) -> keras.Model:
    """The same network as an encoder, with new initial weights; its preprocessing stays.

    Raises:
        ValueError: if the encoder is a SavedModel.
    """
    if saved_model_of(encoder) is not None:
        raise ValueError(
            f"Encoder '{encoder.name}' is a SavedModel, which cannot be made anew with initial "
            "weights. Take the run folder or a .keras file."
        )
    copy = copy_encoder(encoder, weights=False)
    if encoder.preprocessing is not None:  # constants of the data may be among its weights
        copy.preprocessing.set_weights(encoder.preprocessing.get_weights())
    return copy


def _classifier(encoder: keras.Model, classes: int) -> keras.Model:
    images = keras.Input(encoder.image_shape, name="images")
    logits = keras.layers.Dense(classes, dtype="float32", name="logits")
    return keras.Model(images, logits(encoder(images)), name="classifier")
