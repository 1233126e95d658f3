"""BYOL: predict a slow teacher's projection of another view, without negatives.

Grill, Strub, Altche, Tallec, Richemond et al. 2020, https://arxiv.org/abs/2006.07733 (section 3).
Departures from the authors' code: the teacher starts equal to the student (theirs
has its own random weights); no bias before batch normalisation, which would subtract it; below 64
px, for which there is no code of theirs, projections are batch-normalised, as those of MoCo v3 and
SimSiam, and views are SimSiam's: short runs learn more so.
"""

import keras
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.engine import SSLModel
from keras_ssl.layers import ema, heads
from keras_ssl.ops import is_small, l2_normalize


@keras.saving.register_keras_serializable("keras_ssl")
class BYOL(SSLModel):
    """Regress, from each view, the teacher's projection of the other view.

    With p_v = predictor(projector(backbone(view v))) of the student and t_v the projection by the
    teacher, both of unit length (paper, equation 2, for both orders of the views),

        L = mean_i ( |p_1 - t_2|^2 + |p_2 - t_1|^2 )  =  mean_i ( 4 - 2 <p_1, t_2> - 2 <p_2, t_1> ),

    from 0 to 8. The teacher is the moving average of the student's backbone and projector, with

        t <- m t + (1 - m) s,    m = 1 - (1 - momentum) (1 + cos(pi progress)) / 2,

    after each optimizer step, with the progress before it. It normalises by its own batch; views
    pass the networks one after the other, each with statistics of its own.

    Args:
        backbone: a `keras_ssl.backbones.Backbone`, or any image `keras.Model`, which is adopted.
            The authors' ResNet-50 (bottleneck blocks only) starts residual blocks as identities:
            `zero_init_residual=True`.
        projector: `keras.Model` from features to projections; by default Dense 4096, batch
            normalisation, ReLU, Dense 256; below 64 px Dense 1024 (as lightly for CIFAR-10), batch
            normalisation, ReLU, Dense 256, batch normalisation without gain and offset.
        predictor: `keras.Model` from projections to projections; by default of the same form,
            without the last normalisation.
        momentum: m at the start, in [0, 1]; None for 0.996, and from 40 epochs on the authors' by
            the length of the run: 0.97, 0.99 from 100 epochs on, 0.996 from 1000 on (0.99 below
            64 px). It is kept where that length is unknown.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of two float tensors `(batch, height, width, channels)` in [0, 1].

    Raises:
        ValueError: if `momentum` is outside [0, 1].
    """

    family = "teacher-student"
    short_run = optimizers.ShortRun(below=10_000, learning_rate=2e-3)

    def __init__(
        self,
        backbone,
        projector: keras.Layer | None = None,
        predictor: keras.Layer | None = None,
        momentum: float | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        hidden, norm = (1024, "plain") if is_small(self.image_shape) else (4096, None)
        self.projector = projector or _mlp(self.backbone.feature_dim, hidden, norm, "projector")
        width = self.projector.output_shape[-1]
        self.predictor = predictor or _mlp(width, hidden, None, "predictor")
        if momentum is not None and not 0 <= momentum <= 1:
            raise ValueError(f"`momentum` must be in [0, 1]. Received: momentum={momentum}.")
        self.momentum = momentum
        self.teacher_backbone = ema.make_teacher(self.backbone)
        self.teacher_projector = ema.make_teacher(self.projector)

    def compute_losses(self, batch, training):
        """Squared distances of both predictions to the teacher's projections."""
        targets, predictions = [], []
        # One view after the other: each is normalised by statistics of its own, as the authors'.
        for view in batch["views"]:
            z = heads.chain(view, self.backbone, self.projector, training=training)
            predictions.append(distribute.all_gather(self.predictor(z, training=training)))
            t = heads.chain(view, self.teacher_backbone, self.teacher_projector, training=training)
            targets.append(distribute.all_gather(ops.stop_gradient(t)))
        # |p - t|^2 = 2 - 2 <p, t> for unit vectors
        cosines = losses.negative_cosine(predictions[0], targets[1])
        cosines += losses.negative_cosine(predictions[1], targets[0])
        return {"loss": 4.0 + 2.0 * cosines}

    def after_step(self):
        """The teacher follows the student, ever more slowly."""
        share = self.share_of_run(self.step - 1)  # the optimizer has counted this step already
        decay = optimizers.cosine_momentum(share, 1, self._first_momentum())
        ema.update(self.teacher_backbone, self.backbone, decay)
        ema.update(self.teacher_projector, self.projector, decay)

    def embed(self, images):
        """Unit-length projections by the student in inference mode."""
        return l2_normalize(heads.chain(images, self.backbone, self.projector))

    def default_views(self, image_size):
        """Two views of unlike strength: the first always blurred, the second at times solarised.

        Below 64 px those of MoCo v2, with crops of 20-100 % of the area, as SimSiam's.
        """
        if is_small(image_size):
            return views.moco(image_size, version=2, min_scale=0.2)
        return views.byol(image_size)

    def paper_optimizer(self, total_steps, batch_size):
        """LARS, warmed up over 10 epochs (at most a tenth of the run), then cosine to zero.

        The authors' presets: learning rate 0.45 * batch / 256 below 300 epochs, 0.3 below 1000,
        then 0.2; weight decay 1e-6, and 1.5e-6 from 1000 epochs on.
        """
        epochs = self.epochs_of(total_steps)
        peak = (0.45 if epochs < 300 else 0.3 if epochs < 1000 else 0.2) * batch_size / 256
        schedule = optimizers.WarmupCosine(peak, total_steps, self.warmup_steps(total_steps))
        decay = 1e-6 if epochs < 1000 else 1.5e-6
        return optimizers.LARS(schedule, momentum=0.9, weight_decay=decay)

    def _first_momentum(self):
        if self.momentum is not None:
            return self.momentum
        longest = 0.99 if is_small(self.image_shape) else 0.996
        # A short run needs a slow teacher: one that follows is met before anything is learnt.
        presets = {0: 0.996, 40: 0.97, 100: 0.99, 1000: longest}
        return optimizers.by_epochs(self.run_epochs, presets)


def _mlp(width, hidden, norm, name):
    return heads.mlp(
        width, (hidden, 256), output_norm=norm, kernel_initializer="lecun_normal", name=name
    )
