"""Build file of keras-ssl."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (HERE / "keras_ssl" / "__init__.py").read_text()
).group(1)

JAX = ["jax>=0.10,<0.12"]
HUB = ["keras-hub>=0.32,<1"]
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.6,<10", "mkdocstrings[python]>=0.29,<2"]

setup(
    name="keras-ssl",
    version=VERSION,
    description="Self-supervised learning for Keras 3 and TensorFlow",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["keras_ssl", "keras_ssl.*"]),
    package_data={"keras_ssl.methods": ["results.json"]},
    install_requires=[
        # The engine overrides parts of Keras' trainer and optimizers: minor versions count.
        "keras>=3.15,<3.17",
        "tensorflow>=2.21,<2.23",
        "tensorflow-datasets>=4.9.9,<5",
        "keras-cv>=0.9,<1",
        "numpy>=1.26,<3",
        "absl-py>=2.1,<3",
        "scikit-learn>=1.5,<2",
        "scipy>=1.13,<2",
        "threadpoolctl>=3.1,<4",
        "matplotlib>=3.9,<4",
        "Pillow>=10.3,<14",
        "tqdm>=4.66,<5",
    ],
    extras_require={
        "hub": HUB,
        "jax": JAX,
        "onnx": ["tf2onnx>=1.17,<2", "onnx>=1.17,<2"],
        "peers": ["torch>=2.8,<3", "lightly>=1.5,<2"],
        "docs": DOCS,
        "dev": ["pytest>=8,<10", "pytest-xdist>=3.7,<4", "ruff>=0.14,<0.18", *JAX, *HUB, *DOCS],
    },
    entry_points={"console_scripts": ["keras-ssl = keras_ssl.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
