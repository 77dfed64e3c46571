"""Block B15: simple recurrent units (T. Lei et al., EMNLP 2018, first version) and DSVE's text tower made of them.

A layer's matrix products are done for all tokens at once; only the elementwise recurrence goes from token to token,
and it is written out, so that a graph holds no loop. Golden: 57,811,200 parameters and as many multiply-adds a token.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .unit_norm import unit_norm

WORD = 620
TOKENS = 32
EMBEDDING = 2400
LAYERS = 4


class SruLayer(nn.Module):
    """float32 ``[B, L, inputs]`` to ``[B, L, hidden]``.

    f = sigmoid(W_f x + b_f), r = sigmoid(W_r x + b_r), c_t = f * c_(t-1) + (1 - f) * W x, h = r * tanh(c) + (1 - r) *
    skip; skip is x, or W_h x where the sizes differ. ``linear`` holds W, W_f, W_r and W_h below each other, ``bias`` is
    ``[2, hidden]``: b_f, b_r.

    Args:
        dropout: in training, share of the values of x that the products do not see, the same ones at all tokens.
        hidden_dropout: the same of tanh(c).
    """

    def __init__(self, inputs: int, hidden: int, dropout: float = 0.0, hidden_dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.hidden_dropout = hidden_dropout
        self.linear = nn.Linear(inputs, hidden * (3 if inputs == hidden else 4), bias=False)
        self.bias = nn.Parameter(torch.zeros(2, hidden))
        nn.init.uniform_(self.linear.weight, -math.sqrt(3 / inputs), math.sqrt(3 / inputs))

    def forward(self, x: Tensor) -> Tensor:
        """The hidden states of all tokens."""
        products = self.linear(_drop(x, self.dropout, self.training)).split(self.bias.shape[1], 2)
        forget = torch.sigmoid(products[1] + self.bias[0])
        reset = torch.sigmoid(products[2] + self.bias[1])
        fresh = (1 - forget) * products[0]
        skip = products[3] if len(products) == 4 else x
        kept, added = forget.split(1, 1), fresh.split(1, 1)
        states = [added[0]]
        for step in range(1, x.shape[1]):
            states.append(kept[step] * states[-1] + added[step])
        seen = _drop(torch.tanh(torch.cat(states, 1)), self.hidden_dropout, self.training)
        return reset * seen + (1 - reset) * skip


def _drop(x: Tensor, share: float, training: bool) -> Tensor:
    """Dropout with one mask for all tokens of ``[B, L, D]``."""
    return x * F.dropout(torch.ones_like(x[:, :1]), share) if training and share > 0 else x


class SruStack(nn.Module):
    """Word vectors to the embedding of a text: the last word's state in the last layer, of length one.

    Args:
        width: multiplies the embedding's 2,400; the word vectors keep their 620.
        dropout: 0.25 is DSVE's.
    """

    def __init__(self, width: float = 1.0, *, dropout: float = 0.25) -> None:
        super().__init__()
        self.features = max(8, round(EMBEDDING * width))
        sizes = [WORD] + [self.features] * LAYERS
        self.layers = nn.ModuleList(
            SruLayer(sizes[i], sizes[i + 1], dropout, dropout if i + 1 < LAYERS else 0.0) for i in range(LAYERS)
        )

    def forward(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
        """``tokens`` ``[B, L, 620]``; ``token_mask`` ``[B, L]``: ones for the words, then zeros. The embedding
        ``[B, features]``; zeros where the mask is all zero."""
        states = tokens
        for layer in self.layers:
            states = layer(states)
        # 1 at the last word alone: what comes after it changes nothing.
        last = token_mask - F.pad(token_mask[:, 1:], (0, 1))
        return unit_norm((states * last.unsqueeze(2)).sum(1))


class NeutralEmbedding(nn.Module):
    """What stands for a text where there is none.

    Attributes:
        embedding: ``[features]``, zero until it is fitted: the mean over the training texts.
    """

    embedding: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("embedding", torch.zeros(features))

    def forward(self, texts: Tensor, token_mask: Tensor) -> Tensor:
        """Embeddings ``[B, features]``, zeros for those without a word, and the words' mask ``[B, L]``."""
        return texts + (1 - token_mask[:, :1]) * self.embedding

    @torch.no_grad()
    def fit(self, texts: Tensor) -> None:
        """Take the mean of embeddings ``[N, features]``; rows without a word do not count."""
        known = texts[texts.norm(dim=1) > 0.5]
        if len(known):
            self.embedding.copy_(known.mean(0))
