r"""Image GPT (Chen et al. 2020, https://proceedings.mlr.press/v119/chen20s.html).

    python -m recipes.image_gpt --preset=cifar10_small --data_dir=path/to/tfds --out=runs/igpt-small
    python -m recipes.image_gpt --preset=cifar10 --data_dir=path/to/tfds --out=runs/igpt-cifar10
    python -m recipes.image_gpt --preset=imagenet --data_dir=path/to/tfds --out=runs/igpt-s

`--set=objective=bert` predicts hidden pixels in the place of the next one. `imagenet` is iGPT-S at
32 pixels (the authors train 1,000,000 steps, 100 epochs; on it they report 2.0895 nats a token on
the test images); `cifar10` the same network on CIFAR-10, which is not in the paper. Neither has
been run. What to expect of `cifar10_small`, images of 16 pixels a side, a quarter of the tokens,
and a network of 0.3 million weights, for a CPU: its row of `benchmarks/RESULTS.md`.

A step of iGPT-S on 8 images of 32 px takes 4 GiB with `remat` (on a CPU, Adam included).

Probe the block that is best for your images (section 4.1; the middle, in the paper):

    keras_ssl.evaluation.layer_probe(model.stages(), train, test, image_size=(32, 32))

Departures from the paper: those of the method.
"""

from keras_ssl import ImageGPT, evaluation
from keras_ssl.ops import to_unit_range
from recipes import _runner
from recipes._runner import SMALL_OWN, Config


def yardstick(model, train, images):
    """Bits per pixel of the same tokens under independent places, counted on the same images."""
    tokens = [evaluation.extract(tokens_of(model), x).astype(int) for x in (train, images)]
    mean, error = evaluation.independent_values(*tokens, model.palette_size)
    return {"bits per pixel of independent tokens": f"{mean:.3f} ± {error:.3f}"}


def tokens_of(model):
    """Images to tokens, for `evaluation.extract`."""
    return lambda images: model.palette(to_unit_range(images))


SIZE_S = {"width": 512, "depth": 24, "heads": 8, "remat": True}

RECIPE = _runner.Recipe(
    ImageGPT,
    {
        "cifar10_small": Config(
            **SMALL_OWN,
            image_size=16,
            options={"width": 64, "depth": 4},
        ),
        "cifar10": Config(batch_size=128, epochs=100, options=SIZE_S),
        "imagenet": Config(data="imagenet2012", batch_size=128, epochs=100, options=SIZE_S),
    },
    smoke={"image_size": 8, "options": {"palette_size": 16, "width": 16, "depth": 2}},
    figures=yardstick,
)


if __name__ == "__main__":
    _runner.main(RECIPE)
