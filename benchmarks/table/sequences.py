"""Small models on sequences and tables: LSTM, GPT (also checkpointed), BERT, experts, CTC, ..."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

WORDS, LENGTH, WIDTH = 4000, 128, 256
EXPERTS = 4


def make_words(batch_size: int) -> tuple[Tensor, Tensor]:
    """Return words and the next ones; which does not matter."""
    words = torch.zeros(batch_size, LENGTH + 1, dtype=torch.long)
    return words[:, :-1].contiguous(), words[:, 1:].contiguous()


def lose_words(output: Tensor, batch: tuple[Tensor, ...]) -> Tensor:
    """Return the cross-entropy over all places."""
    return functional.cross_entropy(output.flatten(0, 1), batch[1].flatten())


def make_mlp() -> nn.Module:
    """Return a perceptron."""
    layers = [nn.Linear(512, 2048), nn.ReLU(), nn.Linear(2048, 2048), nn.GELU()]
    return nn.Sequential(*layers, nn.LayerNorm(2048), nn.Dropout(0.1), nn.Linear(2048, 1000))


def make_rows(batch_size: int) -> tuple[Tensor, Tensor]:
    """Return rows of a table with a class each."""
    return torch.zeros(batch_size, 512), torch.zeros(batch_size, dtype=torch.long)


class Lstm(nn.Module):
    """A language model of two LSTM layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, WIDTH)
        self.layers = nn.LSTM(WIDTH, WIDTH, 2, batch_first=True)
        self.head = nn.Linear(WIDTH, WORDS)

    def forward(self, words: Tensor) -> Tensor:
        """Return the scores of the next word at each place."""
        return self.head(self.layers(self.embedding(words))[0])


class Block(nn.Module):
    """Causal attention and a perceptron, or experts in its place."""

    def __init__(self, *, has_experts: bool = False) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)])
        self.projection, self.output = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        wide = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH), nn.Dropout(0.1)
        )
        self.perceptron = Experts() if has_experts else wide

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the hidden states after the block."""
        parts = self.projection(self.norms[0](hidden)).chunk(3, dim=-1)
        heads = (part.unflatten(-1, (4, -1)).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(*heads, is_causal=True)
        hidden = hidden + self.output(mixed.transpose(1, 2).flatten(2))
        return hidden + self.perceptron(self.norms[1](hidden))


class Experts(nn.Module):
    """Each word goes to one of four perceptrons, as many to each: a place for each word."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(WIDTH, EXPERTS)
        self.first = nn.Parameter(torch.zeros(EXPERTS, WIDTH, 2 * WIDTH))
        self.second = nn.Parameter(torch.zeros(EXPERTS, 2 * WIDTH, WIDTH))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return what the experts say, times the router's trust in them."""
        words = hidden.flatten(0, 1)
        trust = self.router(words).softmax(dim=-1)
        order = trust.amax(dim=-1).argsort().view(EXPERTS, -1)
        taken = words[order]
        said = torch.bmm(functional.gelu(torch.bmm(taken, self.first)), self.second)
        back = torch.zeros_like(words).index_copy(
            0, order.flatten(), said.flatten(0, 1).to(words.dtype)
        )
        return (back * trust.amax(dim=-1, keepdim=True)).view_as(hidden)


class Gpt(nn.Module):
    """A language model of four blocks."""

    def __init__(self, *, is_checkpointed: bool = False, has_experts: bool = False) -> None:
        super().__init__()
        self.embedding, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList(Block(has_experts=has_experts) for _ in range(4))
        self.norm = nn.LayerNorm(WIDTH)
        self.is_checkpointed = is_checkpointed

    def forward(self, words: Tensor) -> Tensor:
        """Return the scores of the next word at each place."""
        places = torch.arange(words.shape[1], device=words.device)
        hidden = self.embedding(words) + self.places(places)
        for block in self.blocks:
            if self.is_checkpointed:
                hidden = checkpoint(block, hidden, use_reentrant=False)
            else:
                hidden = block(hidden)
        return self.norm(hidden) @ self.embedding.weight.t()


class Bert(nn.Module):
    """Torch's own encoder under a padding mask, with the words as targets."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, 0.1, "gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, WORDS)

    def forward(self, words: Tensor) -> Tensor:
        """Return the scores of the word at each place."""
        hidden = self.layers(self.embedding(words), src_key_padding_mask=words == 1)
        return self.head(hidden)


class Recogniser(nn.Module):
    """Convolutions and a GRU over frames of sound, to letters."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv1d(80, WIDTH, 3, padding=1), nn.BatchNorm1d(WIDTH), nn.ReLU(),
            nn.Conv1d(WIDTH, WIDTH, 3, 2, 1), nn.ReLU(),
        )  # fmt: skip
        self.layers = nn.GRU(WIDTH, WIDTH, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * WIDTH, 40)

    def forward(self, frames: Tensor) -> Tensor:
        """Return the logarithms of the letters' probabilities, letters in the middle."""
        hidden = self.convolutions(frames).transpose(1, 2)
        return self.head(self.layers(hidden)[0]).transpose(1, 2).log_softmax(dim=1)


def make_sounds(batch_size: int) -> tuple[Tensor, Tensor]:
    """Return frames of sound with the letters that are said."""
    return torch.zeros(batch_size, 80, 400), torch.ones(batch_size, 30, dtype=torch.long)


def lose_letters(output: Tensor, batch: tuple[Tensor, ...]) -> Tensor:
    """Return the loss by connectionist temporal classification."""
    size = len(output)
    lengths = [torch.full((size,), length, dtype=torch.long) for length in (200, 30)]
    return functional.ctc_loss(output.permute(2, 0, 1).float(), batch[1], *lengths)


class Tables(nn.Module):
    """Many features, each a bag in a large table, and a small perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.EmbeddingBag(100_000, 64, mode="sum") for _ in range(4))
        self.head = nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Return a score."""
        pairs = zip(self.tables, features.unbind(1), strict=True)
        return self.head(torch.cat([table(bag) for table, bag in pairs], dim=1))[:, 0]


def make_features(batch_size: int) -> tuple[Tensor, Tensor]:
    """Return bags of features with a click each."""
    return torch.zeros(batch_size, 4, 8, dtype=torch.long), torch.zeros(batch_size)
