"""SimSiam: predict another view's projection by the same network, with a stop-gradient.

Chen and He 2021, https://arxiv.org/abs/2011.10566 (sections 3 and 4, appendix D for CIFAR-10).
Departures from the authors' code: biases start at 0. The alternations of section 5 are in
`recipes/simsiam_variants.py`.
"""

import keras
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import batch_norm, heads
from keras_ssl.ops import is_small, l2_normalize


@keras.saving.register_keras_serializable("keras_ssl")
class SimSiam(SSLModel):
    """Predict, from each view, the projection of the other one, without negatives or a teacher.

    With z_v = projector(backbone(view v)), p_v = predictor(z_v), the negative cosine D and sg that
    lets no gradient through (paper, equations 1 to 4),

        L = D(p_1, sg z_2) / 2 + D(p_2, sg z_1) / 2,    D(p, z) = -mean_i cosine(p_i, z_i),

    from -1 to 1. Nothing but sg keeps it from the solution in which all outputs coincide and L is
    -1. Views pass the networks one after the other, each with batch statistics of its own.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted.
        projector: `keras.Model` from features to projections; by default three Dense layers, two of
            the features' width and one of 2048, each followed by batch normalisation, the last
            without gain and offset, the others by ReLU; below 64 px two layers of 2048.
        predictor: `keras.Model` from projections to projections; by default a bottleneck of a
            quarter of their width, with batch normalisation and ReLU inside.
        use_predictor: whether there is a predictor; without it p_v = z_v (section 4.2).
        stop_gradient: whether targets are held still; if not, outputs collapse (section 4.1).
        symmetric: whether both orders of the views count; if not, L = D(p_1, sg z_2) (section 4.6).
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of two float tensors `(batch, height, width, channels)` in [0, 1].

    Raises:
        ValueError: if a predictor is given and `use_predictor` is False.
    """

    family = "siamese"
    short_run = optimizers.ShortRun(below=10_000, learning_rate=1e-3)

    def __init__(
        self,
        backbone,
        projector: keras.Layer | None = None,
        predictor: keras.Layer | None = None,
        use_predictor: bool = True,
        stop_gradient: bool = True,
        symmetric: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        self.projector = projector or self._default_projector()
        self.predictor = predictor
        self.use_predictor = use_predictor
        self.stop_gradient = stop_gradient
        self.symmetric = symmetric
        if predictor is not None and not use_predictor:
            raise ValueError(
                "`use_predictor` must be True where `predictor` is given. Received: "
                f"use_predictor={use_predictor}, predictor={predictor}. Leave one of them out."
            )
        if use_predictor and predictor is None:
            self.predictor = _bottleneck(self.projector.output_shape[-1])

    def compute_losses(self, batch, training):
        """Negative cosines of predictions and targets of the global batch."""
        z = [
            heads.chain(view, self.backbone, self.projector, training=training)
            for view in batch["views"]
        ]
        targets = [distribute.all_gather(own) for own in z]  # (global N, width) each
        return {"loss": self._loss(z, targets, training)}

    def embed(self, images):
        """Unit-length projections in inference mode."""
        return l2_normalize(heads.chain(images, self.backbone, self.projector))

    def default_views(self, image_size):
        """The views of MoCo v2 with crops of 20-100 % of the area: below 64 px without blur."""
        return views.moco(image_size, version=2, min_scale=0.2)

    def paper_optimizer(self, total_steps, batch_size):
        """SGD with L2 on all variables, cosine to zero, but a constant rate for the predictor.

        Learning rate 0.05 * batch / 256, weight decay 1e-4 (section 3); below 64 px 0.03 and 5e-4
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

    def _loss(self, z, targets, training):
        """L of both views' projections on this replica and targets of the global batch."""
        loss = self._distance(z[0], targets[1], training)
        if self.symmetric:
            loss = 0.5 * loss + 0.5 * self._distance(z[1], targets[0], training)
        return loss

    def _distance(self, z, target, training):
        """D of the prediction from `z` and the other view's `target`."""
        p = self.predictor(z, training=training) if self.use_predictor else z
        p = distribute.all_gather(p)
        if self.stop_gradient:
            return losses.negative_cosine(p, target)
        return -ops.mean(ops.sum(l2_normalize(p) * l2_normalize(target), axis=-1))

    def _default_projector(self):
        width = self.backbone.feature_dim
        widths = (2048, 2048) if is_small(self.image_shape) else (width, width, 2048)
        start = heads.pytorch_uniform()
        return heads.mlp(width, widths, output_norm="plain", kernel_initializer=start)


def _bottleneck(width):
    """Dense, batch normalisation, ReLU, Dense with an offset: the one Dense layer that has one."""
    inputs = keras.Input((width,), name="predictor_input")
    start = heads.pytorch_uniform
    x = keras.layers.Dense(
        max(1, width // 4), use_bias=False, kernel_initializer=start(), name="predictor_dense1"
    )(inputs)
    x = keras.layers.ReLU(name="predictor_relu1")(batch_norm(name="predictor_bn1")(x))
    x = keras.layers.Dense(width, kernel_initializer=start(), name="predictor_dense2")(x)
    return keras.Model(inputs, x, name="predictor")
