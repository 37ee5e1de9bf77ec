"""The image models of benchmarks/data/a100_vision_memory.csv; needs torchvision."""

import sys

import torch

try:
    import torchvision
except RuntimeError:  # a build for CUDA beside a torch without: its own operators do not load
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        del sys.modules[name]
    #: It registers shapes for these two while it is imported; no model here uses them.
    OPERATORS = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        OPERATORS.define(f"{name}(Tensor boxes, Tensor scores, float limit) -> Tensor")
    import torchvision

CLASSES = 1000
#: What the timm models that were measured do not have.
WITHOUT = {"inception_v3": {"aux_logits": False, "init_weights": False}}


def make_model(name: str = "resnet18", library: str = "torchvision", cudnn_benchmark: bool = True):
    """Return the model, untrained: timm's, which was measured, or its twin of torchvision.

    timm's training script has cuDNN try its algorithms; the data set does not say.
    """
    torch.backends.cudnn.benchmark = cudnn_benchmark
    if library == "timm":
        import timm

        return timm.create_model(name, num_classes=CLASSES)
    return torchvision.models.get_model(name, weights=None, **WITHOUT.get(name, {}))


def make_optimizer(model):
    """Return SGD with momentum."""
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def make_batch(batch_size, image_size: int = 224):
    """Return random images and classes."""
    images = torch.randn(batch_size, 3, image_size, image_size)
    return images, torch.randint(0, CLASSES, (batch_size,))
