"""Several optimizers behind one face: each moves its own, all are saved."""

import keras
import numpy as np
import pytest
from toys import TwoPlayers, ready_batches, tiny_backbone

from keras_ssl.optimizers import Players

SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam


def game(optimizer):
    keras.utils.set_random_seed(1)
    model = TwoPlayers(tiny_backbone())
    model.compile(optimizer)
    return model


def values(variables):
    return [np.array(v) for v in variables]


def test_each_player_is_moved_by_its_own_optimizer():
    model = game(Players(critic=SGD(0.0), backbone=SGD(0.1)))
    before = {name: values(own) for name, own in model.players.items()}
    model.fit(ready_batches(16, 16), verbose=0)
    after = {name: values(own) for name, own in model.players.items()}
    assert all(np.array_equal(a, b) for a, b in zip(before["critic"], after["critic"]))
    assert not any(np.array_equal(a, b) for a, b in zip(before["backbone"], after["backbone"]))


def test_players_take_turns_as_two_plain_optimizers_would():
    import tensorflow as tf

    model = game(Players(critic=Adam(0.01), backbone=SGD(0.1, momentum=0.9)))
    twin = game(SGD(0.0))
    optimizers = {"critic": Adam(0.01), "backbone": SGD(0.1, momentum=0.9)}
    for batch in ready_batches(48, 16):
        for name, losses in (("critic", twin.critic_loss), ("backbone", twin.compute_losses)):
            own = twin.players[name]
            with tf.GradientTape() as tape:
                loss = losses(batch, True)["loss"]
            optimizers[name].apply(tape.gradient(loss, [v.value for v in own]), own)
        twin.after_step()
    model.fit(ready_batches(48, 16), verbose=0)
    for name in optimizers:
        for a, b in zip(values(model.players[name]), values(twin.players[name])):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_one_optimizer_is_copied_for_each():
    model = game(Adam(0.01))
    model.fit(ready_batches(16, 16), verbose=0)
    first, second = model.optimizer.players.values()
    assert first is not second and first.learning_rate == second.learning_rate
    assert int(first.iterations) == int(second.iterations) == int(model.step) == 1


def test_state_is_saved_once_and_continues(tmp_path):
    model = game(Players(critic=Adam(0.01), backbone=SGD(0.1, momentum=0.9)))
    model.fit(ready_batches(32, 16), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, Players)
    for m in (model, loaded):
        m.fit(ready_batches(32, 16), verbose=0)
    for a, b in zip(values(model.optimizer.variables), values(loaded.optimizer.variables)):
        np.testing.assert_array_equal(a, b)


def test_float16_scales_each_players_loss():
    keras.config.set_dtype_policy("mixed_float16")
    model = game(Adam(1e-3))
    model.fit(ready_batches(16, 16), epochs=2, verbose=0)
    for player in ("critic", "backbone"):
        assert isinstance(model.optimizer_of(player), keras.optimizers.LossScaleOptimizer)
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.parametrize("order", [("critic", "backbone"), ("backbone", "critic")])
def test_the_clock_does_not_depend_on_the_order_of_the_players(order):
    rates = {"critic": 0.1, "backbone": 0.01}
    model = game(Players(**{name: SGD(rates[name]) for name in order}))
    model.fit(ready_batches(48, 16), verbose=0)
    assert int(model.step) == int(model.optimizer.iterations) == 3
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1)


def test_a_teacher_follows_after_the_turns_of_all_players():
    """`update` is overridden; the frame calls `after_step` none the less, once a step."""
    model = game(SGD(0.05))
    teacher, calls, after_step = values(model.teacher.weights)[0], [], model.after_step

    def counted():
        calls.append(1)
        after_step()

    model.after_step = counted
    students = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: students.append(np.array(model.backbone.weights[0]))
    )
    model.fit(ready_batches(48, 16), verbose=0, callbacks=[watch])
    for student in students:
        teacher = 0.9 * teacher + 0.1 * student
    np.testing.assert_allclose(values(model.teacher.weights)[0], teacher, atol=1e-6)
    assert len(calls) == 1  # traced once, in one graph


def test_a_teacher_of_players_waits_under_accumulation():
    model = game(SGD(0.05, gradient_accumulation_steps=3))
    teacher = values(model.teacher.weights)[0]
    model.fit(ready_batches(48, 16), verbose=0)
    student = values(model.backbone.weights)[0]
    assert int(model.step) == 1
    np.testing.assert_allclose(
        values(model.teacher.weights)[0], 0.9 * teacher + 0.1 * student, atol=1e-6
    )


def test_wrong_players():
    with pytest.raises(ValueError, match="Received: none"):
        Players()
    with pytest.raises(ValueError, match="critic=0.1"):
        Players(critic=0.1)
    with pytest.raises(ValueError, match="same for all players.*'critic': 2, 'backbone': None"):
        Players(critic=Adam(gradient_accumulation_steps=2), backbone=Adam())
    with pytest.raises(ValueError, match="players are .*'backbone', 'critic'.*'one'"):
        game(Players(one=Adam())).fit(ready_batches(16, 16), verbose=0)
