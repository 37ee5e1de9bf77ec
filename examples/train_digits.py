"""A script as people write them: arguments, a scheduler, clipping, evaluation, a checkpoint.

Run as it is, or measured from inside without a change:

    python examples/train_digits.py --batch-size 64
    bsadvisor probe examples/train_digits.py -- --batch-size {batch_size} --lr {learning_rate}
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset, random_split


def parse_arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.5)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", default="digits.pt")
    return parser.parse_args()


def load_data(seed: int) -> tuple[TensorDataset, TensorDataset]:
    """Return the images for training and those for evaluation."""
    images, labels = load_digits(return_X_y=True)
    inputs = torch.as_tensor(images, dtype=torch.float32) / 16
    data = TensorDataset(inputs, torch.as_tensor(labels, dtype=torch.int64))
    train, held_out = random_split(data, [1500, 297], torch.Generator().manual_seed(seed))
    return train, held_out


def evaluate(model: nn.Module, loader: DataLoader) -> float:
    """Return the share of images that are recognised."""
    model.eval()
    with torch.no_grad():
        right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in loader)
    model.train()
    return right / len(loader.dataset)


def main() -> None:
    """Train, evaluate after each epoch, and save."""
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    train, held_out = load_data(arguments.seed)
    loader = DataLoader(train, arguments.batch_size, shuffle=True, drop_last=True)
    held_out_loader = DataLoader(held_out, 256)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=arguments.lr, momentum=0.5)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, arguments.epochs * len(loader)
    )
    for epoch in range(arguments.epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(images), labels)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
        print(f"epoch {epoch}: {evaluate(model, held_out_loader):.3f} recognised")
    torch.save(model.state_dict(), arguments.save)


if __name__ == "__main__":
    main()
