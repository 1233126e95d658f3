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
        (
            "rose, then fell",
            {"features_std": [0.2, 0.5, 0.9, 0.15]},
            FRESH,
            "collapsed",
            "has been",
        ),
        ("no reference", {"features_std": [0.08]}, None, "warning", "lie close"),
        ("nothing learnt", {"features_std": [0.08] * 4}, FRESH, "warning", "lie close"),
        ("line", {"features_effective_rank": [1.2]}, SOUND, "dimensional collapse", "directions"),
        ("rank halves", {"features_rankme": [60.0, 60.0, 25.0]}, SOUND, "warning", "RankMe fell"),
        (
            "rank shrinks",
            {"features_effective_rank": [99.0, 14.0]},
            SOUND,
            "warning",
            "effective rank",
        ),
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


def test_first_epochs_of_a_sound_run():
    """Measured: SimCLR, ResNet-18, 512 photographs, its projector; the loss falls throughout."""
    names = ("std", "rankme", "effective_rank", "uniformity", "dead", "max_rank", "loss")
    start, *epochs = (
        {name if name == "loss" else f"embedding_{name}": value for name, value in zip(names, row)}
        for row in (
            (0.089, 11.036, 83.731, -0.033, 0.0, 127.0),
            (0.263, 4.686, 11.827, -0.278, 0.0, 127.0, 4.504),
            (0.139, 2.870, 11.380, -0.088, 0.0, 127.0, 4.367),
            (0.339, 6.137, 13.686, -0.437, 0.0, 127.0, 4.289),
            (0.637, 8.459, 13.213, -1.143, 0.0, 127.0, 4.264),
        )
    )
    for count in range(1, 5):
        assert diagnose(epochs[:count], start).status == "healthy"


def test_course_of_a_real_collapse():
    """Measured: two views drawn together with nothing to push apart, and its projector."""
    start = {"embedding_std": 0.278, "embedding_rankme": 17.2, "embedding_uniformity": -0.31}
    course = [(0.67, 8.8, -0.88), (0.85, 7.9, -1.34), (0.81, 6.2, -1.03), (0.49, 7.2, -0.41)]
    course += [(0.23, 7.1, -0.13), (0.11, 5.1, -0.05)]
    epochs = [
        {"embedding_std": a, "embedding_rankme": b, "embedding_uniformity": c} for a, b, c in course
    ]
    statuses = [diagnose(epochs[: i + 1], start).status for i in range(6)]
    assert statuses == ["healthy"] * 3 + ["warning"] * 2 + ["collapsed"]


def course(rows):
    """Epochs by the projector's std*sqrt(D), RankMe, effective rank and uniformity."""
    names = ("std", "rankme", "effective_rank", "uniformity")
    return [
        {"loss": -0.1 * epoch, "embedding_max_rank": 32.0}
        | {f"embedding_{name}": value for name, value in zip(names, row)}
        for epoch, row in enumerate(rows)
    ]


def test_collapse_behind_batch_normalisation():
    """Measured: SimSiam with and without stop-gradient, equal weights and views at the start.

    The projector ends in batch normalisation: a few images far from the rest keep std up.
    """
    start = course([(0.192, 4.37, 10.8, -0.155)])[0]
    spoilt = [(0.881, 5.75, 5.82, -1.05), (0.67, 5.41, 6.48, -0.574), (0.349, 4.52, 8.19, -0.194)]
    spoilt += [(0.481, 2.6, 2.35, -0.143), (0.473, 1.63, 2.15, -0.132), (0.485, 1.41, 2.1, -0.132)]
    sound = [(0.728, 5.95, 6.37, -1.18), (0.916, 7.04, 7.06, -1.81), (0.833, 6.53, 6.88, -1.56)]
    sound += [(0.984, 6.53, 6.38, -1.87), (0.993, 6.48, 6.41, -1.89), (0.992, 7.19, 7.12, -1.9)]
    verdict = diagnose(course(spoilt), start)
    assert verdict.status == "collapsed" and "Most images map to nearly one" in verdict.message
    assert diagnose(course(spoilt[:3]), start).status == "warning"
    for epochs in range(1, 7):
        assert diagnose(course(sound[:epochs]), start).status == "healthy"


def test_collapse_from_the_first_epoch_is_told_from_a_narrow_cloud():
    """Measured: SimSiam without stop-gradient on CIFAR-10, and InfoMin, slow to leave its start."""
    start = course([(0.125, 37.2, 208.0, -0.065)])[0]
    spoilt = [(0.202, 4.91, 32.5, -0.036), (0.589, 3.96, 6.45, -0.223), (0.507, 4.16, 8.24, -0.17)]
    spoilt += [(0.48, 2.38, 4.18, -0.128), (0.346, 2.6, 6.87, -0.069), (0.218, 3.27, 19.0, -0.03)]
    for epochs in (5, 6):
        verdict = diagnose(course(spoilt[:epochs]), start)
        assert verdict.status == "collapsed" and "Most images map" in verdict.message
    narrow = [(0.124, 4.77, 27.2, -0.076), (0.163, 3.57, 11.7, -0.128), (0.197, 3.31, 7.9, -0.184)]
    narrow += [(0.194, 3.15, 7.11, -0.174), (0.212, 3.15, 6.32, -0.2), (0.207, 3.04, 6.01, -0.194)]
    for epochs in range(1, 7):
        assert diagnose(course(narrow[:epochs]), start).severity <= 1


def test_features_in_a_cone_are_no_collapse():
    """Methods that compare nothing may use one common direction; of the projector it is said."""
    series = {"uniformity": [-0.9, -0.12, -0.12, -0.12], "std": [0.5, 0.3, 0.3, 0.3]}
    features = rows(**{f"features_{name}": values for name, values in series.items()})
    assert diagnose(features, SOUND).status == "warning"
    embedding = [
        {name.replace("features", "embedding"): v for name, v in r.items()} for r in features
    ]
    assert diagnose(embedding).status == "collapsed"


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
