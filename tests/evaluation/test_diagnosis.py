"""The verdict, on rows of figures and on encoders that are known to be sound or collapsed."""

import keras
import numpy as np
import pytest
from PIL import Image

from keras_ssl.evaluation import collapse_figures, diagnose, extract

RNG = np.random.default_rng(0)
SOUND = {
    "features_std": 0.5,
    "features_rankme": 60.0,
    "features_effective_rank": 100.0,
    "features_uniformity": -0.9,
    "features_dead": 0.0,
    "features_max_rank": 511.0,
}
# A fresh ResNet-18 on photographs: it would set off the usual alarms.
FRESH = SOUND | {"features_std": 0.09, "features_rankme": 43.0, "features_uniformity": -0.04}


def rows(**series):
    length = len(next(iter(series.values())))
    return [SOUND | {name: values[i] for name, values in series.items()} for i in range(length)]


def test_sound_run_is_healthy():
    verdict = diagnose(rows(loss=[5.0, 4.5, 4.2], features_std=[0.4, 0.5, 0.55]), FRESH)
    assert verdict.status == "healthy" and verdict.severity == 0
    assert "No sign of collapse" in verdict.message


def test_fresh_deep_network_is_no_alarm():
    slightly_less = [FRESH | {"features_std": 0.08, "loss": 5.0}]
    assert diagnose(slightly_less, FRESH).status == "healthy"


@pytest.mark.parametrize(
    "name, series, untrained, status, word",
    [
        ("point", {"features_std": [0.4, 0.004]}, SOUND, "collapsed", "one point"),
        ("point at once", {"features_std": [1e-4]}, None, "collapsed", "one point"),
        ("below a fresh one", {"features_std": [0.03]}, FRESH, "collapsed", "one point"),
        ("rose, then fell", {"features_std": [0.2, 0.9, 0.15]}, FRESH, "collapsed", "has been"),
        ("no reference", {"features_std": [0.08]}, None, "warning", "lie close"),
        ("nothing learnt", {"features_std": [0.08] * 4}, FRESH, "warning", "lie close"),
        ("line", {"features_effective_rank": [1.2]}, SOUND, "dimensional collapse", "directions"),
        ("rank halves", {"features_rankme": [60.0, 25.0]}, SOUND, "warning", "RankMe fell"),
        ("rank shrinks", {"features_effective_rank": [14.0]}, SOUND, "warning", "effective rank"),
        ("half dead", {"features_dead": [0.5]}, SOUND, "dimensional collapse", "50 %"),
        ("some dead", {"features_dead": [0.3]}, SOUND, "warning", "30 %"),
        ("cone", {"features_uniformity": [-0.9, -0.3]}, SOUND, "warning", "draw together"),
        ("NaN", {"features_std": [0.5, float("nan")]}, SOUND, "diverged", "NaN"),
        ("NaN loss", {"loss": [5.0, float("nan")]}, SOUND, "diverged", "The loss is nan"),
        ("still", {"loss": [5.545] * 3}, SOUND, "warning", "has stood at 5.545"),
    ],
)
def test_every_finding(name, series, untrained, status, word):
    verdict = diagnose(rows(**series), untrained)
    assert verdict.status == status
    assert word in verdict.message
    assert "likely cause" in verdict.message.lower()
    assert verdict.message.count(". ") >= 2  # what is seen, the cause, the next step


def test_flat_end_of_a_schedule_is_no_alarm():
    assert diagnose(rows(loss=[5.0, 4.0, 3.001, 3.0, 3.0, 3.0]), SOUND).status == "healthy"


def test_first_epoch_may_lower_rankme_below_the_untrained():
    """Seen in sound SimCLR runs: the projector's RankMe fell from 17 to 7 and came back."""
    assert diagnose(rows(features_rankme=[25.0, 30.0]), SOUND).status == "healthy"


def test_the_gravest_finding_wins_and_the_projector_speaks_first():
    embedding = {name.replace("features", "embedding"): value for name, value in SOUND.items()}
    row = SOUND | embedding | {"features_dead": 0.3, "embedding_std": 1e-5}
    assert "projector" in diagnose([row]).message
    both = SOUND | embedding | {"features_std": 1e-5, "embedding_std": 1e-5}
    assert "projector" in diagnose([both]).message
    assert "backbone" in diagnose([SOUND | embedding | {"features_std": 1e-5}]).message


def test_empty_history():
    with pytest.raises(ValueError, match="at least one row"):
        diagnose([])


@pytest.fixture(scope="module")
def photographs(real_data):
    files = sorted((real_data / "tiny_imagenet" / "val").glob("*/*.JPEG"))[::8][:256]
    images = [np.asarray(Image.open(f).convert("RGB").resize((32, 32))) for f in files]
    return np.stack(images).astype(np.float32) / 255


def network(batch_norm, blocks, initializer, seed):
    keras.utils.set_random_seed(seed)
    x = inputs = keras.Input((32, 32, 3))
    for block in range(blocks):
        x = keras.layers.Conv2D(
            16 * 2**block, 3, strides=2, padding="same", kernel_initializer=initializer
        )(x)
        if batch_norm:
            x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU()(x)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    return lambda images: model(images, training=False)


NETWORKS = [(True, 4, "he_normal"), (False, 4, "glorot_uniform"), (False, 2, "he_normal")]


@pytest.mark.parametrize("batch_norm, blocks, initializer", NETWORKS)
def test_untrained_networks_on_photographs_are_not_called_collapsed(
    photographs, batch_norm, blocks, initializer
):
    for seed in range(3):
        z = extract(network(batch_norm, blocks, initializer, seed), photographs)
        figures = collapse_figures(z)
        assert diagnose([figures]).severity <= 1
        assert diagnose([figures], figures).status == "healthy"


def _constant(z):
    return np.tile(z[:1], (len(z), 1)) + 1e-5 * RNG.normal(size=z.shape)


def _rank_one(z):
    return z.mean(axis=0) + np.outer(RNG.normal(size=len(z)), z.std(axis=0))


def _rank_one_from_zero(z):
    return np.outer(np.abs(RNG.normal(size=len(z))), z[0])


def _half_dead(z):
    return z * (np.arange(z.shape[1]) % 2)


@pytest.mark.parametrize(
    "spoil, statuses",
    [
        (_constant, {"collapsed"}),
        (_rank_one, {"dimensional collapse", "collapsed"}),
        (_rank_one_from_zero, {"collapsed"}),
        (_half_dead, {"dimensional collapse"}),
        (lambda z: z * np.nan, {"diverged"}),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_collapsed_encoders_on_photographs_are_found(photographs, spoil, statuses, known):
    z = extract(network(True, 4, "he_normal", 0), photographs)
    sound = collapse_figures(z)
    verdict = diagnose([collapse_figures(spoil(z))], sound if known else None)
    assert verdict.status in statuses
