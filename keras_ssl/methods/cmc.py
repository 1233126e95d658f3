"""CMC: tell which colours belong to which lightness, across all images.

Tian, Krishnan, Isola 2019, https://arxiv.org/abs/1906.05849 (sections 3 and 4.1). Departures from
the authors' code: two views, L and ab, no more; both encoders take three channels, of which those
that are not theirs are zero and get no gradient, so that any backbone serves; the negatives of a
step are drawn once and shared by the batch, as a function of the step; rows of the banks are unit
vectors from the start.
"""

import keras
import numpy as np
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.backbones import Backbone
from keras_ssl.engine import SSLModel
from keras_ssl.layers import heads
from keras_ssl.layers.memory_bank import MemoryBank
from keras_ssl.ops import is_small, l2_normalize
from keras_ssl.ops.color import rgb_to_lab

_TOWERS = {"lightness": (1.0, 0.0, 0.0), "color": (0.0, 1.0, 1.0)}
_LAB_MEAN, _LAB_STD = (50.0, 6.025, -6.69), (50.0, 92.208, 101.1675)  # of the authors


@keras.saving.register_keras_serializable("keras_ssl")
class CMC(SSLModel):
    """Match the lightness of an image with its colours among those of all images, and back.

    An image is taken apart into L and ab (CIE L*a*b*), each has an encoder, z^L and z^ab are the
    unit-length embeddings, M^L and M^ab banks of those of all n images. With

        l(z, M) = mean_i ( log sum_{j <= n} exp(<M_j, z_i> / t)  -  <M_i, z_i> / t )

    or its noise-contrastive estimate with K rows drawn at random, the same for both
    (`keras_ssl.losses.noise_contrastive`), the loss is (paper, equations 3 to 5)

        L = l(z^L, M^ab) + l(z^ab, M^L).

    Then row i of each bank moves to its new embedding (`keras_ssl.layers.memory_bank`). Rows are
    constants, so each term trains one encoder. Features are those of both encoders side by side.

    Args:
        backbone: what `two_towers` makes; or a `keras_ssl.backbones.Backbone` or image
            `keras.Model` for three channels, which becomes the encoder of L, and a copy of it with
            weights of its own that of ab.
        num_images: n, images of the data, >= 2.
        projector: `keras.Model` from features of L to `dim` numbers; by default Dense with biases.
        color_projector: the same for ab.
        dim: width of the embeddings and of the banks.
        temperature: t, > 0; by default 0.07, and 0.1 up to 64 px.
        num_negatives: K; 0 for the cross-entropy over all rows; by default 4096, and 0 up to 64 px.
        bank_momentum: share of a row that is kept when its image is seen, in [0, 1).
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of one float tensor `(batch, height, width, 3)` in [0, 1], RGB.
        index: the images' places in the data, integers `(batch,)`.

    Raises:
        ValueError: if a number is outside its range, images have not three channels, or a projector
            has another width.
    """

    loss_names = ("loss", "lightness_loss", "color_loss")
    batch_keys = ("views", "index")

    def __init__(
        self,
        backbone,
        num_images,
        projector=None,
        color_projector=None,
        dim=128,
        temperature=None,
        num_negatives=None,
        bank_momentum=0.5,
        **kwargs,
    ):
        super().__init__(**kwargs)
        backbone = backbones.adopt(backbone)
        self.backbone = backbone if _towers(backbone) else two_towers(backbone)
        small = is_small(self.image_shape)
        default_temperature, default_negatives = (0.1, 0) if small else (0.07, 4096)
        self.temperature = default_temperature if temperature is None else temperature
        self.num_negatives = default_negatives if num_negatives is None else num_negatives
        self.num_images, self.dim, self.bank_momentum = num_images, dim, bank_momentum
        self._check()
        widths = [tower.output_shape[-1] for tower in _towers(self.backbone)]
        self._split = widths[0]
        self.projector = projector or _head(widths[0], dim, "projector")
        self.color_projector = color_projector or _head(widths[1], dim, "color_projector")
        for name in ("projector", "color_projector"):
            width = getattr(self, name).output_shape[-1]
            if width != dim:
                raise ValueError(
                    f"`{name}` must give `dim` numbers. Received: dim={dim} and a projector that "
                    f"gives {width}. Pass its width as `dim`."
                )
        self.bank = MemoryBank(num_images, dim, bank_momentum, name="bank")
        self.color_bank = MemoryBank(num_images, dim, bank_momentum, name="color_bank")

    def compute_losses(self, batch, training):
        """Both terms of the global batch; then the banks follow the embeddings."""
        (images,), index = batch["views"], distribute.all_gather(batch["index"])
        lightness, color = (distribute.all_gather(z) for z in self._embeddings(images, training))
        terms = (
            self._match(lightness, self.color_bank, index, training),
            self._match(color, self.bank, index, training),
        )
        if training:
            self.bank.update(index, lightness)
            self.color_bank.update(index, color)
        return {"loss": terms[0] + terms[1], "lightness_loss": terms[0], "color_loss": terms[1]}

    def embed(self, images):
        """Both embeddings in inference mode, side by side and together of unit length."""
        return ops.concatenate(self._embeddings(images, False), axis=-1) / 2**0.5

    def default_views(self, image_size):
        """One crop for both channels."""
        return views.cmc(image_size)

    def default_optimizer(self, total_steps, batch_size):
        """SGD with momentum 0.9 and L2 1e-4 in the gradient; learning rate 0.03 * batch / 128.

        It falls to a tenth after 120, 160 and 200 of the authors' 240 epochs.
        """
        rate = 0.03 * batch_size / 128
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
            [total_steps * epoch // 240 for epoch in (120, 160, 200)],
            [rate, rate / 10, rate / 100, rate / 1000],
        )
        return optimizers.SGD(schedule, momentum=0.9, weight_decay=1e-4)

    def _embeddings(self, images, training):
        """Unit-length embeddings of L and of ab, of the images of this replica."""
        features = self.backbone(images, training=training)
        parts = features[:, : self._split], features[:, self._split :]
        projectors = (self.projector, self.color_projector)
        return [l2_normalize(p(x, training=training)) for p, x in zip(projectors, parts)]

    def _match(self, z, bank, index, training):
        """Loss of `z` against the bank of the other channels."""
        if not self.num_negatives:
            return losses.memory_cross_entropy(z, bank.rows, index, self.temperature)
        negatives = bank.look_up(bank.draw(self.step, self.num_negatives))
        scores = losses.memory_scores(z, bank.look_up(index), negatives, self.temperature)
        estimate = losses.partition_estimate(scores, self.num_images)
        partition = bank.settle(estimate, keep=training)
        return losses.noise_contrastive(scores, partition, self.num_images)

    def _check(self):
        for name, low in {"num_images": 2, "dim": 1, "num_negatives": 0}.items():
            if not getattr(self, name) >= low:
                value = getattr(self, name)
                raise ValueError(f"`{name}` must be >= {low}. Received: {name}={value}.")
        if not self.temperature > 0:
            raise ValueError(
                f"`temperature` must be > 0. Received: temperature={self.temperature}."
            )


def two_towers(lightness, color=None):
    """One backbone from RGB images to features of L and of ab, side by side.

    Images become L*a*b*, normalised by the authors' mean and standard deviation; each network sees
    the three channels with those that are not its own at zero. Preprocessing of the given backbones
    is left out.

    Args:
        lightness: `Backbone` for three channels, or a model that `adopt` takes; trained in place.
        color: the same for ab; by default a copy of `lightness` with weights of its own.

    Returns:
        A `Backbone` that gives vectors; features of L come first.

    Raises:
        ValueError: if a network does not take three channels.
    """
    lightness = backbones.adopt(lightness)
    if color is None:
        color = type(lightness).from_config(lightness.get_config())
    color, shape = backbones.adopt(color), lightness.image_shape
    for each in (lightness, color):
        if each.image_shape[-1] != 3:
            raise ValueError(
                "`backbone` must take three channels, RGB, which are made into L*a*b*. Received: "
                f"'{each.name}' for images of {each.image_shape}."
            )
    lab = keras.Input(shape, dtype="float32", name="lab")
    features = [
        _tower(backbone, shape, name)(lab) for name, backbone in zip(_TOWERS, (lightness, color))
    ]
    network = keras.Model(lab, keras.layers.Concatenate(name="both")(features), name="two_towers")
    rgb = keras.Input(shape, dtype="float32", name="rgb")
    normalized = (rgb_to_lab(rgb) - np.array(_LAB_MEAN, "float32")) / np.array(_LAB_STD, "float32")
    preprocessing = keras.Model(rgb, normalized, name="rgb_to_lab")
    return Backbone(network, shape, preprocessing=preprocessing, name=f"{lightness.name}_lab")


def _tower(backbone, shape, name):
    """Pooled features of the channels of `name`, a model of its own."""
    lab = keras.Input(shape, dtype="float32", name=f"{name}_lab")
    x = backbone.network(lab * np.array(_TOWERS[name], "float32"))
    if backbone.kind == "map":
        x = ops.mean(x, axis=(1, 2))
    elif backbone.kind == "tokens":
        places = x[:, backbone.num_prefix_tokens :]
        x = x[:, 0] if backbone.pooling == "cls" else ops.mean(places, axis=1)
    return keras.Model(lab, x, name=name)


def _towers(backbone):
    """The two towers of what `two_towers` made; none of another backbone."""
    found = {layer.name: layer for layer in backbone.network.layers}
    return [found[name] for name in _TOWERS if name in found] if set(_TOWERS) <= set(found) else []


def _head(width, dim, name):
    return heads.mlp(
        width,
        (dim,),
        output_norm=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        name=name,
    )
