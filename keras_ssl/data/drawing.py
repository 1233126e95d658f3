"""`shapes`: drawn images whose class is the shape that is strewn over them, and nothing else."""

import dataclasses

import numpy as np

from keras_ssl.data.arrays import from_array
from keras_ssl.data.indexed import IndexedSource

CLASS_NAMES = (
    "disk",
    "ring",
    "triangle",
    "star",
    "cross",
    "heart",
    "crescent",
    "arrow",
    "hourglass",
    "chevron",
)
_CELLS = 6  # cells a side that are drawn anew; the pattern repeats beyond them
_CHUNK_PIXELS = 2**20


def shapes(
    size: int = 5000,
    image_size: int | tuple[int, int] = 32,
    seed: int = 0,
    channels: int = 3,
    first: int = 0,
) -> IndexedSource:
    """Source of drawn images of ten shapes, which are their labels.

    An image is strewn with copies of one shape, each of its own colour, size, place and tilt, on a
    dark ground: what all parts of an image have in common is the shape, so that methods that tell
    images apart find it; pixels, mean colours and histograms do not tell it. Shapes stand upright,
    give or take a tilt. Image i is a function of (seed, first + i): the same numbers at another
    size give the same scene.

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
        scenes, noise = make_scenes(numbers[part], image_size, seed, channels)
        images[part], labels[part] = render(scenes, image_size, noise), scenes.labels
    return images, labels


@dataclasses.dataclass
class Scenes:
    """What images show, whatever their size; lengths in parts of the shorter side.

    Attributes:
        labels: the shape, (n,).
        spacing: side of a cell, of which each holds one copy, (n,).
        origin: x and y of a corner of the cells, (n, 2).
        shift: of each row of cells, in cells, (n, cells).
        turn: of the cells, in full turns, (n,).
        place: of the copy in its cell, from -1 to 1 in x and y, (n, cells, cells, 2).
        radius: of the copy, in parts of the cell, (n, cells, cells).
        tilt: of the copy, in full turns, (n, cells, cells).
        colours: of the copy, (n, cells, cells, channels).
        ground: colours of the ground at its four corners, (n, 2, 2, channels).
        grain: strength of the noise, (n,).
    """

    labels: np.ndarray
    spacing: np.ndarray
    origin: np.ndarray
    shift: np.ndarray
    turn: np.ndarray
    place: np.ndarray
    radius: np.ndarray
    tilt: np.ndarray
    colours: np.ndarray
    ground: np.ndarray
    grain: np.ndarray


def make_scenes(numbers, image_size, seed, channels):
    """The `Scenes` of the given numbers, and noise in [-1, 1) of the images' size."""
    generators = [np.random.default_rng((seed, int(number))) for number in numbers]
    # The order of these draws is the data set: a new one goes before the noise, or every image
    # changes. The noise depends on the images' size, and comes last.
    whole = np.array([rng.random(8, np.float32) for rng in generators])
    rows = np.array([rng.random(_CELLS, np.float32) for rng in generators])
    cells = np.array([rng.random((_CELLS, _CELLS, 4), np.float32) for rng in generators])
    colours = np.array([rng.random((_CELLS, _CELLS, channels), np.float32) for rng in generators])
    ground = np.array([rng.random((5, channels), np.float32) for rng in generators])
    noise = np.array([rng.integers(-128, 128, image_size, np.int8) for rng in generators])
    tilt = whole[:, 5] - 0.5
    scenes = Scenes(
        labels=(whole[:, 0] * len(CLASS_NAMES)).astype(np.int64),
        spacing=0.29 + 0.12 * whole[:, 1],
        origin=whole[:, 2:4],
        shift=rows,
        turn=whole[:, 4],
        place=2 * cells[..., :2] - 1,
        radius=0.38 + 0.06 * whole[:, 7, None, None] + 0.05 * cells[..., 2],
        tilt=0.1 * tilt[:, None, None] + 0.08 * (cells[..., 3] - 0.5),
        colours=_bright(colours),
        ground=_dark(ground),
        grain=0.05 * whole[:, 6],
    )
    return scenes, noise / np.float32(128)


def _bright(draws):
    """Colours of which one channel at least is bright."""
    span = draws.max(-1, keepdims=True) - draws.min(-1, keepdims=True)
    vivid = (draws - draws.min(-1, keepdims=True)) / np.maximum(span, 1e-6)
    if draws.shape[-1] == 1:
        return 0.55 + 0.45 * draws
    return 0.35 + 0.65 * (0.8 * vivid + 0.2 * draws)


def _dark(draws):
    base = 0.08 + 0.15 * draws[:, :1]
    return (base + 0.08 * (draws[:, 1:] - 0.5)).clip(0, 1).reshape(-1, 2, 2, draws.shape[-1])


def render(scenes: Scenes, image_size: tuple[int, int], noise: np.ndarray) -> np.ndarray:
    """Images (uint8) of `scenes`; `noise` is (n, height, width) in [-1, 1)."""
    height, width = image_size
    shorter = min(height, width)
    y = ((np.arange(height, dtype=np.float32) + 0.5) - height / 2)[None, :, None] / shorter
    x = ((np.arange(width, dtype=np.float32) + 0.5) - width / 2)[None, None, :] / shorter
    spacing = _wide(scenes.spacing)
    a, b = _turned(x, y, _wide(scenes.turn))
    a, b = a / spacing + _wide(scenes.origin[:, 0]), b / spacing + _wide(scenes.origin[:, 1])
    first = np.arange(len(a), dtype=np.int32)[:, None, None] * _CELLS
    row = np.floor(b)
    line = first + row.astype(np.int32) % _CELLS
    a += scenes.shift.ravel()[line]
    column = np.floor(a)
    cell = line * _CELLS + column.astype(np.int32) % _CELLS
    a, b = a - column - 0.5, b - row - 0.5
    radius = scenes.radius.ravel()[cell]
    slack = np.maximum(0.5 - radius, 0)
    place = scenes.place.reshape(-1, 2)
    a, b = a - slack * place[:, 0][cell], b - slack * place[:, 1][cell]
    turn = scenes.tilt - scenes.turn[:, None, None]
    cosine, sine = np.cos(2 * np.pi * turn).ravel()[cell], np.sin(2 * np.pi * turn).ravel()[cell]
    u, v = (a * cosine + b * sine) / radius, (b * cosine - a * sine) / radius
    distance = _distances(u, v, scenes.labels) * radius * spacing * shorter  # pixels
    mask = np.clip(0.5 - distance, 0, 1)[..., None]
    image = _gradient(x, y, scenes.ground)
    image += mask * (scenes.colours.reshape(-1, image.shape[-1])[cell] - image)
    image += noise[..., None] * _wide(scenes.grain)[..., None]
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _wide(values):
    return values[:, None, None]


def _turned(x, y, turn):
    """Coordinates turned by `turn` full turns."""
    angle = 2 * np.pi * turn
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _gradient(x, y, corners):
    """The colours of the corners, blended between them."""
    right, low = np.clip(x + 0.5, 0, 1)[..., None], np.clip(y + 0.5, 0, 1)[..., None]
    (a, b), (c, d) = corners[:, :, :, None, None].transpose(1, 2, 0, 3, 4, 5)
    return (a * (1 - right) + b * right) * (1 - low) + (c * (1 - right) + d * right) * low


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


def _triangle(u, v, inner=0.5):
    """Tip up; `inner` is the radius of the circle in it."""
    return np.maximum(np.abs(u) * 0.866 - v * 0.5, v) - inner


def _star(u, v, tip_radius=1.0, inner=0.45):
    """Five points: the angle folded into a tenth of a turn, and one straight edge there."""
    u, v = u / tip_radius, v / tip_radius
    angle = np.abs(np.mod(np.arctan2(u, -v), 2 * np.pi / 5) - np.pi / 5)
    a, b = np.hypot(u, v) * np.cos(angle), np.hypot(u, v) * np.sin(angle)
    tip = np.array([np.cos(np.pi / 5), np.sin(np.pi / 5)], np.float32)
    normal = np.array([tip[1], inner - tip[0]], np.float32) / np.hypot(tip[1], inner - tip[0])
    return ((a - inner) * normal[0] + b * normal[1]) * tip_radius


def _heart(u, v, half=0.65):
    """A square on its corner, and a half disk on each of its upper sides."""
    v = v - 0.07
    diamond = (np.abs(u) + np.abs(v) - half) * 0.7071
    return np.minimum(diamond, _disk(np.abs(u) - half / 2, v + half / 2, half * 0.7071))


def _arrow(u, v):
    head = np.maximum(np.abs(u) * 0.78 - (v + 1) * 0.62, v - 0.08)
    return np.minimum(head, _box(u, v - 0.5, 0.3, 0.5))


# All have nearly the same area, so that the share of the ground does not tell them.
_SHAPES = {
    "disk": lambda u, v: _disk(u, v, 0.7),
    "ring": lambda u, v: np.abs(_disk(u, v, 0.7)) - 0.175,
    "triangle": lambda u, v: _triangle(u, v - 0.17, 0.54),
    "star": lambda u, v: _star(u, v - 0.05, 1.1, 0.43),
    "cross": lambda u, v: np.minimum(_box(u, v, 0.96, 0.225), _box(u, v, 0.225, 0.96)),
    "heart": _heart,
    "crescent": lambda u, v: np.maximum(_disk(u + 0.1, v, 0.92), -_disk(u - 0.37, v + 0.2, 0.65)),
    "arrow": _arrow,
    "hourglass": lambda u, v: np.maximum((np.abs(u) - 0.64 * np.abs(v) - 0.21) * 0.84, np.abs(v) - 0.8),
    "chevron": lambda u, v: np.maximum(np.abs(v - 0.9 * np.abs(u) + 0.42) * 0.743 - 0.29, _disk(u, v, 1.1)),
}
