"""Prompts to embeddings for the Stable Diffusion families, of any length, one prompt at a time.

A prompt longer than the text encoder's window is cut into windows of (model_max_length - 2) tokens, each
encoded by itself and concatenated along the sequence, as A1111 does. Prompts are encoded one by one, so
that a picture does not depend on its neighbours in a batch.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

_KEPT = 64


@dataclass(frozen=True, slots=True)
class Embedding:
    """sequence: (1, tokens, features); pooled: (1, features), for the families that take one."""

    sequence: torch.Tensor
    pooled: torch.Tensor | None = None


Windows: TypeAlias = list[list[int]]


class PromptEncoder:
    """Encodes with all of a pipeline's text encoders (two in SDXL), keeping the last few results."""

    def __init__(self, pipe: Any) -> None:
        pairs = [(pipe.tokenizer, pipe.text_encoder)]
        self._twofold = getattr(pipe, "text_encoder_2", None) is not None
        if self._twofold:
            pairs.append((pipe.tokenizer_2, pipe.text_encoder_2))
        self._pairs = [(tokenizer, encoder) for tokenizer, encoder in pairs if encoder is not None]
        self._zeros = self._twofold and bool(pipe.config.get("force_zeros_for_empty_prompt", False))
        self._cache: OrderedDict[tuple[str, int, bool], Embedding] = OrderedDict()

    def windows(self, text: str) -> int:
        """How many windows a prompt takes, at least 1."""
        return max(len(self._cut(tokenizer, text)) for tokenizer, _ in self._pairs)

    def encode(self, text: str, windows: int, *, negative: bool = False) -> Embedding:
        """The embedding of a prompt, filled up with empty windows to `windows`."""
        key = (text, windows, negative)
        if key not in self._cache:
            self._cache[key] = self._encode(text, windows, negative=negative)
            if len(self._cache) > _KEPT:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]

    def _encode(self, text: str, windows: int, *, negative: bool) -> Embedding:
        parts: list[torch.Tensor] = []
        pooled: torch.Tensor | None = None
        with torch.no_grad():
            for tokenizer, encoder in self._pairs:
                sequence, pooled = self._run(encoder, self._fill(tokenizer, text, windows))
                parts.append(sequence)
        result = Embedding(torch.cat(parts, dim=-1), pooled if self._twofold else None)
        if negative and self._zeros and not text:
            return Embedding(torch.zeros_like(result.sequence), torch.zeros_like(_given(result.pooled)))
        return result

    def _run(self, encoder: Any, ids: Windows) -> tuple[torch.Tensor, torch.Tensor | None]:
        tokens = torch.tensor(ids, device=encoder.device)
        if not self._twofold:
            hidden = encoder(tokens)[0]
            return hidden.reshape(1, -1, hidden.shape[-1]), None
        output = encoder(tokens, output_hidden_states=True)
        hidden = output.hidden_states[-2]
        pooled = output[0][:1] if output[0].ndim == 2 else None
        return hidden.reshape(1, -1, hidden.shape[-1]), pooled

    def _fill(self, tokenizer: Any, text: str, windows: int) -> Windows:
        bodies = self._cut(tokenizer, text)
        bodies += [[]] * (windows - len(bodies))
        size = tokenizer.model_max_length
        rows = [[tokenizer.bos_token_id, *body, tokenizer.eos_token_id] for body in bodies]
        return [row + [tokenizer.pad_token_id] * (size - len(row)) for row in rows]

    def _cut(self, tokenizer: Any, text: str) -> Windows:
        ids: Sequence[int] = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        size = tokenizer.model_max_length - 2
        count = max(1, math.ceil(len(ids) / size))
        return [list(ids[size * i : size * (i + 1)]) for i in range(count)]


def _given(tensor: torch.Tensor | None) -> torch.Tensor:
    if tensor is None:
        raise ValueError("the text encoder gave no pooled output")
    return tensor
