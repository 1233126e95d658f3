"""From an image file to its pixels, inside a `tf.data` graph.

JPEG and PNG are decoded by TensorFlow straight to the wanted channels; BMP and GIF (its first
image) by TensorFlow and then converted; `.npy` by NumPy; everything else by Pillow. Transparency is
dropped: the colours under it are kept. Photographs are turned upright as their Exif data say, in
JPEG and in what Pillow reads. The number of pixels is read off the header before any are decoded. A
file that cannot be read raises TensorFlow's error, which `IndexedSource` handles.
"""

import contextlib
import io
import math
import os
import threading
from collections.abc import Callable

import numpy as np
import PIL.Image
import PIL.ImageOps
import tensorflow as tf

from keras_ssl.data import errors
from keras_ssl.data.layout import check_channels_last

_TENSORFLOW, _CONVERTED, _NUMPY, _PILLOW = range(4)
_READERS = {
    **dict.fromkeys((".jpg", ".jpeg", ".png"), _TENSORFLOW),
    **dict.fromkeys((".bmp", ".gif"), _CONVERTED),
    **dict.fromkeys((".npy",), _NUMPY),
    **dict.fromkeys((".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif"), _PILLOW),
}
EXTENSIONS = tuple(_READERS)
_GREY_MODES = ("1", "L", "LA", "I;16", "I;16B", "I", "F")
_DEEP_MODES = ("I;16", "I;16B", "I", "F")
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTH, _PNG_COLOUR = 24, 25  # places of bytes in a PNG
_PNG_GREY = (0, 4)  # colour types: grey, grey with transparency
_START = 512  # bytes in which an ordinary file says its size
_TURNED = ("JPEG", "MPO")  # kinds of files that TensorFlow decodes and Exif data turn
_ORIENTATION = 0x0112  # Exif tag
_pillow_lock = threading.Lock()


def reader_of(path: str) -> int:
    """Number of the reader for a file, by the end of its name."""
    return _READERS[os.path.splitext(path)[1].lower()]


def describe(path: str) -> tuple[int, str]:
    """(channels, "uint8" or "float32") that a file has by its header, transparency left out.

    Raises:
        OSError, ValueError: if the header cannot be read.
    """
    if reader_of(path) == _NUMPY:
        array = _open_npy(path)
        return array.shape[2], _npy_dtype(array)
    with open(path, "rb") as file:
        start = file.read(_PNG_COLOUR + 1)
        # Pillow opens 16-bit RGB as 8-bit, so a PNG's depth is read from the file itself.
        if start.startswith(_PNG) and len(start) > _PNG_COLOUR:
            grey = start[_PNG_COLOUR] in _PNG_GREY
            return (1 if grey else 3, "float32" if start[_PNG_DEPTH] == 16 else "uint8")
        file.seek(0)
        with _opened(file) as image:
            grey, deep = image.mode in _GREY_MODES, image.mode in _DEEP_MODES
            return (1 if grey else 3, "float32" if deep else "uint8")


def decode(
    path: tf.Tensor,
    reader: tf.Tensor,
    readers: set,
    channels: int,
    dtype: str,
    max_pixels: int,
) -> tf.Tensor:
    """The image `(H, W, channels)` in a file.

    Args:
        path: scalar string tensor.
        reader: scalar int32 tensor, the file's `reader_of`.
        readers: all readers that occur, so that the graph holds no others.
        channels: 1 or 3; for `.npy` what the files hold.
        dtype: "uint8", or "float32" for values divided by the largest of the file's type.
        max_pixels: height times width above which a file is not decoded but raises.
    """
    functions = {
        _TENSORFLOW: lambda: _decoded(path, channels, dtype, max_pixels),
        _CONVERTED: lambda: _converted(path, channels, dtype, max_pixels),
        _NUMPY: lambda: _in_python(_read_npy, path, channels, dtype, max_pixels),
        _PILLOW: lambda: _in_python(_read_with_pillow, path, channels, dtype, max_pixels),
    }
    # A folder of one kind of file gets a graph without a switch.
    chosen = [functions[number] for number in sorted(readers)]
    if len(chosen) == 1:
        image = chosen[0]()
    else:
        place = tf.argmax(tf.equal(sorted(readers), reader), output_type=tf.int32)
        image = tf.switch_case(place, chosen)
    image.set_shape((None, None, channels))
    return image


def _decoded(path: tf.Tensor, channels: int, dtype: str, max_pixels: int) -> tf.Tensor:
    """An image as TensorFlow decodes it, turned upright."""
    content = tf.io.read_file(path)

    def decoded() -> tf.Tensor:
        image = tf.io.decode_image(content, channels, dtype, expand_animations=False)
        return tf.ensure_shape(image, (None, None, channels or None))

    def inspected() -> tf.Tensor:
        number = _call(lambda content: _inspect(content, max_pixels), content, "int64")
        with tf.control_dependencies([number]):
            image = decoded()
        turned = tf.numpy_function(_turned, [image, number], image.dtype)
        return tf.ensure_shape(turned, image.shape)

    # Whatever each image costs here shows: a small one is decoded in 80 microseconds. So one
    # pattern tells the files for which there is nothing to do; Python looks at the others.
    start = tf.strings.substr(content, 0, _START)
    ordinary = tf.strings.regex_full_match(start, _ordinary(max_pixels))
    return tf.cond(ordinary, decoded, inspected)


def _ordinary(max_pixels: int) -> str:
    r"""Pattern of the first bytes of files that have few pixels and no Exif data, for certain.

    `\C` is any byte; the pattern can name no byte above 127, such as those of markers.
    """
    highest = min(math.isqrt(max_pixels) // 256, 128) - 1  # upper byte of a side
    if highest < 0:
        return ""  # matches no image
    upper = rf"[\x00-\x{highest:02X}]"
    big, little = rf"{upper}\C", rf"\C{upper}"
    table = r"[\x00-\x03]\C{64}"  # of a JPEG's quantisation; Exif data begin with a letter
    patterns = (
        r"\CPNG\r\n\x1A\n\C{4}IHDR" + rf"\x00\x00{big}\x00\x00{big}",
        r"\C{4}\x00\x10JFIF\x00\C{9}(\C\C\x00\x0EAdobe\C{7})?"
        rf"(\C\C(\x00\x43{table}|\x00\x84{table}{table}))+\C\C\x00[\x0B\x11]\x08{big}{big}",
        rf"GIF8\C\C{little}{little}",
        rf"BM\C{{16}}{little}\x00\x00{little}\x00\x00",
    )
    return rf"({'|'.join(patterns)})\C*"


def _inspect(content: bytes, max_pixels: int) -> np.int64:
    """Check the number of pixels; return the orientation by Exif, 1 to 8, of which 1 is upright."""
    with _opened(io.BytesIO(content)) as image:
        _check_pixels(image.width * image.height, max_pixels)
        try:
            number = image.getexif().get(_ORIENTATION) if image.format in _TURNED else 1
        except Exception:  # damaged Exif data raise errors of many kinds, and cost no pixel
            number = 1
    return np.int64(number if number in range(1, 9) else 1)


def _turned(image: np.ndarray, number: np.int64) -> np.ndarray:
    """An image turned upright from Exif orientation `number`."""
    image = image.transpose(1, 0, 2) if number >= 5 else image
    image = image[:, ::-1] if number in (2, 3, 6, 7) else image
    return np.ascontiguousarray(image[::-1] if number in (3, 4, 7, 8) else image)


def _converted(path: tf.Tensor, channels: int, dtype: str, max_pixels: int) -> tf.Tensor:
    """BMP and GIF, which TensorFlow decodes only to the channels they have."""
    image = _decoded(path, 0, dtype, max_pixels)
    if channels == 1:
        return image[..., :1]
    colour = tf.shape(image)[-1] >= 3
    return tf.cond(colour, lambda: image[..., :3], lambda: tf.repeat(image[..., :1], 3, axis=-1))


def _in_python(
    function: Callable, path: tf.Tensor, channels: int, dtype: str, max_pixels: int
) -> tf.Tensor:
    def read(name: bytes) -> np.ndarray:
        return function(name.decode(), channels, dtype, max_pixels)

    return _call(read, path, dtype)


def _call(function: Callable, text: tf.Tensor, dtype: str) -> tf.Tensor:
    """The result of a Python function of bytes; whatever it raises is marked."""

    @errors.raises_in_graph
    def call(text: bytes | np.ndarray) -> np.ndarray:  # an array where tf runs eagerly
        try:
            return function(np.asarray(text).item())
        except PIL.UnidentifiedImageError:  # its message holds an address in memory
            raise ValueError("no image of a kind that can be read") from None
        except Exception as error:  # damaged files raise errors of many kinds in Pillow
            raise ValueError(str(error) or type(error).__name__) from error

    return tf.numpy_function(call, [text], tf.as_dtype(dtype))


def _open_npy(path: str) -> np.ndarray:
    """The array `(height, width, channels)` of a `.npy`, not yet in memory."""
    array = np.lib.format.open_memmap(path, mode="r")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"shape {array.shape}; wanted (height, width, channels)")
    check_channels_last(array.shape, "an array", "np.transpose(image, (1, 2, 0))")
    return array


def _read_npy(path: str, channels: int, dtype: str, max_pixels: int) -> np.ndarray:
    array = _open_npy(path)
    _check_pixels(array.shape[0] * array.shape[1], max_pixels)
    if array.shape[2] != channels:
        raise ValueError(f"shape {array.shape}; wanted (height, width, {channels})")
    array = np.array(array)
    if _npy_dtype(array) == "float32" and array.dtype != np.uint16:
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise ValueError("float images must be finite and lie in [0, 1]")
    return _scaled(array, dtype)


def _check_pixels(pixels: int, max_pixels: int) -> None:
    if pixels > max_pixels:
        raise ValueError(f"{pixels} pixels are more than max_pixels={max_pixels}")


def _npy_dtype(array: np.ndarray) -> str:
    """The source's type that an array needs."""
    if array.dtype == np.uint8:
        return "uint8"
    if array.dtype == np.uint16 or array.dtype.kind == "f":
        return "float32"
    raise ValueError(f"an .npy image must be uint8, uint16 or float, not {array.dtype}")


def _read_with_pillow(path: str, channels: int, dtype: str, max_pixels: int) -> np.ndarray:
    with open(path, "rb") as file, _opened(io.BytesIO(file.read())) as image:
        _check_pixels(image.width * image.height, max_pixels)
        image = PIL.ImageOps.exif_transpose(image)
        if image.mode == "F":
            array = np.asarray(image, np.float32)
        elif image.mode in _DEEP_MODES:
            array = np.asarray(image).astype(np.uint16)
        else:
            array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    array = array if array.ndim == 3 else np.repeat(array[..., None], channels, axis=-1)
    return _scaled(array, dtype)


@contextlib.contextmanager
def _opened(file: io.IOBase):
    """Pillow's image, of which the header is read; Pillow's own limit on pixels left out.

    That limit, which warns or raises, stands in a global; ours is `max_pixels`.
    """
    with _pillow_lock:
        limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
        try:
            image = PIL.Image.open(file)
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = limit
    with image:
        yield image


def _scaled(array: np.ndarray, dtype: str) -> np.ndarray:
    """`array` as `dtype`, where float is in [0, 1]."""
    top = np.iinfo(array.dtype).max if array.dtype.kind == "u" else 1
    if array.dtype == dtype:
        return array
    scaled = array.astype(np.float32) / np.float32(top)
    return scaled if dtype == "float32" else np.rint(scaled * 255).astype(np.uint8)
