"""DINO: predict a slow teacher's soft assignment of another view, without labels or negatives.

Caron, Touvron, Misra, Jegou, Mairal, Bojanowski, Joulin 2021, https://arxiv.org/abs/2104.14294
(section 3, appendix A and C). Departures from the authors' code: prototypes have unit length on use
(theirs, too, unless `norm_last_layer` is off) and start as the teacher's, as all of the student;
while they are frozen they get a gradient of zero, which leaves their directions as they are; below
64 px there are 1024 prototypes, a head of batch normalisation and views of one size, with which
short runs learn more. `encode` gives the student's features; the authors evaluate the teacher
(`teacher_backbone`), which in short runs is no better.
"""

import keras
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import ema, heads
from keras_ssl.methods import self_distillation
from keras_ssl.ops import is_small, l2_normalize, mean_entropy


@keras.saving.register_keras_serializable("keras_ssl")
class DINO(SSLModel):
    """Match the student's distribution over prototypes to the teacher's, from other views.

    With z = projector(backbone(view)) and K prototypes w_k, scores are cosines,

        s_k = <z, w_k> / (|z| |w_k|).

    The teacher sees the two large views, the student all V. With the teacher's scores t_v, minus a
    centre c and divided by a low temperature, as targets (paper, equations 1 to 3),

        L = 1/(2V - 2) sum_{v in {0, 1}} sum_{u != v} mean_i sum_k -q_v log softmax(s_u / 0.1),
        q_v = softmax((t_v - c) / teacher_temperature).

    Backbone, projector and prototypes of the teacher are moving averages of the student's, after
    each optimizer step, with

        t <- m t + (1 - m) s,    m = 1 - (1 - momentum) (1 + cos(pi progress)) / 2,

    and c that of its scores, after each loss: c <- 0.9 c + 0.1 mean(t). Views of one size pass a
    network as one batch, as the authors'; the teacher normalises by its own batch.

    Beside the loss, `teacher_entropy` is logged, the mean entropy of the targets in nats. There are
    two ways to collapse: it goes to log K and stays where the centre wins, and to 0 with the loss
    where sharpening does and one prototype takes all.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted. It
            must take all sizes that the views have.
        projector: `keras.Model` from features to the bottleneck that scores are made of; by default
            Dense 2048, GELU, Dense 2048, GELU, Dense 256; below 64 px hidden layers are
            batch-normalised.
        num_prototypes: K, >= 2; by default 65,536, and 1024 below 64 px.
        temperature: the student's, > 0.
        teacher_temperature: > 0.
        first_teacher_temperature: where the teacher's begins, > 0; None for `teacher_temperature`.
            The authors' longer runs go from 0.04 to 0.07.
        temperature_epochs: epochs over which it goes there, a number >= 0; it is there at once
            where the length of an epoch is unknown.
        momentum: m at the start, in [0, 1]; the authors advise 0.9995 for batches of 256.
        center_momentum: share of the centre that is kept in a step, in [0, 1].
        freeze_epochs: epochs at the start during which the prototypes stay as they are, a number
            >= 0.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of two or more float tensors `(batch, height, width, channels)` in [0, 1], the
            two that the teacher sees first.

    Raises:
        ValueError: if a number is outside its range or there are fewer than two views.
    """

    family = "teacher-student"
    loss_names = ("loss", "teacher_entropy")
    short_run = optimizers.ShortRun(below=10_000, learning_rate=2e-3)

    def __init__(
        self,
        backbone,
        projector: keras.Layer | None = None,
        num_prototypes: int | None = None,
        temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        first_teacher_temperature: float | None = None,
        temperature_epochs: float = 30,
        momentum: float = 0.996,
        center_momentum: float = 0.9,
        freeze_epochs: float = 1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        self.projector = projector or self_distillation.projector(self)
        self.num_prototypes = num_prototypes or (1024 if is_small(self.image_shape) else 65_536)
        self.temperature, self.teacher_temperature = temperature, teacher_temperature
        self.first_teacher_temperature = first_teacher_temperature
        self.temperature_epochs, self.freeze_epochs = temperature_epochs, freeze_epochs
        self.momentum, self.center_momentum = momentum, center_momentum
        self_distillation.check(self)
        self.prototypes = self._make_prototypes("prototypes")
        self.teacher_backbone = ema.make_teacher(self.backbone)
        self.teacher_projector = ema.make_teacher(self.projector)
        self.teacher_prototypes = self._make_prototypes("teacher_prototypes", trainable=False)
        self.teacher_prototypes.assign(self.prototypes)
        self.center = self.add_weight(
            (self.num_prototypes,), "zeros", trainable=False, name="center"
        )

    def compute_losses(self, batch, training):
        """Cross-entropies over all pairs of views; then the centre follows the teacher."""
        images = batch["views"]
        heads.check_views("DINO", images, "dino")
        prototypes = self_distillation.frozen_at_first(self, self.prototypes)
        student = _scores(images, self.backbone, self.projector, prototypes, training)
        networks = (self.teacher_backbone, self.teacher_projector, self.teacher_prototypes)
        teacher = _scores(images[:2], *networks, training)
        teacher = [ops.stop_gradient(t) for t in teacher]
        temperature = self._teacher_temperature()
        loss = losses.dino(student, teacher, self.center, temperature, self.temperature)
        targets = losses.dino_targets(ops.concatenate(teacher), self.center, temperature)
        entropy = mean_entropy(targets)
        # Scores of 65,536 prototypes are not gathered: all replicas have as many images, so the
        # mean of their means is that of the global batch.
        means = ops.concatenate([ops.stack([loss, entropy]), _mean_scores(teacher)])
        means = ops.mean(distribute.all_gather(means[None]), axis=0)
        if training:
            kept = self.center_momentum
            self.center.assign(kept * self.center + (1 - kept) * ops.stop_gradient(means[2:]))
        return {"loss": means[0], "teacher_entropy": means[1]}

    def after_step(self):
        """The teacher follows the student, ever more slowly."""
        decay = self_distillation.teacher_decay(self)
        ema.update(self.teacher_backbone, self.backbone, decay)
        ema.update(self.teacher_projector, self.projector, decay)
        self_distillation.follow(self.teacher_prototypes, self.prototypes, decay)

    def embed(self, images):
        """The student's bottleneck, of unit length, in inference mode."""
        return l2_normalize(heads.chain(images, self.backbone, self.projector))

    def assign(self, images):
        """The student's prototype of greatest cosine."""
        scores = self_distillation.cosines(self.embed(images), self.prototypes)
        return ops.argmax(scores, axis=-1)

    def default_views(self, image_size):
        """Multi-crop: two large and eight small views.

        Two of one size below 64 px, and for networks that take one size alone.
        """
        crops = None if self.backbone.takes_any_size else (2, 0)
        return views.dino(image_size, crops, transformer=self._is_transformer())

    def paper_optimizer(self, total_steps, batch_size):
        """Warm-up of 10 epochs (a tenth of the run at most), then cosine; clipped at 3 a variable.

        Transformers: AdamW, learning rate 5e-4 * batch / 256 down to 1e-6, weight decay from 0.04
        to 0.4 along a cosine. Others: SGD with momentum 0.9, 0.03 * batch / 256, L2 1e-4. Biases
        and gains do not decay.
        """
        if self._is_transformer():
            return self_distillation.transformer_optimizer(self, total_steps, batch_size)
        peak, warmup = 0.03 * batch_size / 256, self.warmup_steps(total_steps)
        schedule = optimizers.WarmupCosine(peak, total_steps, warmup, floor=min(1e-6, peak))
        return optimizers.SGD(schedule, weight_decay=1e-4, exclude_1d=True, clipnorm=3.0)

    def _is_transformer(self):
        return self.backbone.kind == "tokens"

    def _teacher_temperature(self):
        return self_distillation.teacher_temperature(self)

    def _make_prototypes(self, name, trainable=True):
        width = self.projector.output_shape[-1]
        return self_distillation.add_prototypes(self, name, width, trainable)


def _scores(images, backbone, projector, prototypes, training):
    """Cosines with the prototypes, float32 `(batch, K)`, of each view."""
    features = ops.concatenate(heads.chain_views(images, backbone, training=training))
    z = l2_normalize(projector(features, training=training))
    return ops.split(self_distillation.cosines(z, prototypes), len(images))


def _mean_scores(teacher):
    """Mean over views and images, `(K,)`."""
    return sum(ops.mean(t, axis=0) for t in teacher) / len(teacher)
