"""Scalars of every epoch for TensorBoard, written without the package `tensorboard`."""

import keras
import tensorflow as tf


class TensorBoardScalars(keras.callbacks.Callback):
    """Writes each number of the epoch's logs to an event file in `folder`, one file a `fit`.

    `keras.callbacks.TensorBoard` needs the package `tensorboard` to write; this needs it only to
    look.
    """

    def __init__(self, folder):
        super().__init__()
        self._folder, self._writer = str(folder), None

    def on_train_begin(self, logs=None):
        """Open the file."""
        with tf.Graph().as_default():
            self._writer = tf.compat.v1.summary.FileWriter(self._folder)

    def on_epoch_end(self, epoch, logs=None):
        """Append one event with all scalars."""
        values = [
            tf.compat.v1.Summary.Value(tag=k, simple_value=float(v))
            for k, v in (logs or {}).items()
        ]
        self._writer.add_summary(tf.compat.v1.Summary(value=values), global_step=epoch + 1)
        self._writer.flush()

    def on_train_end(self, logs=None):
        """Close the file."""
        self._writer.close()
