"""SimSiam: predict another view's projection by the same network, with a stop-gradient.

Chen and He 2021, https://arxiv.org/abs/2011.10566 (sections 3 and 4, section 5 for alternation,
appendix D for CIFAR-10).
Departures from the authors' code: the views up to 64 px are those of MoCo's CIFAR-10 demo, whose
crops begin at 8 % of the area (theirs at 20 %); Dense layers start from Keras' distributions. The
variants of section 5 are not in their code; departures from the paper stand in the class.
"""

import keras
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import batch_norm, ema, heads
from keras_ssl.layers.memory_bank import MemoryBank
from keras_ssl.ops import is_small, l2_normalize


@keras.saving.register_keras_serializable("keras_ssl")
class SimSiam(SSLModel):
    """Predict, from each view, the projection of the other one, without negatives or a teacher.

    With z_v = projector(backbone(view v)), p_v = predictor(z_v), the negative cosine D and sg that
    lets no gradient through (paper, equations 1 to 4),

        L = D(p_1, sg z_2) / 2 + D(p_2, sg z_1) / 2,    D(p, z) = -mean_i cosine(p_i, z_i),

    from -1 to 1. Nothing but sg keeps it from the solution in which all outputs coincide and L is
    -1. Views pass the networks one after the other, each with batch statistics of its own.

    Section 5 reads this as an alternation between targets eta_x of the images, computed with the
    weights as they are, and steps of the weights towards them; two arguments carry it further.

    `target_steps` = k: targets are computed with the weights of the start of k steps, for all of
    the k batches. The paper does so beforehand and keeps them; here a copy of the networks, renewed
    every k steps, computes them when their batch comes: the same numbers, without a store. The
    price is a second forward pass, as in the paper, which has (ImageNet, linear, 100 epochs) 68.1 %
    for k = 1, which is SimSiam, 68.7 for 10, 68.9 for 100 and 67.0 for an epoch.

    `target_momentum` = m: targets average over the views that an image has had,

        eta_x <- norm( m eta_x + (1 - m) norm(z) ),    z of the other view, then D(p, eta_x),

    in the place of the predictor, which by the paper's hypothesis stands for this mean: 55.0 % with
    m = 0.8 and `use_predictor=False`, and 0.1 % with neither. The rows take
    `4 * num_images * width` bytes. Departures from the paper: eta is of unit length, as in the
    memory bank that the paper names for comparison, and random before an image is first seen (the
    paper says neither); of both orders of the views, each averages from the same eta, and eta then
    moves towards the mean of both views.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted.
        projector: `keras.Model` from features to projections; by default three Dense layers, two of
            the features' width and one of 2048, each followed by batch normalisation, the last
            without gain and offset, the others by ReLU; up to 64 px two layers of 2048.
        predictor: `keras.Model` from projections to projections; by default a bottleneck of a
            quarter of their width, with batch normalisation and ReLU inside.
        use_predictor: whether there is a predictor; without it p_v = z_v (section 4.2).
        stop_gradient: whether targets are held still; if not, outputs collapse (section 4.1).
        symmetric: whether both orders of the views count; if not, L = D(p_1, sg z_2) (section 4.6).
        target_steps: k, >= 1; for the paper's "1-epoch" the number of steps in an epoch.
        target_momentum: m, in [0, 1); 0 for targets of one view.
        num_images: images of the data, where `target_momentum` is above 0, else None.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of two float tensors `(batch, height, width, channels)` in [0, 1].
        index: the images' places in the data, integers `(batch,)`; with `target_momentum` alone.

    Raises:
        ValueError: if a predictor is given and `use_predictor` is False; if a number is outside its
            range; if `target_steps` and `target_momentum` are combined, or one of them with
            `stop_gradient=False`; if `num_images` is given or left out where it should not be.
    """

    def __init__(
        self,
        backbone,
        projector=None,
        predictor=None,
        use_predictor=True,
        stop_gradient=True,
        symmetric=True,
        target_steps=1,
        target_momentum=0.0,
        num_images=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        self.projector = projector or self._default_projector()
        self.predictor = predictor
        self.use_predictor = use_predictor
        self.stop_gradient = stop_gradient
        self.symmetric = symmetric
        self.target_steps, self.target_momentum = target_steps, target_momentum
        self.num_images = num_images
        self._check()
        width = self.projector.output_shape[-1]
        if use_predictor and predictor is None:
            self.predictor = _bottleneck(width)
        if target_steps > 1:
            self.target_backbone = ema.make_teacher(self.backbone)
            self.target_projector = ema.make_teacher(self.projector)
        if target_momentum:
            self.bank = MemoryBank(num_images, width, target_momentum, name="targets")

    @property
    def batch_keys(self):
        """Keys of the batch; the images' places where there is a target of each."""
        return ("views", "index") if self.target_momentum else ("views",)

    def compute_losses(self, batch, training):
        """Negative cosines of predictions and targets of the global batch."""
        z = [
            heads.chain(view, self.backbone, self.projector, training=training)
            for view in batch["views"]
        ]
        loss = self._distance(z[0], self._target(batch, z, 1, training), training)
        if self.symmetric:
            back = self._distance(z[1], self._target(batch, z, 0, training), training)
            loss = 0.5 * loss + 0.5 * back
        if training and self.target_momentum:
            seen = [l2_normalize(own) for own in (z if self.symmetric else z[1:])]
            index = distribute.all_gather(batch["index"])
            self.bank.update(index, distribute.all_gather(sum(seen)))
        return {"loss": loss}

    def after_step(self):
        """Every `target_steps` steps the copy that computes targets takes the weights."""
        if self.target_steps > 1:
            within = ops.cast(ops.not_equal(self.step % self.target_steps, 0), "float32")
            ema.update(self.target_backbone, self.backbone, within)
            ema.update(self.target_projector, self.projector, within)

    def embed(self, images):
        """Unit-length projections in inference mode."""
        return l2_normalize(heads.chain(images, self.backbone, self.projector))

    def default_views(self, image_size):
        """The views of MoCo v2: crop, colour jitter, grey, flip, and above 64 px blur."""
        return views.moco(image_size, version=2)

    def default_optimizer(self, total_steps, batch_size):
        """SGD with L2 on all variables, cosine to zero, but a constant rate for the predictor.

        Learning rate 0.05 * batch / 256, weight decay 1e-4 (section 3); up to 64 px 0.03 and 5e-4
        (appendix D). There is no warm-up.
        """
        small = is_small(self.image_shape)
        peak = (0.03 if small else 0.05) * batch_size / 256
        predictor = self.predictor.trainable_variables if self.use_predictor else []
        return optimizers.SGD(
            optimizers.WarmupCosine(peak, total_steps),
            momentum=0.9,
            weight_decay=5e-4 if small else 1e-4,
            fixed_rates={variable.path: peak for variable in predictor},
        )

    def _target(self, batch, z, view, training):
        """What the other view's prediction is to point at, of the global batch."""
        if self.target_steps > 1:
            networks = (self.target_backbone, self.target_projector)
            target = heads.chain(batch["views"][view], *networks, training=training)
            return distribute.all_gather(ops.stop_gradient(target))
        target = distribute.all_gather(z[view])
        if self.target_momentum:
            past = self.bank.look_up(distribute.all_gather(batch["index"]))
            share = self.target_momentum
            target = share * past + (1.0 - share) * l2_normalize(target)
        return target

    def _distance(self, z, target, training):
        """D of the prediction from `z` and of the global batch's `target`."""
        p = self.predictor(z, training=training) if self.use_predictor else z
        p = distribute.all_gather(p)
        if self.stop_gradient:
            return losses.negative_cosine(p, target)
        return -ops.mean(ops.sum(l2_normalize(p) * l2_normalize(target), axis=-1))

    def _default_projector(self):
        width = self.backbone.feature_dim
        widths = (2048, 2048) if is_small(self.image_shape) else (width, width, 2048)
        return heads.mlp(width, widths, output_norm="plain")

    def _check(self):
        if self.predictor is not None and not self.use_predictor:
            raise ValueError(
                "`use_predictor` must be True where `predictor` is given. Received: "
                f"use_predictor={self.use_predictor}, predictor={self.predictor}. Leave one of "
                "them out."
            )
        steps, momentum = self.target_steps, self.target_momentum
        received = f"Received: target_steps={steps}, target_momentum={momentum}"
        if int(steps) != steps or steps < 1 or not 0 <= momentum < 1:
            raise ValueError(
                "`target_steps` must be a whole number >= 1, and `target_momentum` in [0, 1). "
                f"{received}. Leave them out for the plain method."
            )
        if steps > 1 and momentum:
            raise ValueError(
                "`target_steps` > 1 and `target_momentum` > 0 are different ways to make targets. "
                f"{received}. Leave one of them out."
            )
        if not self.stop_gradient and (steps > 1 or momentum):
            raise ValueError(
                "`stop_gradient` must be True with `target_steps` or `target_momentum`, whose "
                f"targets are constants. {received}, stop_gradient=False. Leave it out."
            )
        if bool(momentum) != (self.num_images is not None):
            raise ValueError(
                "`num_images` must be given with a `target_momentum` > 0, which keeps a target for "
                f"each image, and with nothing else. {received}, num_images={self.num_images}."
            )


def _bottleneck(width):
    """Dense, batch normalisation, ReLU, Dense with an offset: the one Dense layer that has one."""
    inputs = keras.Input((width,), name="predictor_input")
    x = keras.layers.Dense(max(1, width // 4), use_bias=False, name="predictor_dense1")(inputs)
    x = keras.layers.ReLU(name="predictor_relu1")(batch_norm(name="predictor_bn1")(x))
    x = keras.layers.Dense(width, name="predictor_dense2")(x)
    return keras.Model(inputs, x, name="predictor")
