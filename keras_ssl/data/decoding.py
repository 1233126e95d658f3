"""From an image file to its pixels, inside a `tf.data` graph.

JPEG and PNG are decoded by TensorFlow straight to the wanted channels; BMP and GIF (its first
image) by TensorFlow and then converted; `.npy` by NumPy; everything else by Pillow. Transparency is
dropped: the colours under it are kept. A file that cannot be read raises TensorFlow's error, which
`IndexedSource` handles.
"""

import io
import os

import numpy as np
import PIL.Image
import tensorflow as tf

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
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTH_BYTE = 24


def reader_of(path: str) -> int:
    """Number of the reader for a file, by the end of its name."""
    return _READERS[os.path.splitext(path)[1].lower()]


def describe(path: str) -> tuple[int, str]:
    """(channels, "uint8" or "float32") that a file has by its header, transparency left out.

    Raises:
        OSError, ValueError: if the header cannot be read.
    """
    if reader_of(path) == _NUMPY:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        return (array.shape[2] if array.ndim == 3 else 1, _npy_dtype(array))
    with open(path, "rb") as file:
        start = file.read(_PNG_DEPTH_BYTE + 1)
    with PIL.Image.open(path) as image:
        # Pillow opens 16-bit RGB as 8-bit, so a PNG's depth is read from the file itself.
        deep = image.mode in _DEEP_MODES
        if start.startswith(_PNG_SIGNATURE) and len(start) > _PNG_DEPTH_BYTE:
            deep = start[_PNG_DEPTH_BYTE] == 16
        return (1 if image.mode in _GREY_MODES else 3, "float32" if deep else "uint8")


def decode(
    path: tf.Tensor, reader: tf.Tensor, readers: set, channels: int, dtype: str
) -> tf.Tensor:
    """The image `(H, W, channels)` in a file.

    Args:
        path: scalar string tensor.
        reader: scalar int32 tensor, the file's `reader_of`.
        readers: all readers that occur, so that the graph holds no others.
        channels: 1 or 3; for `.npy` what the files hold.
        dtype: "uint8", or "float32" for values divided by the largest of the file's type.
    """
    functions = {
        _TENSORFLOW: lambda: tf.io.decode_image(
            tf.io.read_file(path), channels=channels, dtype=dtype, expand_animations=False
        ),
        _CONVERTED: lambda: _converted(path, channels, dtype),
        _NUMPY: lambda: _in_python(_read_npy, path, channels, dtype),
        _PILLOW: lambda: _in_python(_read_with_pillow, path, channels, dtype),
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


def _converted(path: tf.Tensor, channels: int, dtype: str) -> tf.Tensor:
    """BMP and GIF, which TensorFlow decodes only to the channels they have."""
    image = tf.io.decode_image(tf.io.read_file(path), dtype=dtype, expand_animations=False)
    image = tf.ensure_shape(image, (None, None, None))
    if channels == 1:
        return image[..., :1]
    colour = tf.shape(image)[-1] >= 3
    return tf.cond(colour, lambda: image[..., :3], lambda: tf.repeat(image[..., :1], 3, axis=-1))


def _in_python(function, path: tf.Tensor, channels: int, dtype: str) -> tf.Tensor:
    def read(name: bytes | np.ndarray) -> np.ndarray:  # an array where tf runs eagerly
        return function(np.asarray(name).item().decode(), channels, dtype)

    return tf.numpy_function(read, [path], tf.as_dtype(dtype))


def _read_npy(path: str, channels: int, dtype: str) -> np.ndarray:
    array = np.load(path, allow_pickle=False)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] != channels or 0 in array.shape:
        raise ValueError(f"{path}: shape {array.shape}; wanted (height, width, {channels}).")
    if _npy_dtype(array) == "float32" and array.dtype != np.uint16:
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise ValueError(f"{path}: float images must be finite and lie in [0, 1].")
    return _scaled(array, dtype)


def _npy_dtype(array: np.ndarray) -> str:
    """The source's type that an array needs."""
    if array.dtype == np.uint8:
        return "uint8"
    if array.dtype == np.uint16 or array.dtype.kind == "f":
        return "float32"
    raise ValueError(f"An .npy image must be uint8, uint16 or float. Received: {array.dtype}.")


def _read_with_pillow(path: str, channels: int, dtype: str) -> np.ndarray:
    with open(path, "rb") as file, PIL.Image.open(io.BytesIO(file.read())) as image:
        if image.mode == "F":
            array = np.asarray(image, np.float32)
        elif image.mode in _DEEP_MODES:
            array = np.asarray(image).astype(np.uint16)
        else:
            array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    array = array if array.ndim == 3 else np.repeat(array[..., None], channels, axis=-1)
    return _scaled(array, dtype)


def _scaled(array: np.ndarray, dtype: str) -> np.ndarray:
    """`array` as `dtype`, where float is in [0, 1]."""
    top = np.iinfo(array.dtype).max if array.dtype.kind == "u" else 1
    if array.dtype == dtype:
        return array
    scaled = array.astype(np.float32) / np.float32(top)
    return scaled if dtype == "float32" else np.rint(scaled * 255).astype(np.uint8)
