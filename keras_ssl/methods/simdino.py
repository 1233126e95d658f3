"""SimDINO: follow a slow teacher's features of other views, and fill the space with one's own.

Wu, Zhang, Pai, Wang, Singh, Yang, Gao, Ma 2025, https://arxiv.org/abs/2502.10385 (section 3): DINO
without prototypes, centre and temperatures. Departures from the authors' code: below 64 px a head
with batch normalisation, a teacher of momentum 0.9 and views of one size, with which short runs
learn more.
"""

import keras
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import ema, heads
from keras_ssl.methods import self_distillation
from keras_ssl.ops import is_small, l2_normalize


@keras.saving.register_keras_serializable("keras_ssl")
class SimDINO(SSLModel):
    """Align the student's views with the teacher's other views; keep the coding rate high.

    With z_u of the student for all V views and t_v of the teacher for the two large ones, p numbers
    of unit length each, over the N images of the global batch,

        L = - 1/(2V - 2) sum_{v in {0, 1}} sum_{u != v} mean_i <t_v, z_u>
            - gamma/2 sum_{v in {0, 1}} R(z_v),
        R(Z) = 1/2 log det( I + p / (N epsilon) Z^T Z ),    gamma = weight (p + N) / (p N).

    The second term (`losses.coding_rate`) is least where all vectors are equal: nothing else is
    needed against a collapse. Backbone and projector of the teacher are moving averages of the
    student's, after each optimizer step, with

        t <- m t + (1 - m) s,    m = 1 - (1 - momentum) (1 + cos(pi progress)) / 2.

    Views of one size pass a network as one batch, as the authors'; the teacher normalises by its
    own batch. Beside the loss, `cosine` and `coding_rate` are logged, the two means before signs
    and weights; at collapse the rate is 1/2 log(1 + p / epsilon), at most p/2 log(1 + 1 / epsilon).

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted. It
            must take all sizes that the views have.
        projector: `keras.Model` from features to embeddings; by default Dense 2048, GELU, Dense
            2048, GELU, Dense 256; below 64 px hidden layers are batch-normalised.
        epsilon: of the coding rate, > 0.
        weight: of the coding rate, >= 0, before the authors' scale (p + N) / (p N).
        momentum: m at the start, in [0, 1]; by default 0.996, and 0.9 below 64 px.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of two or more float tensors `(batch, height, width, channels)` in [0, 1], the
            two that the teacher sees first.

    Raises:
        ValueError: if a number is outside its range or there are fewer than two views.
    """

    family = "teacher-student"
    loss_names = ("loss", "cosine", "coding_rate")
    short_run = optimizers.ShortRun(below=10_000, learning_rate=2e-3)

    def __init__(
        self,
        backbone,
        projector: keras.Layer | None = None,
        epsilon: float = 0.05,
        weight: float = 1.0,
        momentum: float | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        self.projector = projector or self_distillation.projector(self)
        if momentum is None:
            momentum = 0.9 if is_small(self.image_shape) else 0.996
        self.epsilon, self.weight, self.momentum = epsilon, weight, momentum
        if not epsilon > 0 or not weight >= 0 or not 0 <= momentum <= 1:
            raise ValueError(
                "`epsilon` must be > 0, `weight` >= 0 and `momentum` in [0, 1]. Received: "
                f"epsilon={epsilon}, weight={weight}, momentum={momentum}."
            )
        self.teacher_backbone = ema.make_teacher(self.backbone)
        self.teacher_projector = ema.make_teacher(self.projector)

    def compute_losses(self, batch, training):
        """Cosines of all pairs of views, and the coding rate of the large ones."""
        images = batch["views"]
        heads.check_views("SimDINO", images, "dino")
        z = _embeddings(images, self.backbone, self.projector, training)
        t = _embeddings(images[:2], self.teacher_backbone, self.teacher_projector, training)
        z, t = distribute.all_gather(z), distribute.all_gather(ops.stop_gradient(t))
        pairs = [(v, u) for v in range(2) for u in range(len(images)) if u != v]
        cosine = -sum(losses.negative_cosine(z[:, u], t[:, v]) for v, u in pairs) / len(pairs)
        rate = sum(losses.coding_rate(z[:, v], self.epsilon) for v in range(2)) / 2
        number, _, width = z.shape
        gamma = self.weight * (width + number) / (width * number)
        return {"loss": -cosine - gamma * rate, "cosine": cosine, "coding_rate": rate}

    def after_step(self):
        """The teacher follows the student, ever more slowly."""
        decay = self_distillation.teacher_decay(self)
        ema.update(self.teacher_backbone, self.backbone, decay)
        ema.update(self.teacher_projector, self.projector, decay)

    def embed(self, images):
        """Unit-length embeddings by the student in inference mode."""
        return l2_normalize(heads.chain(images, self.backbone, self.projector))

    def default_views(self, image_size):
        """Multi-crop: two large and ten small views.

        Two of one size below 64 px, and for networks that take one size alone.
        """
        one_size = is_small(image_size) or not self.backbone.takes_any_size
        crops = (2, 0) if one_size else (2, 10)
        return views.dino(image_size, crops, transformer=self.backbone.kind == "tokens")

    def paper_optimizer(self, total_steps, batch_size):
        """AdamW, 5e-4 * batch / 256 after a warm-up of 10 epochs, along a cosine to 1e-6.

        The warm-up takes a tenth of the run at most. Weight decay from 0.04 to 0.4 along a cosine,
        not on biases and gains; gradients are clipped at 3, each variable's by itself.
        """
        return self_distillation.transformer_optimizer(self, total_steps, batch_size)


def _embeddings(images, backbone, projector, training):
    """Embeddings of each view, float32 `(batch, views, width)`, of unit length."""
    features = ops.concatenate(heads.chain_views(images, backbone, training=training))
    z = l2_normalize(projector(features, training=training))
    return ops.stack(ops.split(z, len(images)), axis=1)
