"""A generative adversarial network: two models, two optimizers, one step of one's own.

Shows `make_step`: where one loss and one optimizer do not describe the training, the step itself is
measured. Memory and throughput come out; gradient noise is left out, and the output says why.

    bsadvisor probe examples/gan.py
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

LATENT = 32
WIDTH = 32


def make_generator() -> nn.Module:
    """Return the network from noise of LATENT×1×1 to images of 1×16×16."""
    return nn.Sequential(
        nn.ConvTranspose2d(LATENT, 2 * WIDTH, 4),
        nn.BatchNorm2d(2 * WIDTH),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * WIDTH, WIDTH, 4, stride=2, padding=1),
        nn.BatchNorm2d(WIDTH),
        nn.ReLU(),
        nn.ConvTranspose2d(WIDTH, 1, 4, stride=2, padding=1),
        nn.Tanh(),
    )


def make_discriminator() -> nn.Module:
    """Return the network from images of 1×16×16 to one logit."""
    return nn.Sequential(
        nn.Conv2d(1, WIDTH, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(WIDTH, 2 * WIDTH, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(2 * WIDTH, 1, 4),
        nn.Flatten(0),
    )


def make_step(batch_size: int, device: torch.device) -> Callable[[], Tensor]:
    """Return a function that trains both networks for one step."""
    generator, discriminator = make_generator().to(device), make_discriminator().to(device)
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999))
        for network in (generator, discriminator)
    ]
    real = torch.randn(batch_size, 1, 16, 16, device=device).sign()  # stands in for the data
    ones, zeros = torch.ones(batch_size, device=device), torch.zeros(batch_size, device=device)
    loss_of = functional.binary_cross_entropy_with_logits

    def step() -> Tensor:
        images = generator(torch.randn(batch_size, LATENT, 1, 1, device=device))
        optimizers[1].zero_grad()
        judged = loss_of(discriminator(real), ones) + loss_of(discriminator(images.detach()), zeros)
        judged.backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        loss_of(discriminator(images), ones).backward()
        optimizers[0].step()
        return judged.detach()

    return step
