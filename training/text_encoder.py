"""The text encoder (CLIPTextModel, 3 layers of 128), trained to name a scene's slots.

A slot is one fact of the scene (the background's colour, the second thing's shape, the time of
day). Once the average of the encoder's outputs gives every slot, the diffusion model finds in it
all that a caption says, and the encoder can stay fixed while the diffusion model trains.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training import tokenizer as tokenizers
from training.captions import caption
from training.landscapes import GROUNDS, RELIEFS, TIMES, Landscape
from training.mix import AnyScene, draw_training
from training.palette import NAMES
from training.scenes import PLACES, RELATIONS, SIZES
from training.shapes import SHAPES

WIDTH = 128
IGNORED = -100
SLOTS: dict[str, int] = {
    "kind": 3,
    "background": len(NAMES),
    **{f"{slot}{i}": n for i in (0, 1) for slot, n in (("shape", 8), ("colour", 12), ("size", 3))},
    "place": len(PLACES),
    "relation": len(RELATIONS),
    "time": len(TIMES),
    "ground": len(GROUNDS),
    "relief": len(RELIEFS),
    **dict.fromkeys(("sun", "moon", "stars", "clouds"), 2),
    "house": len(NAMES) + 1,
    "trees": 4,
    "boat": len(NAMES) + 1,
}


def slots(scene: AnyScene) -> dict[str, int]:
    """The class of each slot that the scene has."""
    if isinstance(scene, Landscape):
        return _landscape_slots(scene)
    found = {"kind": len(scene.things) - 1, "background": NAMES.index(scene.background)}
    for i, thing in enumerate(scene.things):
        found[f"shape{i}"] = SHAPES.index(thing.shape)
        found[f"colour{i}"] = NAMES.index(thing.colour)
        found[f"size{i}"] = SIZES.index(thing.size)
    if scene.relation is None:
        found["place"] = PLACES.index(scene.place or "middle")
    else:
        found["relation"] = RELATIONS.index(scene.relation)
    return found


def _landscape_slots(scene: Landscape) -> dict[str, int]:
    return {
        "kind": 2,
        "time": TIMES.index(scene.time),
        "ground": GROUNDS.index(scene.ground),
        "relief": RELIEFS.index(scene.relief),
        "sun": int(scene.sun),
        "moon": int(scene.moon),
        "stars": int(scene.stars),
        "clouds": int(scene.clouds),
        "house": NAMES.index(scene.house) + 1 if scene.house else 0,
        "trees": scene.trees,
        "boat": NAMES.index(scene.boat) + 1 if scene.boat else 0,
    }


def _turned(scene: AnyScene) -> AnyScene:
    """The same scene with the relation said from the side that is left or above.

    "A right of B" and "B left of A" are one picture; the slots need one way to say it.
    """
    if isinstance(scene, Landscape) or scene.relation in (None, "left", "above"):
        return scene
    opposite = "left" if scene.relation == "right" else "above"
    things = (scene.things[1], scene.things[0])
    return type(scene)(scene.width, scene.height, scene.background, things, None, opposite)


def build(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained text encoder of 0.7 M parameters."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=tokenizers.MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def ids(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids (len(captions), MAX_TOKENS), padded as the pipeline pads."""
    encoded = tokenizer(
        captions,
        padding="max_length",
        max_length=tokenizers.MAX_TOKENS,
        truncation=True,
        return_tensors="pt",
    )
    found: Tensor = encoded.input_ids
    return found


class Reader(nn.Module):
    """Slot logits from the mean of the encoder's outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(WIDTH, n) for name, n in SLOTS.items()})

    def forward(self, hidden: Tensor) -> dict[str, Tensor]:
        """Hidden states (batch, tokens, WIDTH) to logits (batch, classes) per slot."""
        pooled = hidden.mean(dim=1)
        return {name: head(pooled) for name, head in self.heads.items()}


def _examples(tokenizer: CLIPTokenizer, random: Random, count: int) -> tuple[Tensor, dict[str, Tensor]]:
    drawn = [draw_training(random, 128, 128) for _ in range(count)]
    told = [caption(scene, random) for scene in drawn]
    found = [slots(_turned(scene)) for scene in drawn]
    labels = {name: torch.tensor([f.get(name, IGNORED) for f in found]) for name in SLOTS}
    return ids(tokenizer, told), labels


def train(folder: Path, minutes: float, seed: int = 0) -> CLIPTextModel:
    """Train the tokenizer and the encoder, and save both under `folder`."""
    torch.manual_seed(seed)
    random = Random(seed)
    tokenizer = tokenizers.train(seed)
    tokenizer.save_pretrained(folder / "tokenizer")
    model, reader = build(tokenizer), Reader()
    weights = [*model.parameters(), *reader.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.01)
    start, step = time.monotonic(), 0
    while (share := (time.monotonic() - start) / (minutes * 60)) < 1:
        tokens, labels = _examples(tokenizer, random, 128)
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * share))
        logits = reader(model(tokens).last_hidden_state)
        loss = torch.stack(
            [
                functional.cross_entropy(logits[name], target, ignore_index=IGNORED)
                for name, target in labels.items()
                if (target != IGNORED).any()
            ]
        ).sum()
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward([loss])
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        step += 1
        if step % 200 == 0:
            print(f"text encoder {step} {share:.2f} loss {loss.item():.3f}", flush=True)
    _report(model, reader, *_examples(tokenizer, random, 1000))
    model.save_pretrained(folder / "text_encoder", safe_serialization=True)
    return model


@torch.no_grad()
def _report(model: CLIPTextModel, reader: Reader, tokens: Tensor, labels: dict[str, Tensor]) -> None:
    logits = reader.eval()(model.eval()(tokens).last_hidden_state)
    for name, target in labels.items():
        asked = target != IGNORED
        right = (logits[name].argmax(-1) == target)[asked].float().mean().item()
        print(f"text encoder slot {name:10s} {right:.3f}", flush=True)
