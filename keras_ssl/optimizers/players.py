"""Several optimizers in one object, one for each player of an adversarial method."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_ssl")
class Players(keras.optimizers.Optimizer):
    """One optimizer for each player of a method with several losses.

    Keras gives a model one optimizer; adversarial methods need one for each player, each with its
    own variables and its own step. `model.compile(Players(discriminator=..., generator=...))` keeps
    them together, so that they are saved, resumed and, on JAX, carried through the step with the
    model. The method asks for one by name: `model.optimizer_of("discriminator")`.

    `iterations` and `learning_rate`, which callbacks show, are the largest of the players'; methods
    read `SSLModel.step`, which counts whole training steps.

    Args:
        name: name of the optimizer.
        **players: a Keras optimizer by player.

    Raises:
        ValueError: if there is no player, one is not an optimizer, or they accumulate gradients
            over different numbers of batches.
    """

    players = {}  # Keras' constructor reads `variables` before this class has set its own

    def __init__(self, name: str = "players", **players: keras.optimizers.Optimizer):
        super().__init__(learning_rate=0.0, name=name)
        if not players:
            raise ValueError("`Players` needs an optimizer for each player. Received: none.")
        for player, optimizer in players.items():
            if not isinstance(optimizer, keras.optimizers.Optimizer):
                raise ValueError(
                    f"`{player}` must be a Keras optimizer. Received: {player}={optimizer!r}. "
                    "Pass an object such as keras.optimizers.Adam(2e-4)."
                )
        steps = {p: inner(o).gradient_accumulation_steps for p, o in players.items()}
        if len(set(steps.values())) > 1:
            raise ValueError(
                "`gradient_accumulation_steps` must be the same for all players. "
                f"Received: {steps}."
            )
        self.players = dict(players)

    @classmethod
    def like(cls, optimizer: keras.optimizers.Optimizer, players: Iterable[str]) -> "Players":
        """The same optimizer for each of `players`, every one a fresh copy."""
        optimizer = inner(optimizer)
        return cls(
            **{name: type(optimizer).from_config(optimizer.get_config()) for name in players}
        )

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Nothing: `build_players` gets the variables by player."""
        super().build([])

    def build_players(self, variables: Mapping[str, Sequence], scaled: bool = False) -> None:
        """Make the state of each optimizer that has none yet, for its player's variables.

        Args:
            variables: the variables by player.
            scaled: whether losses are scaled against underflow (`mixed_float16`).

        Raises:
            ValueError: if the players are not those of this object.
        """
        if set(variables) != set(self.players):
            raise ValueError(
                f"The method's players are {sorted(variables)}. Received optimizers for "
                f"{sorted(self.players)}. Give one to each by name."
            )
        for name, own in variables.items():
            if scaled and not self.players[name].built:
                self.players[name] = keras.optimizers.LossScaleOptimizer(self.players[name])
            if not self.players[name].built:
                self.players[name].build(own)

    @property
    def variables(self) -> list:
        """State of all players, after the few variables of this object."""
        return [*super().variables, *(v for p in self.players.values() for v in p.variables)]

    @property
    def iterations(self) -> Any:
        """Steps of the player that has taken the most."""
        counts = [player.iterations for player in self.players.values()]
        return functools.reduce(ops.maximum, counts) if counts else self._iterations

    @property
    def learning_rate(self) -> Any:
        """The largest learning rate of a player."""
        rates = [ops.cast(p.learning_rate, "float32") for p in self.players.values()]
        return functools.reduce(ops.maximum, rates)

    @property
    def gradient_accumulation_steps(self) -> int | None:
        """Batches whose gradients each player averages before it moves."""
        steps = {inner(p).gradient_accumulation_steps for p in self.players.values()}
        return next(iter(steps), None)

    @gradient_accumulation_steps.setter
    def gradient_accumulation_steps(self, steps: int | None) -> None:
        for player in self.players.values():
            player.gradient_accumulation_steps = steps

    def save_own_variables(self, store: Any) -> None:
        """The few variables of this object; Keras walks to the players by itself."""
        for i, variable in enumerate(super().variables):
            store[str(i)] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """What `save_own_variables` kept."""
        for i, variable in enumerate(super().variables):
            variable.assign(store[str(i)])

    def get_config(self) -> dict:
        """The optimizers by player."""
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            **{name: serialize(inner(player)) for name, player in self.players.items()},
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "Players":
        """The object that `get_config` described."""
        load = keras.saving.deserialize_keras_object
        players = {n: load(c, custom_objects) for n, c in config.items() if n != "name"}
        return cls(name=config["name"], **players)


def inner(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer itself, without the loss scaling that Keras wraps around it."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def each(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """The optimizers that move variables, without loss scaling: the players', or the one itself."""
    optimizer = inner(optimizer)
    return [inner(player) for player in getattr(optimizer, "players", {}).values()] or [optimizer]


def accumulation(optimizer: keras.optimizers.Optimizer | None) -> int:
    """Batches whose gradients are averaged before a step; 1 without accumulation or optimizer."""
    return getattr(inner(optimizer), "gradient_accumulation_steps", None) or 1
