"""`shapes`: drawn images whose class is the shape strewn over them, and nothing else."""

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
    "bar",
    "arrow",
    "hourglass",
    "chevron",
)
_CELLS = 6  # rows and columns of cells that are drawn at random; the pattern repeats beyond them
_CHUNK_PIXELS = 2**20


def shapes(
    size: int = 5000,
    image_size: int | tuple[int, int] = 32,
    seed: int = 0,
    channels: int = 3,
    first: int = 0,
) -> IndexedSource:
    """Source of drawn images of ten shapes, which are their labels.

    An image is strewn with copies of one shape on a dark ground. Each copy has its own colour,
    size, place and tilt (up to 32 degrees from upright), so that two crops of an image have little
    but the shape in common: methods that tell images apart find it. Pixels, mean colours and
    histograms do not tell it. Image i is a function of (seed, first + i): the same numbers at
    another size give the same scene.

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


@dataclasses.dataclass(frozen=True)
class Scenes:
    """What n images show, whatever their size.

    The plane is cut into square cells, a copy of the shape in each. Lengths are parts of the
    image's shorter side where nothing else is said, angles full turns.

    Attributes:
        labels: the shape, (n,).
        spacing: side of a cell, (n,).
        origin: x and y of the cells' corner, in cells, (n, 2).
        shift: of each row of cells along itself, in cells, (n, cells).
        turn: of the cells, but not of the copies in them, (n,).
        place: of the copy in its cell, from -1 to 1 in x and y, (n, cells, cells, 2).
        radius: of the copy, in cells, at most 0.5, (n, cells, cells).
        tilt: of the copy, (n, cells, cells).
        colours: of the copy, (n, cells, cells, channels).
        ground: colours at the corners of the image, (n, 2, 2, channels).
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
    """The `Scenes` of the given numbers, and noise in [-1, 1) for images of that size."""
    generators = [np.random.default_rng((seed, int(number))) for number in numbers]

    def uniform(*shape):
        return np.array([rng.random(shape, np.float32) for rng in generators])

    # The order of these draws is the data set: change it, and every image changes. The noise alone
    # depends on the size of the images, and so comes last.
    whole, shift = uniform(8), uniform(_CELLS)
    cells, colours = uniform(_CELLS, _CELLS, 5), uniform(_CELLS, _CELLS, channels)
    darkness, ground = 0.08 + 0.12 * uniform(1, 1, 1), uniform(2, 2, channels)
    noise = np.array([rng.integers(-128, 128, image_size, np.int8) for rng in generators])
    scenes = Scenes(
        labels=(whole[:, 0] * len(CLASS_NAMES)).astype(np.int64),
        spacing=0.28 + 0.13 * whole[:, 1],
        origin=whole[:, 2:4],
        shift=shift,
        turn=whole[:, 4],
        place=2 * cells[..., :2] - 1,
        radius=0.36 + 0.06 * whole[:, 5, None, None] + 0.05 * cells[..., 2],
        tilt=0.1 * (whole[:, 6, None, None] - 0.5) + 0.08 * (cells[..., 3] - 0.5),
        colours=_vivid(colours) * (0.65 + 0.35 * cells[..., 4:]),
        ground=(darkness + 0.08 * (ground - 0.5)).clip(0, 1),
        grain=0.05 * whole[:, 7],
    )
    return scenes, noise / np.float32(128)


def _vivid(draws):
    """Saturated colours, with one channel at least near 1."""
    if draws.shape[-1] == 1:
        return 0.7 + 0.3 * draws
    least, most = draws.min(-1, keepdims=True), draws.max(-1, keepdims=True)
    saturated = (draws - least) / np.maximum(most - least, 1e-6)
    return 0.25 + 0.75 * (0.8 * saturated + 0.2 * draws)


def render(scenes: Scenes, image_size: tuple[int, int], noise: np.ndarray) -> np.ndarray:
    """Images (uint8) of `scenes`; `noise` is (n, height, width) in [-1, 1)."""
    height, width = image_size
    shorter = min(height, width)
    y = ((np.arange(height, dtype=np.float32) + 0.5) - height / 2)[None, :, None] / shorter
    x = ((np.arange(width, dtype=np.float32) + 0.5) - width / 2)[None, None, :] / shorter
    spacing, origin, turn = (
        values[:, None, None] for values in (scenes.spacing, scenes.origin, scenes.turn)
    )
    # Which cell each pixel is in, and where in the cell; no copy leaves its cell.
    a, b = _turned(x, y, turn)
    a, b = a / spacing + origin[..., 0], b / spacing + origin[..., 1]
    row = np.floor(b)
    line = np.arange(len(b), dtype=np.int32)[:, None, None] * _CELLS + row.astype(np.int32) % _CELLS
    a += scenes.shift.ravel()[line]
    column = np.floor(a)
    cell = line * _CELLS + column.astype(np.int32) % _CELLS
    radius = scenes.radius.ravel()[cell]
    place = ((0.5 - scenes.radius[..., None]) * scenes.place).reshape(-1, 2)
    a, b = a - column - 0.5 - place[:, 0][cell], b - row - 0.5 - place[:, 1][cell]
    angle = 2 * np.pi * (scenes.tilt - turn)
    cosine, sine = (np.cos(angle) / scenes.radius).ravel(), (np.sin(angle) / scenes.radius).ravel()
    cosine, sine = cosine[cell], sine[cell]
    distance = _distances(a * cosine + b * sine, b * cosine - a * sine, scenes.labels)
    mask = np.clip(0.5 - distance * radius * spacing * shorter, 0, 1)[..., None]  # in pixels
    image = _blended(x, y, scenes.ground)
    image += mask * (scenes.colours.reshape(-1, image.shape[-1])[cell] - image)
    image += (noise * scenes.grain[:, None, None])[..., None]
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _turned(x, y, turn):
    """Coordinates turned by `turn` full turns."""
    angle = 2 * np.pi * turn
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _blended(x, y, corners):
    """The colours of the corners, blended between them."""
    right, low = np.clip(x + 0.5, 0, 1)[..., None], np.clip(y + 0.5, 0, 1)[..., None]
    (a, b), (c, d) = corners.transpose(1, 2, 0, 3)[..., None, None, :]
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


def _disk(u, v, radius):
    return np.hypot(u, v) - radius


def _triangle(u, v):
    return np.maximum(np.abs(u) * 0.866 - v * 0.5, v) - 0.54


def _star(u, v, inner=0.43, tip=1.1):
    """Five points: the angle folded into a tenth of a turn, and one straight edge there."""
    u, v = u / tip, v / tip
    angle = np.abs(np.mod(np.arctan2(u, -v), 2 * np.pi / 5) - np.pi / 5)
    length = np.hypot(u, v)
    end = np.array([np.cos(np.pi / 5), np.sin(np.pi / 5)], np.float32)
    normal = np.array([end[1], inner - end[0]], np.float32)
    normal *= tip / np.hypot(*normal)
    return (length * np.cos(angle) - inner) * normal[0] + length * np.sin(angle) * normal[1]


def _heart(u, v, half=0.65):
    """A square on its corner, and half a disk on each of its upper sides."""
    u, v = np.abs(u), v - 0.07
    side = half * 0.7071
    return np.minimum((u + np.abs(v) - half) * 0.7071, _disk(u - half / 2, v + half / 2, side))


def _arrow(u, v):
    head = np.maximum(np.abs(u) * 0.78 - (v + 1) * 0.62, v - 0.08)
    return np.minimum(head, _box(u, v - 0.5, 0.3, 0.5))


def _hourglass(u, v):
    return np.maximum((np.abs(u) - 0.64 * np.abs(v) - 0.21) * 0.84, np.abs(v) - 0.8)


def _chevron(u, v):
    return np.maximum(np.abs(v - 0.9 * np.abs(u) + 0.42) * 0.743 - 0.29, _disk(u, v, 1.1))


# Upright, y down, of nearly the same area: else the share of the ground would tell them.
_SHAPES = {
    "disk": lambda u, v: _disk(u, v, 0.7),
    "ring": lambda u, v: np.abs(_disk(u, v, 0.7)) - 0.175,
    "triangle": _triangle,
    "star": _star,
    "cross": lambda u, v: np.minimum(_box(u, v, 0.96, 0.225), _box(u, v, 0.225, 0.96)),
    "heart": _heart,
    "bar": lambda u, v: _box(u, v, 0.375, 1.02),
    "arrow": _arrow,
    "hourglass": _hourglass,
    "chevron": _chevron,
}
