"""PIRL: match a jigsaw of an image, and the image itself, with the image's row in a memory bank.

Misra, van der Maaten 2019, https://arxiv.org/abs/1912.01991 (section 3). Departures from the paper:
noise-contrastive estimation with a constant Z from the first batch, as the authors' code (VISSL)
has it; the paper sums over the negatives in its place. Departures from the
authors' code: both terms share the negatives, which are drawn once a step, as a function of the
step (theirs: for each image and term); settings below 64 px are our own, after InstDisc's.
"""

import keras
from keras import ops

from keras_ssl import backbones, distribute, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import heads
from keras_ssl.layers.memory_bank import MemoryBank
from keras_ssl.methods import memory
from keras_ssl.ops import is_small, l2_normalize
from keras_ssl.views import jigsaw


@keras.saving.register_keras_serializable("keras_ssl")
class PIRL(SSLModel):
    """Tell an image and its transformed version from all n images by their rows in a memory bank.

    With v_i = f(image i) and w_i = g(transformed image i), of unit length, bank M, and l(z, M) the
    loss of telling row i by z_i (InstDisc's, `keras_ssl.losses.noise_contrastive`, or the
    cross-entropy over all rows), the loss is

        L = weight * l(w, M) + (1 - weight) * l(v, M).

    As M_i follows v_i alone, w is drawn to the embedding of the plain image: features become
    invariant to the transformation. A jigsaw's patches pass the backbone one by one, a Dense layer
    that they share, and side by side, in their random order, one more. Patches and images have
    batch statistics of their own. The bank's Z is estimated from the scores of w.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted; it
            must take images of the patches' size, too.
        num_images: n, images of the data, >= 2.
        projector: f, `keras.Model` from features to `dim` numbers; by default Dense with biases.
        transform_projector: g, `keras.Model` from the features of all parts, `(batch, parts,
            features)`, to `dim` numbers; by default as above. A rotation has one part.
        transform: "jigsaw" or "rotation"; what `default_views` does.
        grid: cells a side of the jigsaw; by default 3, and 2 below 64 px. The parts are `grid *
            grid` patches.
        dim: width of the embeddings and of the bank.
        weight: weight of the transformed image's term, lambda in the paper, in [0, 1].
        temperature: > 0; by default 0.07, and 0.1 below 64 px.
        num_negatives: K; 0 for the cross-entropy over all rows; by default 32000, and 0 up to 64
            px.
        bank_momentum: share of a row that is kept when its image is seen, in [0, 1).
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of float tensors in [0, 1]: the images `(batch, height, width, channels)`, then
            the parts of the transformed images, `(batch, patch height, patch width, channels)`.
        index: the images' places in the data, integers `(batch,)`.

    Raises:
        ValueError: if a number is outside its range, or a projector has another width.
    """

    family = "contrastive"
    loss_names = ("loss", "transform_loss", "image_loss")
    batch_keys = ("views", "index")
    short_run = optimizers.ShortRun(below=10_000, learning_rate=2e-4)

    def __init__(
        self,
        backbone,
        num_images: int,
        projector: keras.Layer | None = None,
        transform_projector: keras.Layer | None = None,
        transform: str = "jigsaw",
        grid: int | None = None,
        dim: int = 128,
        weight: float = 0.5,
        temperature: float | None = None,
        num_negatives: int | None = None,
        bank_momentum: float = 0.5,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        self.transform = transform
        self.grid = jigsaw.resolve_grid(transform, grid, self.image_shape)
        small = is_small(self.image_shape)
        default_temperature, default_negatives = (0.1, 0) if small else (0.07, 32_000)
        self.temperature = default_temperature if temperature is None else temperature
        self.num_negatives = default_negatives if num_negatives is None else num_negatives
        self.num_images, self.dim = num_images, dim
        self.weight, self.bank_momentum = weight, bank_momentum
        memory.check_numbers(num_images, dim, self.num_negatives, self.temperature)
        if not 0 <= weight <= 1:
            raise ValueError(f"`weight` must be in [0, 1]. Received: weight={weight}.")
        width = self.backbone.feature_dim
        self.projector = projector or heads.plain_mlp(width, (dim,))
        self.transform_projector = transform_projector or _transform_head(
            width, self.num_parts, dim
        )
        memory.check_width("projector", self.projector, dim)
        memory.check_width("transform_projector", self.transform_projector, dim)
        self.bank = MemoryBank(num_images, dim, bank_momentum, name="bank")

    @property
    def num_parts(self):
        """Views of the transformed image: patches of the jigsaw, or one."""
        return self.grid**2 if self.transform == "jigsaw" else 1

    def compute_losses(self, batch, training):
        """Both terms of the global batch; then the bank follows the images' embeddings."""
        (images, *parts), index = batch["views"], distribute.all_gather(batch["index"])
        w = distribute.all_gather(self._transformed(parts, training))
        v = distribute.all_gather(self._embedded(images, training))
        terms = [
            memory.discriminate(
                self.bank, z, index, self.temperature, self.num_negatives, self.draw_key, training
            )
            for z in (w, v)
        ]
        if training:
            self.bank.update(index, v)
        loss = self.weight * terms[0] + (1.0 - self.weight) * terms[1]
        return {"loss": loss, "transform_loss": terms[0], "image_loss": terms[1]}

    def embed(self, images):
        """Unit-length embeddings in inference mode: what the bank keeps."""
        return self._embedded(images, False)

    def default_views(self, image_size):
        """The image, and its patches or its rotation."""
        return views.pirl(image_size, self.transform, self.grid)

    def paper_optimizer(self, total_steps, batch_size):
        """SGD with momentum 0.9 and L2 1e-4 in the gradient, cosine to a thousandth of the rate.

        Learning rate 0.03 * batch / 256: 0.12 for the paper's batches of 1024; below 64 px 0.03 *
        batch / 128 and L2 5e-4, InstDisc's. Biases and batch normalisation do not decay.
        """
        small = is_small(self.image_shape)
        rate = 0.03 * batch_size / (128 if small else 256)
        schedule = keras.optimizers.schedules.CosineDecay(rate, total_steps, alpha=1e-3)
        decay = 5e-4 if small else 1e-4
        return optimizers.SGD(schedule, momentum=0.9, weight_decay=decay, exclude_1d=True)

    def _embedded(self, images, training):
        """v: unit-length embeddings of the images of this replica."""
        return l2_normalize(heads.chain(images, self.backbone, self.projector, training=training))

    def _transformed(self, parts, training):
        """w: unit-length embeddings of the transformed images of this replica."""
        if len(parts) != self.num_parts:
            raise ValueError(
                f"PIRL's views must be the image and {self.num_parts} more, as transform="
                f"{self.transform!r} with grid={self.grid} makes them. Received: {len(parts)} "
                f"more. Make the batch with `keras_ssl.views.pirl`."
            )
        features = self.backbone(ops.concatenate(parts), training=training)
        by_part = ops.reshape(features, (len(parts), -1, features.shape[-1]))  # (P, B, D)
        by_image = ops.transpose(by_part, (1, 0, 2))  # (B, P, D), patches in their random order
        return l2_normalize(self.transform_projector(by_image, training=training))


def _transform_head(width, parts, dim):
    """g: a Dense layer for each part, shared, and one for the parts side by side; or one Dense."""
    x = features = keras.Input((parts, width), name="parts")
    start = heads.pytorch_uniform
    if parts > 1:
        x = keras.layers.Dense(dim, kernel_initializer=start(), name="transform_projector_dense1")(
            x
        )
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(dim, kernel_initializer=start(), name="transform_projector_dense2")(x)
    return keras.Model(features, x, name="transform_projector")
