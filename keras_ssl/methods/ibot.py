"""iBOT: match a slow teacher's soft assignments of other views, and of hidden patches of the same.

Zhou, Wei, Wang, Shen, Xie, Yuille, Kong 2021, https://arxiv.org/abs/2111.07832 (section 3, appendix
B); options of DINOv2 (Oquab et al. 2023, https://arxiv.org/abs/2304.07193, section 4) and DINOv3
(Simeoni et al. 2025, https://arxiv.org/abs/2508.10104, section 4). Departures from the authors'
code: prototypes as those of `DINO`; the student's head sees no patches but the hidden ones, and as
many others as make up for a smaller mask; masks as `ops.blocks.scattered_blocks`; a backbone that
averages its patches has that mean in the place of the class token; below 64 px 512 prototypes, a
head of width 256 with batch normalisation, a teacher of momentum 0.99 and views of one size, for
short runs on two cores; `encode` gives the student's features, and the authors evaluate the teacher
(`teacher_backbone`). DINOv2's KoLeo is over the global batch; the anchor of DINOv3's Gram
matrices is the moving teacher, theirs an earlier, fixed one, which they renew.
"""

import math

import keras
from keras import ops

from keras_ssl import backbones, distribute, losses, optimizers, views
from keras_ssl.backbones.parts import token_parts
from keras_ssl.engine import SSLModel
from keras_ssl.layers import ema, heads
from keras_ssl.methods import self_distillation
from keras_ssl.ops import blocks, is_small, l2_normalize, masking, mean_entropy, sinkhorn

CENTERINGS = ("mean", "sinkhorn")


@keras.saving.register_keras_serializable("keras_ssl")
class IBOT(SSLModel):
    """DINO's loss on images of which blocks are hidden, and the teacher's word on hidden patches.

    Numbers u that come with the batch hide blocks of patches of the two large views, in about half
    of them 10-50 %; a learned token stands in their place, before positions are added. The teacher
    sees the whole views. Head and prototypes give scores of any vector, cosines s of the student
    and t of the teacher: of an image (the class token), and of a patch. With centres c and c',

        L = L_class + patch_weight L_patch,
        L_class = 1/(2V - 2) sum_{v in {0, 1}} sum_{u != v} H( q(t_v - c), s_u ),
        L_patch = 1/2 sum_{v in {0, 1}} mean_i sum_{p hidden} H( q(t_vp - c'), s_vp ) / max(1, n_v),
        q(t) = softmax(t / teacher_temperature),    H(q, s) = -sum_k q_k log softmax_k(s / 0.1),

    n being the number of hidden patches of image i. Teacher, centres, temperatures and frozen
    prototypes are as in `DINO`; c' follows the mean over all patches. With `centering="sinkhorn"`
    the targets of the global batch are made even by three iterations of `ops.sinkhorn`, without
    centres; hidden patches of all images together. Further terms, with their weights:

        koleo_weight:  sum of `losses.koleo` of the student's vectors of the two large views;
        gram_weight:   `losses.gram` of the patches' features, student against teacher.

    Large views pass a network as one batch, and so do small ones; the head has image vectors and
    patches as one. Beside the loss, its two parts are logged, and `teacher_entropy`, the mean
    entropy of the targets of images in nats.

    Args:
        backbone: a vision transformer of `keras_ssl.backbones`.
        projector: `keras.Model` from features to the bottleneck that scores are made of; by default
            Dense 2048, GELU, Dense 2048, GELU, Dense 256; below 64 px Dense 256, 256, 128, hidden
            layers batch-normalised.
        num_prototypes: K, >= 2; by default 8192, and 512 below 64 px.
        shared_head: whether patches have head and prototypes of images; if not, such of their own,
            a copy of `projector` with new weights.
        centering: "mean" or "sinkhorn".
        patch_weight: >= 0.
        koleo_weight: >= 0; DINOv2: 0.1.
        gram_weight: >= 0; DINOv3, late in training: 2.
        masked_views: share of the large views in which patches are hidden, in [0, 1].
        min_mask_rate: least share of their patches, in [0, `max_mask_rate`].
        max_mask_rate: largest, in (0, 1).
        temperature: the student's, > 0.
        teacher_temperature: > 0.
        first_teacher_temperature: where the teacher's begins, > 0.
        temperature_epochs: epochs over which it goes there, a number >= 0; it is there at once
            where the length of an epoch is unknown.
        momentum: of the teacher at the start, in [0, 1]; by default 0.996, and 0.99 below 64 px.
        center_momentum: share of the centres that is kept in a step, in [0, 1].
        freeze_epochs: epochs at the start during which the prototypes stay as they are, a number
            >= 0.
        **kwargs: as `keras.Model`.

    Batch:
        views: tuple of two or more float tensors `(batch, height, width, channels)` in [0, 1], the
            two that the teacher sees first.
        mask_noise: u, uniform in [0, 1), `(batch, 2, ops.blocks.SCATTERED_NUMBERS)`.

    Raises:
        ValueError: if an argument is outside its range, the backbone is no such transformer, or
            there are fewer than two views.
    """

    family = "teacher-student"
    loss_names = ("loss", "class_loss", "patch_loss", "teacher_entropy")
    needs_tokens = True
    batch_keys = ("views", "mask_noise")
    short_run = optimizers.ShortRun(below=10_000, learning_rate=5e-4, batch_size=32)

    def __init__(
        self,
        backbone,
        projector: keras.Layer | None = None,
        num_prototypes: int | None = None,
        shared_head: bool = True,
        centering: str = "mean",
        patch_weight: float = 1.0,
        koleo_weight: float = 0.0,
        gram_weight: float = 0.0,
        masked_views: float = 0.5,
        min_mask_rate: float = 0.1,
        max_mask_rate: float = 0.5,
        temperature: float = 0.1,
        teacher_temperature: float = 0.07,
        first_teacher_temperature: float = 0.04,
        temperature_epochs: float = 30,
        momentum: float | None = None,
        center_momentum: float = 0.9,
        freeze_epochs: float = 1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbones.adopt(backbone)
        self._parts = token_parts(self.backbone)
        small = is_small(self.image_shape)
        self.num_prototypes = num_prototypes or (512 if small else 8192)
        self.shared_head, self.centering = shared_head, centering
        self.patch_weight = patch_weight
        self.koleo_weight, self.gram_weight = koleo_weight, gram_weight
        self.masked_views = masked_views
        self.min_mask_rate, self.max_mask_rate = min_mask_rate, max_mask_rate
        self.temperature, self.teacher_temperature = temperature, teacher_temperature
        self.first_teacher_temperature = first_teacher_temperature
        self.temperature_epochs, self.freeze_epochs = temperature_epochs, freeze_epochs
        if momentum is None:
            momentum = 0.99 if small else 0.996
        self.momentum, self.center_momentum = momentum, center_momentum
        self._check()
        length = math.prod(self._parts.grid)
        self.hidden = max(1, int(length * max_mask_rate + 1e-6))  # the most in an image
        widths = (256, 256, 128) if small else (2048, 2048, 256)
        self.projector = projector or self_distillation.projector(self, widths)
        self.mask_token = self.add_weight(
            (self._parts.width,), keras.initializers.RandomNormal(stddev=0.02), name="mask_token"
        )
        self.teacher_backbone = ema.make_teacher(self.backbone)
        self._teacher_parts = token_parts(self.teacher_backbone)
        self.teacher_projector = ema.make_teacher(self.projector)
        self.prototypes, self.teacher_prototypes = self._make_prototypes("")
        if not shared_head:
            self.patch_projector = _renewed(self.projector, "patch_projector")
            self.teacher_patch_projector = ema.make_teacher(self.patch_projector)
            self.patch_prototypes, self.teacher_patch_prototypes = self._make_prototypes("patch_")
        if centering == "mean":
            shape = (self.num_prototypes,)
            self.center = self.add_weight(shape, "zeros", trainable=False, name="center")
            self.patch_center = self.add_weight(
                shape, "zeros", trainable=False, name="patch_center"
            )

    def compute_losses(self, batch, training):
        """Both losses and the further terms; then the centres follow the teacher."""
        images = batch["views"]
        heads.check_views("IBOT", images, "dino")
        large, hidden = ops.concatenate(images[:2]), self._hidden_patches(batch["mask_noise"])
        prefix = self._parts.prefix
        places = blocks.marked_first(hidden)[:, : self.hidden]
        weights = ops.take_along_axis(hidden, places, axis=1)  # 0 where fewer are hidden
        student = self._tokens(self._parts, large, training, hidden)
        teacher = ops.stop_gradient(self._tokens(self._teacher_parts, large, training))

        vectors = self._pooled(student)
        small = heads.chain_views(images[2:], self.backbone, training=training)
        z = ops.concatenate([vectors, *small])
        z_hidden = masking.first_places(student[:, prefix:], places, self.hidden)
        projectors, prototypes = self._student_head()
        z, z_hidden = _embeddings(z, z_hidden, projectors, training)
        scores = ops.split(self_distillation.cosines(z, prototypes[0]), len(images))
        hidden_scores = self_distillation.cosines(z_hidden, prototypes[1])

        projectors, prototypes = self._teacher_head()
        t_patches = teacher[:, prefix:]
        t, t_patches = _embeddings(self._pooled(teacher), t_patches, projectors, training)
        t, t_patches = ops.stop_gradient(t), ops.stop_gradient(t_patches)
        t_hidden = masking.first_places(t_patches, places, self.hidden)
        targets = self._targets(self_distillation.cosines(t, prototypes[0]), "center")
        hidden_targets = self._targets(
            self_distillation.cosines(t_hidden, prototypes[1]), "patch_center", weights
        )
        # Scores are linear in unit vectors: their mean over all places is that of the mean vector.
        means = [
            self_distillation.cosines(ops.mean(t, axis=0), prototypes[0]),
            self_distillation.cosines(ops.mean(t_patches, axis=(0, 1)), prototypes[1]),
        ]

        patch_losses = losses.masked_cross_entropy(
            hidden_scores, hidden_targets, weights, self.temperature
        )
        found = [
            losses.cross_view_cross_entropy(ops.split(targets, 2), scores, self.temperature),
            ops.mean(patch_losses),
            mean_entropy(targets),
            losses.gram(student[:, prefix:], teacher[:, prefix:])
            if self.gram_weight
            else ops.zeros(()),
        ]
        # All replicas have as many images, so the mean of their means is that of the global batch.
        means = ops.stop_gradient(ops.concatenate(means))
        gathered = distribute.all_gather(ops.concatenate([ops.stack(found), means])[None])
        gathered = ops.mean(gathered, axis=0)
        class_loss, patch_loss, entropy, gram = ops.unstack(gathered[: len(found)])
        if training and self.centering == "mean":
            self._move_centers(*ops.split(gathered[len(found) :], 2))
        loss = class_loss + self.patch_weight * patch_loss + self.gram_weight * gram
        if self.koleo_weight:
            both = ops.stack(ops.split(vectors, 2), axis=1)  # (B, 2, D)
            both = distribute.all_gather(ops.cast(both, "float32"))
            loss += self.koleo_weight * sum(losses.koleo(both[:, v]) for v in range(2))
        return dict(zip(self.loss_names, (loss, class_loss, patch_loss, entropy), strict=True))

    def after_step(self):
        """The teacher follows the student, ever more slowly."""
        decay = self_distillation.teacher_decay(self)
        ema.update(self.teacher_backbone, self.backbone, decay)
        ema.update(self.teacher_projector, self.projector, decay)
        self_distillation.follow(self.teacher_prototypes, self.prototypes, decay)
        if not self.shared_head:
            ema.update(self.teacher_patch_projector, self.patch_projector, decay)
            self_distillation.follow(self.teacher_patch_prototypes, self.patch_prototypes, decay)

    def embed(self, images):
        """The student's bottleneck of images, of unit length, in inference mode."""
        return l2_normalize(heads.chain(images, self.backbone, self.projector))

    def assign(self, images):
        """The student's prototype of greatest cosine."""
        scores = self_distillation.cosines(self.embed(images), self.prototypes)
        return ops.argmax(scores, axis=-1)

    def default_views(self, image_size):
        """Multi-crop: two large and ten small views, two of one size below 64 px; and the numbers.

        Large views show 25-100 % of the area, small ones 5-25 %; below 64 px as DINO's.
        """
        small = is_small(image_size)
        made = views.dino(image_size, None if small else (2, 10), split=None if small else 0.25)
        noise = {"distribution": "uniform", "shape": (2, blocks.SCATTERED_NUMBERS)}
        return views.WithNoise(made, {"mask_noise": noise})

    def paper_optimizer(self, total_steps, batch_size):
        """AdamW as DINO's: 5e-4 * batch / 256 after 10 epochs of warm-up, along a cosine to 1e-6.

        The warm-up takes a tenth of the run at most. Weight decay from 0.04 to 0.4 along a cosine,
        not on biases and gains; gradients are clipped at 3, each variable's by itself.
        """
        return self_distillation.transformer_optimizer(self, total_steps, batch_size)

    def _hidden_patches(self, noise):
        """float32 `(2 B, L)`, first view first: 1 where a patch is hidden."""
        rates = (self.masked_views, self.min_mask_rate, self.max_mask_rate)
        hidden = blocks.scattered_blocks(noise, self._parts.grid, *rates)
        return ops.concatenate([hidden[:, 0], hidden[:, 1]])

    def _tokens(self, parts, images, training, hidden=None):
        """Class token and patches `(B, 1 + L, D)`, after the last norm."""
        patches = parts.patches(images)
        if hidden is not None:
            mask = ops.cast(ops.reshape(hidden, (-1, *parts.grid, 1)), patches.dtype)
            patches = patches * (1 - mask) + ops.cast(self.mask_token, patches.dtype) * mask
        return parts.blocks(parts.positions(patches), training=training)

    def _pooled(self, tokens):
        """What the backbone makes of tokens: the class token or the mean of the patches."""
        first = self.backbone.pooling == "cls"
        return tokens[:, 0] if first else ops.mean(tokens[:, self._parts.prefix :], axis=1)

    def _targets(self, scores, center, weights=None):
        """Assignments by the teacher's scores `(..., K)`, of the shape of `scores`."""
        temperature = self_distillation.teacher_temperature(self)
        if self.centering == "mean":
            return losses.dino_targets(scores, getattr(self, center), temperature)
        shape, width = ops.shape(scores), scores.shape[-1]
        scores = distribute.all_gather(ops.reshape(scores, (-1, width)))
        if weights is not None:
            weights = distribute.all_gather(ops.reshape(weights, (-1,)))
        codes = sinkhorn(scores, temperature, weights=weights)
        return ops.reshape(ops.stop_gradient(distribute.local_rows(codes)), shape)

    def _move_centers(self, mean, patch_mean):
        kept = self.center_momentum
        self.center.assign(kept * self.center + (1 - kept) * mean)
        self.patch_center.assign(kept * self.patch_center + (1 - kept) * patch_mean)

    def _student_head(self):
        """Projectors, and prototypes, of images and of patches."""
        own = self_distillation.frozen_at_first(self, self.prototypes)
        if self.shared_head:
            return (self.projector, self.projector), (own, own)
        patches = self_distillation.frozen_at_first(self, self.patch_prototypes)
        return (self.projector, self.patch_projector), (own, patches)

    def _teacher_head(self):
        projector, prototypes = self.teacher_projector, self.teacher_prototypes
        if self.shared_head:
            return (projector, projector), (prototypes, prototypes)
        patches = self.teacher_patch_projector, self.teacher_patch_prototypes
        return (projector, patches[0]), (prototypes, patches[1])

    def _make_prototypes(self, prefix):
        """The student's and the teacher's, equal."""
        names = f"{prefix}prototypes", f"teacher_{prefix}prototypes"
        width = self.projector.output_shape[-1]
        own = self_distillation.add_prototypes(self, names[0], width)
        teacher = self_distillation.add_prototypes(self, names[1], width, trainable=False)
        teacher.assign(own)
        return own, teacher

    def _check(self):
        self_distillation.check(self)
        self_distillation.check_not_negative(self, "patch_weight", "koleo_weight", "gram_weight")
        self_distillation.check_shares(self, "masked_views")
        if self.centering not in CENTERINGS:
            raise ValueError(
                f"`centering` must be one of {CENTERINGS}. Received: centering={self.centering!r}."
            )
        low, high = self.min_mask_rate, self.max_mask_rate
        if not 0 <= low <= high < 1 or high == 0:
            raise ValueError(
                "`min_mask_rate` and `max_mask_rate` must be 0 <= min <= max, 0 < max < 1. "
                f"Received: min_mask_rate={low}, max_mask_rate={high}. iBOT has 0.1 and 0.5."
            )


def _embeddings(vectors, patches, projectors, training):
    """Unit vectors of images `(n, d)` and of patches `(m, M, d)`; one batch of a shared head."""
    images, rows = ops.shape(vectors)[0], ops.reshape(patches, (-1, patches.shape[-1]))
    projector, patch_projector = projectors
    if projector is patch_projector:
        z = projector(ops.concatenate([vectors, rows]), training=training)
        z, rows = z[:images], z[images:]
    else:
        z, rows = projector(vectors, training=training), patch_projector(rows, training=training)
    rows = ops.reshape(rows, (-1, patches.shape[1], rows.shape[-1]))
    return l2_normalize(z), l2_normalize(rows)


def _renewed(network, name):
    """A network of the same layers with new weights."""
    copy = keras.models.clone_model(network)
    copy.name = name
    return copy
