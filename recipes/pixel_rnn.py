r"""PixelRNN (van den Oord, Kalchbrenner, Kavukcuoglu 2016, https://arxiv.org/abs/1601.06759).

    python -m recipes.pixel_rnn --preset=cifar10_small --data_dir=path/to/tfds --out=runs/rnn-small
    python -m recipes.pixel_rnn --preset=cifar10 --data_dir=path/to/tfds --out=runs/rnn-cifar10
    python -m recipes.pixel_rnn --preset=imagenet --data_dir=path/to/tfds --out=runs/rnn-imagenet

`--set=lstm=row` takes Row LSTMs. `cifar10` is the paper's network (12 Diagonal BiLSTM layers of 128
units, 1024 channels before the softmax), for which it reports 3.00 bits per dimension; `imagenet`
its network for 32 pixels, 12 Row LSTM layers of 384 units (3.86). Both need GPUs and have not been
run. What to expect of `cifar10_small`, images of 16 pixels a side for a CPU: its row of
`benchmarks/RESULTS.md`.

Departures from the paper: those of the method; epochs are ours.
"""

from keras_ssl import PixelRNN
from recipes import _runner
from recipes._runner import SMALL_OWN, Config

RECIPE = _runner.Recipe(
    PixelRNN,
    {
        "cifar10_small": Config(**SMALL_OWN, image_size=16),
        "cifar10": Config(
            batch_size=16, epochs=100, options={"units": 128, "depth": 12, "hidden": 1024}
        ),
        "imagenet": Config(
            data="imagenet2012",
            batch_size=16,
            epochs=30,
            options={"lstm": "row", "units": 384, "depth": 12, "hidden": 1024},
        ),
    },
    smoke={"image_size": 8, "options": {"units": 6, "depth": 1, "hidden": 12}},
)


if __name__ == "__main__":
    _runner.main(RECIPE)
