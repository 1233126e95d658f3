"""The peer: SimCLR of lightly in PyTorch, as its documentation composes it."""

import pathlib
import re
import time


def _declare_missing_operators():
    """Let torchvision import without its compiled operators, of which none is used here."""
    import importlib.util

    import torch

    folder = pathlib.Path(importlib.util.find_spec("torchvision").submodule_search_locations[0])
    source = (folder / "_meta_registrations.py").read_text()
    library = torch.library.Library("torchvision", "DEF")
    for name in set(re.findall(r'register_meta\("(\w+)"', source)) | set(
        re.findall(r'torchvision::(\w+)"', source)
    ):
        library.define(f"{name}(Tensor a) -> Tensor")
    return library


def _transform(**options):
    """Lightly's transform for SimCLR."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        _KEPT.append(_declare_missing_operators())
        import torchvision  # noqa: F401
    from lightly.transforms import SimCLRTransform

    return SimCLRTransform(**options)


_KEPT = []  # declarations that torchvision needs as long as it is used


def _loader(images, batch_size, transform):
    """Batches of views, made by two workers."""
    import torch
    from PIL import Image

    class Images(torch.utils.data.Dataset):
        def __len__(self):
            return len(images)

        def __getitem__(self, index):
            return transform(Image.fromarray(images[index]))

    return torch.utils.data.DataLoader(
        Images(), batch_size, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True
    )


def views_per_second(images, batch_size, steps):
    """Views/s of lightly's transform for large images, at the images' size."""
    loader = _loader(images, batch_size, _transform(input_size=images.shape[1]))
    times = []
    while len(times) <= steps + 1:
        for _ in loader:
            times.append(time.perf_counter())
    return 2 * batch_size * steps / (times[-1] - times[-1 - steps])


def images_per_second(images, batch_size, steps, channels_last):
    """Images/s of ResNet-18 (CIFAR stem), end to end: lightly's transform in two workers, SGD."""
    import torch

    transform = _transform(input_size=32, gaussian_blur=0.0, cj_strength=0.5)
    import torchvision
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead

    resnet = torchvision.models.resnet18()
    resnet.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
    resnet.maxpool = torch.nn.Identity()
    resnet.fc = torch.nn.Identity()
    head = SimCLRProjectionHead(512, 512, 128)
    network = torch.nn.Sequential(resnet, head)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    loader = _loader(images, batch_size, transform)
    criterion, optimizer = (
        NTXentLoss(temperature=0.5),
        torch.optim.SGD(network.parameters(), lr=0.06),
    )
    times = []
    while len(times) <= steps + 1:
        for view0, view1 in loader:
            if channels_last:
                view0, view1 = (
                    v.contiguous(memory_format=torch.channels_last) for v in (view0, view1)
                )
            loss = criterion(network(view0), network(view1))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            times.append(time.perf_counter())
    return batch_size * steps / (times[-1] - times[-1 - steps])
