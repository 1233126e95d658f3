from keras_ssl.ops.names import near

NAMES = ("moco", "simclr", "simsiam", "vae")


def test_similar_names_come_first_then_all():
    assert near("SimCRL", NAMES) == " Did you mean 'simclr'? Known: moco, simclr, simsiam, vae."
    assert near("mocov2", NAMES).startswith(" Did you mean 'moco'?")
    assert near("??", NAMES) == " Known: moco, simclr, simsiam, vae."


def test_long_lists_are_left_out():
    assert near("simclr2", NAMES, list_all=False) == " Did you mean 'simclr'?"
    assert near("??", NAMES, list_all=False) == ""
