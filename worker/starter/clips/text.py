"""Tokenizer and text encoder of the video starter, and the encoder's minutes of schooling.

A unigram tokenizer as T5 has it, and UMT5 in small. A fresh encoder says nothing for thousands of
steps, so it first learns from captions alone to tell the attributes of a scene.
"""

from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from worker.starter.clips.scenes import (
    COLOURS,
    GROUNDS,
    MOTIONS,
    THINGS,
    TIMES,
    MovingScene,
    make_scenes,
    sample_scene,
    training_caption,
)
from worker.starter.text import UNSAID, WIDTH, AttributeHead, share_right
from worker.starter.vocabulary import filler_tags, ordinary_tags

MAX_TOKENS = 64
"""Text states are padded to so many with zeros, as Wan pads them to 512."""
VOCABULARY_SIZE = 2500
_PAD, _END, _UNKNOWN = "<pad>", "</s>", "<unk>"
_CHOICES: dict[str, tuple[str, ...]] = {
    "thing": THINGS,
    "colour": COLOURS,
    "motion": MOTIONS,
    "ground": GROUNDS,
    "time": TIMES,
}
_BATCH = 64


def train_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Writes the tokenizer's files to `folder` and returns it."""
    rng = Random(0)
    captions = [training_caption(sample_scene(rng), rng) for _ in range(2000)]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[_PAD, _END, _UNKNOWN],
        unk_token=_UNKNOWN,
        show_progress=False,
    )
    tokenizer.train_from_iterator([*ordinary_tags(), *captions], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {_END}", special_tokens=[(_END, tokenizer.token_to_id(_END))]
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=_PAD,
        eos_token=_END,
        unk_token=_UNKNOWN,
        model_max_length=MAX_TOKENS,
    )
    wrapped.save_pretrained(folder)
    return wrapped


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer that `train_tokenizer` wrote."""
    return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)


def build_text_encoder(tokenizer: PreTrainedTokenizerFast) -> UMT5EncoderModel:
    """A fresh UMT5 encoder, 128 wide, 2 layers, 0.6 M parameters."""
    config = UMT5Config(
        vocab_size=len(tokenizer),
        d_model=WIDTH,
        d_kv=32,
        d_ff=256,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
    )
    return UMT5EncoderModel(config)


def text_states(
    encoder: UMT5EncoderModel, tokenizer: PreTrainedTokenizerFast, captions: list[str]
) -> torch.Tensor:
    """(n, 64, width), zero behind each caption's end."""
    batch = tokenizer(
        captions, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
    )
    # Only as wide as the longest caption: the zeros need no encoder.
    longest = int(batch.attention_mask.sum(dim=1).max())
    mask = batch.attention_mask[:, :longest]
    states = encoder(batch.input_ids[:, :longest], mask).last_hidden_state
    return F.pad(states * mask[..., None], (0, 0, 0, MAX_TOKENS - longest))


def _targets(scenes: list[MovingScene], captions: list[str]) -> dict[str, torch.Tensor]:
    """Class numbers per attribute; what a caption leaves unsaid does not count."""
    targets = {}
    for name, choices in _CHOICES.items():
        numbers = [
            choices.index(getattr(scene, name)) if getattr(scene, name) in caption else UNSAID
            for scene, caption in zip(scenes, captions, strict=True)
        ]
        targets[name] = torch.tensor(numbers)
    return targets


def school_text_encoder(
    encoder: UMT5EncoderModel, tokenizer: PreTrainedTokenizerFast, steps: int = 500
) -> float:
    """Trains the encoder on captions alone; returns the last share of right answers."""
    torch.manual_seed(1)
    head, rng, fillers = AttributeHead(_CHOICES), Random(1), filler_tags()
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=2e-3)
    scenes = make_scenes(8000, seed=2)
    right = 0.0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 50) * (1 - step / steps)
        batch = rng.sample(scenes, _BATCH)
        captions = [training_caption(scene, rng, fillers) for scene in batch]
        logits, targets = head(text_states(encoder, tokenizer, captions)), _targets(batch, captions)
        losses = [F.cross_entropy(logits[n], target, ignore_index=UNSAID) for n, target in targets.items()]
        torch.stack(losses).sum().backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 49:
            right = share_right(logits, targets)
            print(f"text {step + 1} right {right:.3f}", flush=True)
    return right
