"""Small cases of every exported method, and batches as their own views make them.

The first word of a case's name is the method; further ones tell variants apart. Each method has one
case of the quick tests at least; most variants are slow ones.
"""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from toys import Clusters, OwnNetwork, TwoPlayers, images, tiny_backbone

import keras_ssl
from keras_ssl import backbones, data
from keras_ssl.layers import heads
from keras_ssl.layers.decoders import conv_decoder
from keras_ssl.layers.discriminators import pair_discriminator
from keras_ssl.methods.ijepa import ijepa_predictor
from keras_ssl.methods.mae import mae_decoder
from recipes.simsiam_variants import AlternatingSimSiam

SHAPE, BATCH, COUNT = (8, 8, 3), 16, 48


@dataclasses.dataclass(frozen=True)
class Case:
    """How to make a small model of a method, and a learning rate at which SGD trains it.

    Methods with state of each image keep it for COUNT images, which is what all are trained on.
    `cls` is the class of methods that the package does not export: those of recipes, and toys,
    which stand for methods to come and whose names begin with "Toy".
    """

    make: Callable
    rate: float = 0.1
    slow: bool = False
    cls: type | None = None


def tiny_transformer(grid=2):
    """A transformer of one block on `grid`^2 patches, that starts as MoCo v3's; 8 features."""
    start = {"positions": "sincos", "initializer": "glorot_uniform", "frozen_patches": True}
    return backbones.vit(8, 1, 2, SHAPE, SHAPE[0] // grid, pooling="avg", **start)


def tiny_decoder():
    """The decoder of MAE for `tiny_transformer`, half of whose patches are seen."""
    return mae_decoder((2, 2), 8, 2, 48, decoder_width=8, depth=1, heads=2)


def head(output_norm, width=8, name="projector"):
    """A projector, or with width 16 a predictor, of two layers that costs little."""
    start = {"output_norm": output_norm, "kernel_initializer": "lecun_normal"}
    return heads.mlp(width, (32, 16), name=name, **start)


def frozen(shape=SHAPE):
    """A teacher of six features."""
    return tiny_backbone(shape, width=6, name="large")


def bigan():
    """BiGAN with small networks."""
    return keras_ssl.BiGAN(
        tiny_backbone(),
        generator=conv_decoder(6, SHAPE, widths=(16, 8), activation="sigmoid", name="generator"),
        discriminator=pair_discriminator(SHAPE, 6, widths=(8,), hidden=16),
        latent_dim=6,
    )


CASES = {
    "Autoencoder": Case(lambda: keras_ssl.Autoencoder(tiny_backbone(), latent_dim=6), rate=1e-4),
    "Auxiliary": Case(lambda: keras_ssl.Auxiliary(4, keras_ssl.RotNet(tiny_backbone()))),
    "Auxiliary with a teacher": Case(
        lambda: keras_ssl.Auxiliary(
            4,
            keras_ssl.BYOL(tiny_backbone(), head(None), head(None, 16, "predictor"), momentum=0.9),
            weight=(1.0, 0.5),
        ),
        rate=0.02,
        slow=True,
    ),
    "BarlowTwins": Case(lambda: keras_ssl.BarlowTwins(tiny_backbone(), head(None)), rate=0.03),
    "BiGAN": Case(bigan, rate=0.03),
    "BoWNet": Case(lambda: keras_ssl.BoWNet(tiny_backbone(), num_words=12), rate=0.1),
    "BoWNet of two generations": Case(
        lambda: keras_ssl.BoWNet(tiny_backbone(), num_words=12, bag="presence", generations=2),
        rate=0.1,
        slow=True,
    ),
    "BoWNet with a teacher": Case(
        lambda: keras_ssl.BoWNet(tiny_backbone(), frozen((12, 12, 3)), num_words=12),
        rate=0.1,
        slow=True,
    ),
    "BYOL": Case(
        lambda: keras_ssl.BYOL(
            tiny_backbone(), head(None), head(None, 16, "predictor"), momentum=0.9
        ),
        rate=0.02,
    ),
    "CMC": Case(
        lambda: keras_ssl.CMC(tiny_backbone(), COUNT, temperature=0.3, num_negatives=16), rate=0.03
    ),
    "CMC core": Case(
        lambda: keras_ssl.CMC(
            backbones.channel_towers(tiny_backbone(), ((0,), (1,), (2,)), "ydbdr"),
            COUNT,
            graph="core",
            temperature=0.3,
        ),
        rate=0.01,
        slow=True,
    ),
    "DCL": Case(lambda: keras_ssl.DCL(tiny_backbone(), temperature=0.2)),
    "DeepCluster": Case(
        lambda: keras_ssl.DeepCluster(tiny_backbone(), COUNT, num_clusters=5), rate=0.3
    ),
    # Each image is a cluster: those of noise, found anew for each step, cannot be learned.
    "DeepClusterV2": Case(
        lambda: keras_ssl.DeepClusterV2(
            tiny_backbone(), COUNT, head(None), num_prototypes=COUNT, temperature=0.1
        ),
        rate=0.01,
    ),
    "DenoisingAutoencoder": Case(
        lambda: keras_ssl.DenoisingAutoencoder(tiny_backbone(), latent_dim=6), rate=1e-4
    ),
    "DenoisingAutoencoder with Gaussian noise": Case(
        lambda: keras_ssl.DenoisingAutoencoder(
            tiny_backbone(), latent_dim=6, corruption="gaussian", error="cross_entropy"
        ),
        rate=1e-4,
        slow=True,
    ),
    "DINO": Case(
        lambda: keras_ssl.DINO(
            tiny_backbone(), head(None), num_prototypes=20, momentum=0.9, freeze_epochs=1 / 3
        ),
        rate=0.03,
    ),
    "DINO transformer": Case(
        lambda: keras_ssl.DINO(
            backbones.vit(8, 2, 2, SHAPE, pooling="avg", drop_path=0.5, layer_scale=0.5),
            head(None),
            num_prototypes=20,
            first_teacher_temperature=0.1,
            temperature_epochs=2,
            freeze_epochs=0,
        ),
        rate=0.01,
        slow=True,
    ),
    "FeatureDistillation": Case(
        lambda: keras_ssl.FeatureDistillation(
            tiny_backbone(), frozen(), teacher_temperature=0.1, queue_size=40
        ),
        rate=0.03,
    ),
    "FeatureDistillation by a queue": Case(
        lambda: keras_ssl.FeatureDistillation(
            tiny_backbone(), frozen(), objective="queue", temperature=0.2, queue_size=40
        ),
        rate=0.03,
        slow=True,
    ),
    "FeatureDistillation larger images": Case(
        lambda: keras_ssl.FeatureDistillation(
            tiny_backbone(), frozen((12, 12, 3)), objective="cosine"
        ),
        rate=0.03,
        slow=True,
    ),
    "Glow": Case(lambda: keras_ssl.Glow(SHAPE, num_levels=2, num_steps=1, width=8), rate=1e-4),
    "IBOT": Case(
        lambda: keras_ssl.IBOT(
            tiny_transformer(4), head(None), num_prototypes=20, momentum=0.9, freeze_epochs=1 / 3
        ),
        rate=0.03,
    ),
    "IBOT with DINOv2's and DINOv3's terms": Case(
        lambda: keras_ssl.IBOT(
            tiny_transformer(4),
            head(None),
            num_prototypes=20,
            shared_head=False,
            centering="sinkhorn",
            koleo_weight=0.1,
            gram_weight=1.0,
            masked_views=1.0,
            momentum=0.9,
            freeze_epochs=0,
        ),
        rate=0.03,
        slow=True,
    ),
    "IJEPA": Case(
        lambda: keras_ssl.IJEPA(
            tiny_transformer(4),
            ijepa_predictor((4, 4), 8, 4, 4, 8, 1, 2),
            num_targets=3,
            momentum=0.9,
        )
    ),
    "ImageGPT": Case(lambda: keras_ssl.ImageGPT(SHAPE, 16, width=16, depth=2, heads=2), rate=0.03),
    "ImageGPT of hidden tokens": Case(
        lambda: keras_ssl.ImageGPT(
            SHAPE, 16, width=16, depth=2, heads=2, objective="bert", mask_rate=0.8
        ),
        slow=True,
    ),
    "InfoMin": Case(
        lambda: keras_ssl.InfoMin(
            tiny_backbone(), queue_size=40, momentum=0.9, temperature=0.5, groups=2
        )
    ),
    "InstDisc": Case(
        lambda: keras_ssl.InstDisc(tiny_backbone(), COUNT, temperature=0.5, num_negatives=16),
        rate=0.1,
    ),
    "LeJEPA": Case(
        lambda: keras_ssl.LeJEPA(tiny_backbone(), head(None), 0.1, num_slices=64, num_points=9),
        rate=0.03,
    ),
    "LeJEPA of eb_jepa": Case(
        lambda: keras_ssl.LeJEPA(
            tiny_backbone(),
            head(None),
            10.0,
            4.0,
            num_slices=64,
            num_points=10,
            scale_by_batch=False,
        ),
        rate=0.01,
        slow=True,
    ),
    "MAE": Case(lambda: keras_ssl.MAE(tiny_transformer(), tiny_decoder(), mask_rate=0.5)),
    "MAE of plain pixels": Case(
        lambda: keras_ssl.MAE(tiny_transformer(), mask_rate=0.5, normalize_pixels=False), slow=True
    ),
    "MoCo": Case(lambda: keras_ssl.MoCo(tiny_backbone(), queue_size=40, momentum=0.9, groups=8)),
    "MoCo v1": Case(
        lambda: keras_ssl.MoCo(tiny_backbone(), version=1, queue_size=40, momentum=0.9, groups=8),
        slow=True,
    ),
    "MoCoV3": Case(
        lambda: keras_ssl.MoCoV3(
            tiny_backbone(),
            head("plain"),
            head(None, 16, "predictor"),
            momentum=0.9,
        )
    ),
    "MoCoV3 transformer": Case(
        lambda: keras_ssl.MoCoV3(
            tiny_transformer(),
            head("plain"),
            head("plain", 16, "predictor"),
            momentum=0.9,
        ),
        rate=0.003,
        slow=True,
    ),
    "NICE": Case(lambda: keras_ssl.NICE(SHAPE, width=16, depth=1), rate=1e-4),
    "NICE whitened": Case(
        lambda: keras_ssl.NICE(SHAPE, width=16, depth=1, whitening=True), rate=1e-5, slow=True
    ),
    "NNCLR": Case(
        lambda: keras_ssl.NNCLR(
            tiny_backbone(), head("scale"), head(None, 16, "predictor"), queue_size=40
        ),
        rate=0.003,
    ),
    "OBoW": Case(
        lambda: keras_ssl.OBoW(tiny_backbone(), num_words=40, momentum=0.9, scale=2.0), rate=0.1
    ),
    "OBoW of two levels": Case(
        lambda: keras_ssl.OBoW(
            backbones.small_conv(SHAPE, widths=(6, 8)), num_words=40, levels=2, momentum=0.9
        ),
        rate=0.03,
        slow=True,
    ),
    "PIRL": Case(
        lambda: keras_ssl.PIRL(tiny_backbone(), COUNT, temperature=0.5, num_negatives=16), rate=0.03
    ),
    "PIRL rotation": Case(
        lambda: keras_ssl.PIRL(tiny_backbone(), COUNT, transform="rotation", temperature=0.5),
        rate=0.03,
        slow=True,
    ),
    "PixelCNN": Case(lambda: keras_ssl.PixelCNN(SHAPE, width=6, depth=1, hidden=6), rate=1e-4),
    "PixelCNN without gates": Case(
        lambda: keras_ssl.PixelCNN(SHAPE, width=12, depth=2, hidden=12, gated=False),
        rate=1e-4,
        slow=True,
    ),
    "PixelCNNPP": Case(
        lambda: keras_ssl.PixelCNNPP(SHAPE, width=4, levels=1, components=2), rate=1e-5
    ),
    "PixelCNNPP with dropout": Case(
        lambda: keras_ssl.PixelCNNPP(SHAPE, width=4, levels=2, components=2, dropout=0.5),
        rate=1e-5,
        slow=True,
    ),
    "PixelRNN": Case(lambda: keras_ssl.PixelRNN(SHAPE, units=6, depth=1, hidden=12), rate=1e-4),
    "PixelRNN by rows": Case(
        lambda: keras_ssl.PixelRNN(SHAPE, lstm="row", units=6, depth=1, hidden=12),
        rate=1e-4,
        slow=True,
    ),
    "RealNVP": Case(lambda: keras_ssl.RealNVP(SHAPE, num_scales=1, width=4), rate=1e-4),
    "RealNVP of two scales": Case(lambda: keras_ssl.RealNVP(SHAPE, width=4), rate=1e-4, slow=True),
    "RotNet": Case(lambda: keras_ssl.RotNet(tiny_backbone())),
    "SimCLR": Case(lambda: keras_ssl.SimCLR(tiny_backbone())),
    "SimCLR v2": Case(lambda: keras_ssl.SimCLR(tiny_backbone(), version=2), rate=0.01, slow=True),
    "SimDINO": Case(
        lambda: keras_ssl.SimDINO(tiny_backbone(), head(None), momentum=0.9), rate=0.03
    ),
    "SimMIM": Case(lambda: keras_ssl.SimMIM(tiny_transformer(), mask_rate=0.5, mask_unit=4)),
    "SimSiam": Case(lambda: keras_ssl.SimSiam(tiny_backbone(), head("plain")), rate=0.01),
    "SimSiam averaged": Case(
        lambda: AlternatingSimSiam(
            tiny_backbone(),
            head("plain"),
            use_predictor=False,
            target_momentum=0.8,
            num_images=COUNT,
        ),
        rate=0.003,
        slow=True,
        cls=AlternatingSimSiam,
    ),
    "SimSiam stored": Case(
        lambda: AlternatingSimSiam(tiny_backbone(), head("plain"), target_steps=2),
        rate=0.01,
        slow=True,
        cls=AlternatingSimSiam,
    ),
    "SupCon": Case(lambda: keras_ssl.SupCon(tiny_backbone()), rate=0.005),
    "SwAV": Case(
        lambda: keras_ssl.SwAV(tiny_backbone(), head(None), num_prototypes=20, freeze_epochs=1 / 3),
        rate=0.03,
    ),
    "Toy with clusters": Case(lambda: Clusters(tiny_backbone(), COUNT), cls=Clusters),
    "Toy with a network": Case(lambda: OwnNetwork(SHAPE), cls=OwnNetwork),
    "Toy with players": Case(lambda: TwoPlayers(tiny_backbone()), rate=0.02, cls=TwoPlayers),
    "VAE": Case(lambda: keras_ssl.VAE(tiny_backbone(), latent_dim=6), rate=1e-5),
    "VICReg": Case(lambda: keras_ssl.VICReg(tiny_backbone(), head(None)), rate=0.002),
    "VISReg": Case(lambda: keras_ssl.VISReg(tiny_backbone(), head(None), num_slices=64), rate=0.03),
    "WMSE": Case(
        lambda: keras_ssl.WMSE(
            tiny_backbone(),
            keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)]),
            slice_size=8,
        ),
        rate=0.03,
    ),
}


def method_class(case):
    """The class of a case's method."""
    return CASES[case].cls or getattr(keras_ssl, case.split()[0])


def fresh(case, optimizer=None):
    """The model of a case, compiled; always with the same weights."""
    keras.utils.set_random_seed(1)
    model = CASES[case].make()
    model.compile(optimizer or keras.optimizers.SGD(CASES[case].rate, momentum=0.9))
    return model


def source(seed=0, shape=SHAPE):
    """COUNT noise images of four classes."""
    return data.from_array(images(COUNT, shape, seed), np.arange(COUNT) % 4)


READY = {}  # three batches of each pipeline of views: tracing views costs as much as a step


def batches(model, steps=1):
    """A dataset of up to three ready batches, each image seen once."""
    views, labels = model.default_views(model.image_shape[:2]), "label" in model.batch_keys
    key = (repr(views), model.image_shape, labels)
    if key not in READY:
        images = source(shape=model.image_shape)
        stream = data.stream(images, views, BATCH, seed=0, labels=labels).take(COUNT // BATCH)
        made = list(stream.as_numpy_iterator())
        READY[key] = tf.nest.map_structure(lambda *parts: np.stack(parts), *made)
    return tf.data.Dataset.from_tensor_slices(READY[key]).take(steps)


def train(model, steps, epochs=1, callbacks=()):
    """Fit on the first `steps` batches of the images, the same ones in every epoch.

    Methods that work between epochs get the images themselves, all of them.
    """
    arguments = {"epochs": epochs, "callbacks": list(callbacks), "verbose": 0}
    if model.can("begin_epoch"):
        return model.fit(source(), batch_size=BATCH, steps_per_epoch=steps, **arguments)
    return model.fit(batches(model, steps), **arguments)
