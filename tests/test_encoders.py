"""Encoders are read back from every form in which they are written."""

import json
import zipfile

import keras
import numpy as np
import pytest
import toys

import keras_ssl
from keras_ssl.encoders import BACKBONE, copy_encoder, load_encoder
from keras_ssl.export import save_backbone

IMAGES = toys.images(4)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A backbone with moved statistics, and every form of it."""
    folder = tmp_path_factory.mktemp("encoders")
    backbone = keras_ssl.backbones.small_conv((8, 8, 3), widths=(4, 8))
    backbone(IMAGES, training=True)
    run, old = folder / "run", folder / "old"
    for each in (run, old):
        each.mkdir()
        (each / "config.json").write_text("{}")
        keras_ssl.export_encoder(backbone, each / "encoder.keras")
    save_backbone(backbone, run / BACKBONE)
    keras_ssl.export_encoder(backbone, folder / "saved")
    return backbone, folder


@pytest.mark.parametrize("form", ["run", "old", "old/encoder.keras", "saved"])
def test_every_form_gives_the_same_features(written, form):
    backbone, folder = written
    encoder = load_encoder(folder / form)
    expected = np.asarray(backbone(IMAGES))
    np.testing.assert_allclose(encoder(IMAGES), expected, atol=1e-6)
    np.testing.assert_allclose(encoder(IMAGES / np.float32(255)), expected, atol=1e-6)
    trained = copy_encoder(backbone)(IMAGES, training=True)  # moves statistics
    np.testing.assert_allclose(encoder(IMAGES, training=True), trained, atol=1e-5)
    assert encoder.image_shape == (8, 8, 3) and encoder.feature_dim == 8
    assert len(encoder.trainable_variables) == len(backbone.trainable_variables)


def test_a_run_keeps_the_map(written):
    backbone, folder = written
    encoder = load_encoder(folder / "run")
    np.testing.assert_allclose(encoder.feature_map(IMAGES), backbone.feature_map(IMAGES), atol=1e-6)


def test_models_pass(written):
    backbone, _ = written
    assert load_encoder(backbone) is backbone
    assert load_encoder(keras_ssl.SimCLR(backbone)) is backbone


def test_training_goes_on_from_a_file(written):
    model = keras_ssl.create("simclr", backbone=load_encoder(written[1] / "run"), input_shape=None)
    before = model.backbone.get_weights()[0].copy()
    model.fit(toys.images(16), batch_size=8, epochs=1, verbose=0)
    assert not np.array_equal(before, model.backbone.get_weights()[0])


def test_a_saved_model_is_not_unwrapped(written):
    with pytest.raises(ValueError, match="SavedModel, which is one piece"):
        keras_ssl.backbones.unwrap(load_encoder(written[1] / "saved"))


def test_a_stage_is_exported_alone(written, tmp_path):
    backbone, _ = written
    names = list(keras_ssl.backbones.stages(backbone))
    path = keras_ssl.export_encoder(backbone, tmp_path / "stage.keras", layer=names[0])
    expected = keras_ssl.backbones.until(backbone, names[0])(IMAGES)
    np.testing.assert_allclose(
        keras.models.load_model(path)(IMAGES / np.float32(255)), expected, atol=1e-6
    )


def test_a_saved_model_does_not_become_a_keras_file(written, tmp_path):
    encoder = load_encoder(written[1] / "saved")
    with pytest.raises(ValueError, match="cannot become a .keras file"):
        keras_ssl.export_encoder(encoder, tmp_path / "e.keras")
    copy = keras_ssl.export_encoder(encoder, tmp_path / "again")
    np.testing.assert_allclose(load_encoder(copy)(IMAGES), encoder(IMAGES), atol=1e-6)


def refused(path, *parts, **options):
    with pytest.raises(ValueError) as raised:
        load_encoder(path, **options)
    assert all(part in str(raised.value) for part in parts), raised.value


def test_what_is_no_encoder_is_refused(tmp_path):
    refused(tmp_path / "absent", "run folder, a .keras file", "absent", "nothing")
    refused(tmp_path, "a folder without")
    (tmp_path / "e.h5").write_text("")
    refused(tmp_path / "e.h5", "another file")
    refused(3, "`path` must be", "int")
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    refused(run, "has no encoder yet", "Repeat its command")
    (tmp_path / "saved_model.pb").write_bytes(b"damaged")
    refused(tmp_path, "is no SavedModel of an encoder")


def test_damaged_files_code_and_other_versions_are_named(tmp_path):
    path = tmp_path / "e.keras"
    path.write_bytes(b"PK damaged")
    refused(path, "is no whole .keras file")

    images = keras.Input((8, 8, 3))
    keras.Model(images, keras.layers.Lambda(lambda x: x + 1)(images)).save(path)
    refused(path, "brings code of its own", "--allow_code")
    assert load_encoder(path, allow_code=True).feature_dim == 3

    toys.tiny_backbone().to_functional().save(path)
    changed = tmp_path / "changed.keras"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "metadata.json":
                content = json.dumps({"keras_version": "4.1.0", "date_saved": ""})
            if name == "config.json":
                content = content.replace(b'"Conv2D"', b'"Conv9D"')
            new.writestr(name, content)
    refused(changed, "written with Keras 4.1.0", "registered")
