"""From a label as typed to the texts that are encoded. Torch-free but for the shuffling draws.

Encoded captions are cached, so shuffling works with a few fixed variants a picture, and dropping
a caption means taking the cached empty one.
"""

from worker.draws import Draws

VARIANTS = 8
"""Shuffled captions kept for each picture."""


def with_trigger(label: str, trigger: str, label_type: str) -> str:
    """The label with the trigger word in front, unless it is already in it."""
    label, trigger = label.strip(), trigger.strip()
    if not trigger:
        return label
    if label_type == "tag":
        tags = split_tags(label)
        rest = [tag for tag in tags if tag.lower() != trigger.lower()]
        return ", ".join([trigger, *rest])
    if trigger.lower() in label.lower():
        return label
    return f"{trigger} {label}".strip()


def split_tags(label: str) -> list[str]:
    """Tags of a comma list, trimmed, empty ones left out."""
    return [tag.strip() for tag in label.split(",") if tag.strip()]


def shuffled(caption: str, keep: int, rng: Draws, *key: int) -> str:
    """The tags in another order; the first `keep` stay where they are."""
    tags = split_tags(caption)
    head, tail = tags[:keep], tags[keep:]
    return ", ".join(head + [tail[i] for i in rng.order("shuffle", len(tail), *key)])


def kept_in_front(keep_tokens: int, trigger: str) -> int:
    """How many tags shuffling leaves alone: the trigger word, and `keep_tokens` after it."""
    return keep_tokens + (1 if trigger.strip() else 0)


def variants(caption: str, item: int, keep: int, rng: Draws) -> list[str]:
    """`VARIANTS` shuffled captions of picture `item`."""
    return [shuffled(caption, keep, rng, item, number) for number in range(VARIANTS)]
