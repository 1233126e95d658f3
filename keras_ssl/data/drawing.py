"""`shapes`: drawn images whose class is the shape, and nothing else."""

import numpy as np

from keras_ssl.data.arrays import from_array
from keras_ssl.data.indexed import IndexedSource

CLASS_NAMES = (
    "disk",
    "ring",
    "square",
    "frame",
    "triangle",
    "star",
    "cross",
    "crescent",
    "bar",
    "chevron",
)
_PARAMETERS = 40  # uniform numbers an image, besides those of its colours
_COPIES = 4  # of the shape in an image, so that most crops show one
_CHUNK_PIXELS = 2**21


def shapes(
    size: int = 5000,
    image_size: int | tuple[int, int] = 32,
    seed: int = 0,
    channels: int = 3,
    first: int = 0,
) -> IndexedSource:
    """Source of drawn images of ten shapes, which are their labels.

    Each image shows four copies of one shape. Colours, place, scale, rotation, stripes,
    background and noise vary, so that neither pixels nor mean colour tell the shape. Image i is a
    function of (seed, first + i): the same numbers at another size give the same scene.

    Args:
        size: number of images.
        image_size: pixels, one number or (height, width).
        seed: whole number >= 0.
        channels: 3; 1 for grey; or any number.
        first: number of the first image.

    Raises:
        ValueError: if an argument is out of range.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if min(height, width) < 8 or channels < 1 or seed < 0 or first < 0:
        raise ValueError(
            "`image_size` must be >= 8, `channels` >= 1, `seed` and `first` >= 0. Received: "
            f"image_size={image_size}, channels={channels}, seed={seed}, first={first}."
        )
    images, labels = draw(np.arange(first, first + size), (height, width), seed, channels)
    source = from_array(images, labels, name="shapes")
    source.class_names = list(CLASS_NAMES)
    return source


def draw(
    numbers: np.ndarray, image_size: tuple[int, int], seed: int, channels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Images (uint8) and labels (int64) of the given numbers."""
    height, width = image_size
    images = np.empty((len(numbers), height, width, channels), np.uint8)
    labels = np.empty(len(numbers), np.int64)
    step = max(1, _CHUNK_PIXELS // (height * width))
    for start in range(0, len(numbers), step):
        part = slice(start, start + step)
        images[part], labels[part] = _draw_chunk(numbers[part], image_size, seed, channels)
    return images, labels


def _draw_chunk(numbers, image_size, seed, channels):
    height, width = image_size
    generators = [np.random.default_rng((seed, int(number))) for number in numbers]
    draws = np.array([rng.random(_PARAMETERS, np.float32) for rng in generators])
    colours = np.array([rng.random((4 + _COPIES, channels), np.float32) for rng in generators])
    noise = np.array(
        [rng.integers(-128, 128, (height, width), np.int8) for rng in generators], np.float32
    )
    # The order of these draws is the data set: a new one goes to the end, or every image changes.
    p = iter(draws.T[:, :, None, None])
    labels = (next(p)[:, 0, 0] * len(CLASS_NAMES)).astype(np.int64)
    shorter = min(height, width)
    y = ((np.arange(height, dtype=np.float32) + 0.5) - height / 2)[None, :, None] / shorter
    x = ((np.arange(width, dtype=np.float32) + 0.5) - width / 2)[None, None, :] / shorter
    ground = 0.35 + 0.3 * colours[:, :4]
    image = _texture(x, y, p, ground)
    for copy in range(_COPIES):
        radius = 0.1 + 0.18 * next(p)
        column, row = copy % 2 - 0.5, copy // 2 - 0.5  # each in its quarter, more or less
        left = 0.5 * column + 0.3 * (next(p) - 0.5)
        top = 0.5 * row + 0.3 * (next(p) - 0.5)
        u, v = _turned(x - left, y - top, next(p))
        distance = _distances(u / radius, v / radius, labels) * radius * shorter  # pixels
        mask = np.clip(0.5 - distance, 0, 1)[..., None]
        image += mask * (_apart(colours[:, 4 + copy], ground)[:, None, None] - image)
    image += (noise / 128 * 0.06 * next(p))[..., None]
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8), labels


def _turned(x, y, turn):
    """Coordinates turned by `turn` full turns."""
    angle = 2 * np.pi * turn
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _texture(x, y, p, corners):
    """A colour for each corner, blended between them, and faint stripes of a random direction."""
    right, low = np.clip(x + 0.5, 0, 1)[..., None], np.clip(y + 0.5, 0, 1)[..., None]
    corner = iter(corners.transpose(1, 0, 2)[:, :, None, None])
    upper = next(corner) * (1 - right) + next(corner) * right
    lower = next(corner) * (1 - right) + next(corner) * right
    across, _ = _turned(x, y, next(p))
    stripes = np.sin(2 * np.pi * (across * (2 + 6 * next(p)) + next(p)))
    return upper * (1 - low) + lower * low + 0.06 * (next(p) * stripes)[..., None]


def _apart(figure, ground):
    """A light or dark colour with a tint, well apart from the ground."""
    light = figure[:, :1] > 0.5
    return np.where(light, 0.75, 0.05) + 0.2 * figure


def _distances(u, v, labels):
    """Nearly the signed distance to each image's shape, negative inside, in radii."""
    result = np.empty(np.broadcast_shapes(u.shape, v.shape), np.float32)
    for number, name in enumerate(CLASS_NAMES):
        chosen = labels == number
        result[chosen] = _SHAPES[name](u[chosen], v[chosen])
    return result


def _box(u, v, half_width, half_height):
    return np.maximum(np.abs(u) - half_width, np.abs(v) - half_height)


def _disk(u, v, radius=1.0):
    return np.hypot(u, v) - radius


def _triangle(u, v):
    return np.maximum(np.abs(u) * 0.866 + v * 0.5, -v) - 0.5


def _star(u, v):
    """Five points: the angle folded into a tenth of a turn, and one straight edge there."""
    angle = np.abs(np.mod(np.arctan2(v, u), 2 * np.pi / 5) - np.pi / 5)
    a, b = np.hypot(u, v) * np.cos(angle), np.hypot(u, v) * np.sin(angle)
    inner, tip = 0.42, np.array([np.cos(np.pi / 5), np.sin(np.pi / 5)])
    normal = np.array([tip[1], inner - tip[0]]) / np.hypot(tip[1], inner - tip[0])
    return (a - inner) * normal[0] + b * normal[1]


_SHAPES = {
    "disk": lambda u, v: _disk(u, v, 0.9),
    "ring": lambda u, v: np.abs(_disk(u, v, 0.75)) - 0.22,
    "square": lambda u, v: _box(u, v, 0.75, 0.75),
    "frame": lambda u, v: np.abs(_box(u, v, 0.65, 0.65)) - 0.18,
    "triangle": _triangle,
    "star": _star,
    "cross": lambda u, v: np.minimum(_box(u, v, 0.95, 0.27), _box(u, v, 0.27, 0.95)),
    "crescent": lambda u, v: np.maximum(_disk(u, v, 0.95), -_disk(u - 0.5, v, 0.75)),
    "bar": lambda u, v: _box(u, v, 1.0, 0.25),
    "chevron": lambda u, v: np.minimum(
        _box(u - 0.1, v + 0.55, 0.8, 0.25), _box(u + 0.45, v - 0.05, 0.25, 0.8)
    ),
}
