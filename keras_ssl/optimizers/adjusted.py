"""A default optimizer with a setting or two of the user's own."""

import keras

from keras_ssl.optimizers.players import Players


def adjusted(
    optimizer: keras.optimizers.Optimizer,
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    warmup_steps: int | None = None,
) -> keras.optimizers.Optimizer:
    """A copy of an optimizer, of each player's, with the settings given; itself without any.

    Args:
        optimizer: with a constant rate, or a schedule that has `peak` and `warmup_steps`.
        learning_rate: the peak of its schedule, or its constant rate.
        weight_decay: as the optimizer means it.
        warmup_steps: length of the warm-up.

    Returns:
        An optimizer without variables.

    Raises:
        ValueError: if its schedule has none of what should be changed.
    """
    if learning_rate is weight_decay is warmup_steps is None:
        return optimizer
    if isinstance(optimizer, Players):
        players = optimizer.players.items()
        return Players(
            **{
                name: adjusted(own, learning_rate, weight_decay, warmup_steps)
                for name, own in players
            }
        )
    settings, schedule = optimizer.get_config(), optimizer._learning_rate
    changes = {"peak": learning_rate, "warmup_steps": warmup_steps}
    changes = {name: value for name, value in changes.items() if value is not None}
    if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        settings["learning_rate"] = changes.get("peak", settings["learning_rate"])
    elif changes:
        known = schedule.get_config()
        unknown = sorted(set(changes) - set(known))
        if unknown:
            raise ValueError(
                f"The schedule of the default optimizer, {type(schedule).__name__}, has no "
                f"{' and no '.join(unknown)} that could be changed. Received: {changes}. Give "
                "`compile` an optimizer of your own."
            )
        settings["learning_rate"] = type(schedule)(**known | changes)
    if weight_decay is not None:
        settings["weight_decay"] = weight_decay
    return type(optimizer).from_config(settings)
