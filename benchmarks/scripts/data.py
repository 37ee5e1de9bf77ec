"""Data of the right shape for scripts that would download theirs."""

import json
import pickle
import struct
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits


def make_letters(folder: Path) -> None:
    """Write nanoGPT's character data, of Python sources."""
    sources = sorted(Path(np.__file__).parent.rglob("*.py"))
    text = "".join(path.read_text(errors="ignore") for path in sources)
    text = "".join(letter for letter in text if letter.isascii())[:1_200_000]
    letters = sorted(set(text))
    numbers = {letter: number for number, letter in enumerate(letters)}
    ids = np.array([numbers[letter] for letter in text], dtype=np.uint16)
    cut = int(0.9 * len(ids))
    place = folder / "data" / "shakespeare_char"
    ids[:cut].tofile(place / "train.bin")
    ids[cut:].tofile(place / "val.bin")
    meta = {"vocab_size": len(letters), "itos": dict(enumerate(letters)), "stoi": numbers}
    (place / "meta.pkl").write_bytes(pickle.dumps(meta))


def make_mnist(root: Path, *others: Path) -> None:
    """Write scikit-learn's digits, enlarged, moved and with noise, in MNIST's files."""
    for other in others:
        make_mnist(other)
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    images, labels = load_digits(return_X_y=True)
    large = images.reshape(-1, 8, 8).repeat(3, 1).repeat(3, 2) * 15.9
    generator = np.random.default_rng(0)
    for name, count in (("train", 60000), ("t10k", 10000)):
        chosen = generator.integers(0, len(large), count)
        made = generator.integers(0, 60, (count, 28, 28)).astype(np.float32)
        for index, (row, column) in enumerate(generator.integers(0, 5, (count, 2))):
            made[index, row : row + 24, column : column + 24] += large[chosen[index]]
        body = made.clip(0, 255).astype(np.uint8).tobytes()
        head = struct.pack(">IIII", 0x803, count, 28, 28)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(head + body)
        targets = labels[chosen].astype(np.uint8).tobytes()
        head = struct.pack(">II", 0x801, count)
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(head + targets)


def make_instructions(folder: Path) -> None:
    """Write a small GPT-2 without training, a tokenizer of bytes, and sums to learn."""
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

    place = folder / "small"
    place.mkdir(exist_ok=True)
    letters = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256))]
    letters += [chr(256 + number) for number in range(256 - len(letters))]
    vocabulary = {letter: number for number, letter in enumerate([*letters, "<|endoftext|>"])}
    (place / "vocab.json").write_text(json.dumps(vocabulary))
    (place / "merges.txt").write_text("#version: 0.2\n")
    GPT2Tokenizer(str(place / "vocab.json"), str(place / "merges.txt")).save_pretrained(place)
    config = GPT2Config(vocab_size=len(vocabulary), n_positions=256, n_embd=64, n_layer=2, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(place)
    generator = np.random.default_rng(0)
    sums = [
        {"instruction": "Add.", "input": f"{one} {other}", "output": str(one + other)}
        for one, other in generator.integers(0, 50, (4000, 2)).tolist()
    ]
    (folder / "sums.json").write_text(json.dumps(sums))
