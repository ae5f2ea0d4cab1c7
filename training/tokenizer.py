"""The tokenizer: byte-pair encoding learnt from the captions, in CLIP's format."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from training.captions import caption
from training.mix import draw

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 40
VOCABULARY = 1000


def train(seed: int = 0, captions: int = 20_000) -> CLIPTokenizer:
    """Learn merges until every word of the grammar is one token."""
    random = Random(seed)
    texts = [caption(draw(random, 128, 128), random) for _ in range(captions)]
    inner = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    inner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    model = json.loads(inner.to_str())["model"]
    vocabulary = dict(model["vocab"])
    for letter in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary.setdefault(f"{letter}</w>", len(vocabulary))
    merges = [tuple(pair) for pair in model["merges"]]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)


def load(folder: Path) -> CLIPTokenizer:
    """The tokenizer saved under `folder`/tokenizer."""
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    return tokenizer
