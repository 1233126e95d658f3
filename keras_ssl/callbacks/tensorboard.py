"""Scalars of every epoch for TensorBoard, written without the package `tensorboard`."""

import keras
import tensorflow as tf


class TensorBoardScalars(keras.callbacks.Callback):
    """Writes each number of the epoch's logs to an event file in `folder`.

    `keras.callbacks.TensorBoard` needs the package `tensorboard` to write; this needs it only to
    look.
    """

    def __init__(self, folder):
        super().__init__()
        self._folder = str(folder)

    def on_epoch_end(self, epoch, logs=None):
        """Append one event with all scalars."""
        values = [
            tf.compat.v1.Summary.Value(tag=k, simple_value=float(v))
            for k, v in (logs or {}).items()
        ]
        with tf.Graph().as_default():
            writer = tf.compat.v1.summary.FileWriter(self._folder, filename_suffix=f".{epoch + 1}")
            writer.add_summary(tf.compat.v1.Summary(value=values), global_step=epoch + 1)
            writer.close()
