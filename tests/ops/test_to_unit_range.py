import numpy as np
import pytest
from keras import ops as kops

from keras_ssl import ops


def test_uint8_is_divided_by_255():
    images = np.arange(256, dtype="uint8").reshape(1, 16, 16, 1)
    out = ops.to_unit_range(images)
    assert out.dtype == "float32"
    np.testing.assert_allclose(kops.convert_to_numpy(out), images / 255.0, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_floating_point_passes_unchanged(dtype):
    images = kops.cast(np.linspace(0, 1, 12).reshape(1, 2, 2, 3), dtype)
    out = ops.to_unit_range(images)
    assert out.dtype == images.dtype
    np.testing.assert_array_equal(
        kops.convert_to_numpy(kops.cast(out, "float32")),
        kops.convert_to_numpy(kops.cast(images, "float32")),
    )


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint16", "bool"])
def test_a_dtype_of_unknown_range_is_refused(dtype):
    with pytest.raises(ValueError, match=f"`images` must be uint8.*{dtype}"):
        ops.to_unit_range(np.ones((1, 2, 2, 3), dtype))
