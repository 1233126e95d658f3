"""W-MSE: whiten the embeddings of a batch, then bring those of an image's views together.

Ermolov, Siarohin, Sangineto, Sebe 2021, https://arxiv.org/abs/2007.06346. Departures from the
authors' code: slices are cut from the global batch, so that the loss does not depend on the number
of replicas.
"""

import keras
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import heads
from keras_ssl.ops import draws, is_small, l2_normalize


@keras.saving.register_keras_serializable("keras_ssl")
class WMSE(SSLModel):
    """Mean squared distance of views in a space whose covariance is the identity.

    With h_v the projections of view v, W the whitening of a slice of the batch by its own mean and
    covariance (Cholesky), and z = W(h) / |W(h)|,

        L = 2 / (V (V - 1)) sum_{u < v} 1/N sum_i |z_ui - z_vi|^2.

    Whitened embeddings cannot collapse, so there are neither negatives nor a stopped gradient. All
    views are cut into the same slices, of images in another order at each step.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted.
        projector: `keras.Model` from features to embeddings; by default Dense 1024, batch
            normalisation, ReLU, Dense 128 (64 below 64 px), with biases.
        slice_size: images whitened together; by default twice the width of the embeddings. Must
            divide the global batch.
        iterations: permutations a step, whose losses are averaged.
        num_views: V, for the default views.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of V float tensors `(batch, height, width, channels)` in [0, 1].

    Raises:
        ValueError: if a number is out of range; at the first step, if `slice_size` does not divide
            the batch.
    """

    family = "whitening"

    def __init__(
        self,
        backbone,
        projector: keras.Layer | None = None,
        slice_size: int | None = None,
        iterations: int = 1,
        num_views: int = 2,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if iterations < 1 or num_views < 2:
            raise ValueError(
                "`iterations` must be >= 1 and `num_views` >= 2. "
                f"Received: iterations={iterations}, num_views={num_views}."
            )
        self.iterations, self.num_views = iterations, num_views
        self.backbone = backbones.adopt(backbone)
        self.projector = projector or heads.mlp(
            self.backbone.feature_dim,
            (1024, 64 if is_small(self.image_shape) else 128),
            output_norm=None,
            use_bias=True,
            kernel_initializer=heads.pytorch_uniform(),
        )
        width = self.projector.output_shape[-1]
        self.slice_size = 2 * width if slice_size is None else slice_size
        if self.slice_size <= width:
            raise ValueError(
                f"`slice_size` must exceed the width of the embeddings, {width}. "
                f"Received: slice_size={slice_size}. Twice the width is the authors' choice."
            )

    def compute_losses(self, batch, training):
        """The distance of whitened embeddings over all slices of the global batch."""
        features = [self.backbone(view, training=training) for view in batch["views"]]
        # The backbone normalises each view by itself, the head all views together (authors' code).
        h = self.projector(ops.concatenate(features), training=training)
        h = ops.split(ops.cast(h, "float32"), len(features))
        embeddings = [distribute.all_gather(own) for own in h]
        orders = self._orders(embeddings[0].shape[0])
        return {"loss": losses.whitened_mse(embeddings, self.slice_size, orders)}

    def embed(self, images):
        """Projections in inference mode, of unit length and not whitened: that takes a batch."""
        return l2_normalize(heads.chain(images, self.backbone, self.projector))

    def default_views(self, image_size):
        """`num_views` views, coloured before they are cropped (the authors' code)."""
        return views.wmse(image_size, num_views=self.num_views)

    def paper_optimizer(self, total_steps, batch_size):
        """Adam, L2 of 1e-6 in the gradient; a fifth of the rate in the last 5 and 2.5 % each.

        Learning rate 2e-3, and 3e-3 below 64 px, warmed up over 500 steps (a tenth of the run, if
        that is less). Section 5.1.
        """
        schedule = optimizers.WarmupDrops(
            3e-3 if is_small(self.image_shape) else 2e-3,
            drops=(int(0.95 * total_steps), int(0.975 * total_steps)),
            factor=0.2,
            warmup_steps=min(500, total_steps // 10),
        )
        return optimizers.Adam(schedule, weight_decay=1e-6)

    def _orders(self, size):
        """Permutations `(iterations, size)` of the global batch, others at each step."""
        orders = draws.permutation(self.draw_key, self.iterations * size)
        # The order of the places that fall to each iteration is a permutation of the batch.
        return ops.argsort(ops.reshape(orders, (self.iterations, size)), axis=-1)
