"""Small models on images, one of each kind: residual, U-Net, vision transformer, detection."""

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES, ANCHORS, SIDE = 100, 4, 64


def make_images(batch_size: int) -> Tensor:
    """Return images; their values do not matter."""
    return torch.zeros(batch_size, 3, SIDE, SIDE)


def make_labelled(batch_size: int) -> tuple[Tensor, Tensor]:
    """Return images with a class each."""
    return make_images(batch_size), torch.zeros(batch_size, dtype=torch.long)


class Residual(nn.Module):
    """Two convolutions with batch normalization beside a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)])
        self.shortcut = nn.Sequential(
            nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
        )
        self.act = nn.ReLU(inplace=True)

    def forward(self, source: Tensor) -> Tensor:
        """Return the sum of both ways."""
        hidden = self.act(self.norms[0](self.first(source)))
        return self.act(self.norms[1](self.second(hidden)) + self.shortcut(source))


def make_resnet() -> nn.Module:
    """Return a residual network that classifies."""
    stem = [nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True)]
    blocks = [Residual(32, 32, 1), Residual(32, 64, 2), Residual(64, 128, 2)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, CLASSES)]
    return nn.Sequential(*stem, nn.MaxPool2d(2), *blocks, *head)


def _double(channels_in: int, channels: int) -> nn.Module:
    layers = [nn.Conv2d(channels_in, channels, 3, padding=1), nn.GroupNorm(8, channels), nn.SiLU()]
    again = [nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(8, channels), nn.SiLU()]
    return nn.Sequential(*layers, *again)


class UNet(nn.Module):
    """Down three levels and up again, with skips, to a map of the input's size."""

    def __init__(self) -> None:
        super().__init__()
        widths = (16, 32, 64)
        self.down = nn.ModuleList(_double(a, b) for a, b in zip((3, 16, 32), widths, strict=True))
        self.middle = _double(64, 128)
        self.rise = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in (64, 32, 16))
        self.up = nn.ModuleList(_double(2 * w, w) for w in (64, 32, 16))
        self.head = nn.Conv2d(16, 8, 1)

    def forward(self, source: Tensor) -> Tensor:
        """Return a class score for each pixel."""
        kept, hidden = [], source
        for block in self.down:
            hidden = block(hidden)
            kept.append(hidden)
            hidden = functional.max_pool2d(hidden, 2)
        hidden = self.middle(hidden)
        for rise, block, skip in zip(self.rise, self.up, reversed(kept), strict=True):
            hidden = block(torch.cat([rise(hidden), skip], dim=1))
        return self.head(hidden)


def make_masks(batch_size: int) -> tuple[Tensor, Tensor]:
    """Return images with a class for each pixel."""
    return make_images(batch_size), torch.zeros(batch_size, SIDE, SIDE, dtype=torch.long)


class VisionTransformer(nn.Module):
    """Patches, a class token, four encoder layers of torch's own."""

    def __init__(self, width: int = 192) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(torch.zeros(1, 65, width))
        layer = nn.TransformerEncoderLayer(
            width, 6, 4 * width, 0.1, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores by the token."""
        hidden = self.patches(images).flatten(2).transpose(1, 2)
        hidden = torch.cat([self.token.expand(len(hidden), -1, -1), hidden], dim=1)
        return self.head(self.layers(hidden + self.places)[:, 0])


class Detector(nn.Module):
    """A pyramid of two levels, with boxes and classes for each anchor of both."""

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Sequential(_double(3, 32), nn.MaxPool2d(4), _double(32, 64))
        self.high = nn.Sequential(nn.MaxPool2d(2), _double(64, 64))
        self.boxes = nn.Conv2d(64, 4 * ANCHORS, 3, padding=1)
        self.classes = nn.Conv2d(64, 10 * ANCHORS, 3, padding=1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes and class scores, anchors one after the other."""
        low = self.low(images)
        high = self.high(low)
        merged = low + functional.interpolate(high, scale_factor=2.0, mode="nearest")
        boxes, classes = (
            torch.cat([head(level).flatten(2) for level in (merged, high)], dim=2)
            for head in (self.boxes, self.classes)
        )
        return boxes, classes


def make_boxes(batch_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return images with the box and the classes of each anchor."""
    places = 16 * 16 + 8 * 8
    boxes = torch.zeros(batch_size, 4 * ANCHORS, places)
    return make_images(batch_size), boxes, torch.zeros(batch_size, 10 * ANCHORS, places)


def lose_boxes(output: tuple[Tensor, Tensor], batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return the loss of boxes and classes."""
    boxes, classes = output
    wrong = functional.binary_cross_entropy_with_logits(classes, batch[2])
    return functional.smooth_l1_loss(boxes, batch[1]) + wrong
