"""What a training takes of a set of clips, in figures and in words: the same windows as the trainer's."""

from collections import Counter
from collections.abc import Sequence

from app.contract.clips import Window, resampled_length, unused, windows
from app.contract.family import ClipDefaults, FamilySpec
from app.contract.jobs import TrainItem, TrainParams
from app.training.schemas import CutPlan


def plan_cut(spec: FamilySpec, params: TrainParams, items: Sequence[TrainItem]) -> CutPlan | None:
    """None where there is nothing to cut: no clip, or a family of pictures."""
    clips = [item for item in items if item.frames > 1]
    if spec.clips is None or not clips:
        return None
    totals = [resampled_length(item.frames, item.fps, spec.clips.rule) for item in clips]
    cuts = [_windows(total, params, spec.clips) for total in totals]
    left = sum(unused(total, cut) for total, cut in zip(totals, cuts, strict=True))
    lengths = Counter(window.length for cut in cuts for window in cut)
    fps, pictures = spec.clips.rule.fps, len(items) - len(clips)
    return CutPlan(
        pieces=sum(lengths.values()) + pictures,
        frames=max(lengths),
        fps=fps,
        total_frames=sum(totals),
        unused_frames=left,
        detail=_words(len(clips), lengths, fps, left / sum(totals), pictures),
    )


def _windows(total: int, params: TrainParams, facts: ClipDefaults) -> list[Window]:
    return windows(
        total,
        facts.rule,
        mode=params.clip_windows,
        length=params.clip_frames,
        stride=params.clip_stride,
        count=params.clip_count,
        longest=facts.max_window,
    )


def _words(clips: int, lengths: Counter[int], fps: float, share: float, pictures: int) -> str:
    most, pieces = max(lengths), sum(lengths.values())
    piece = f"of {_many(most, 'frame')} ({most / fps:.1f} s at {fps:g} a second)"
    text = f"{_many(clips, 'clip')} {'becomes' if clips == 1 else 'become'} {_many(pieces, 'piece')} {piece}"
    if shorter := pieces - lengths[most]:
        text += f"; {shorter} of them {'is' if shorter == 1 else 'are'} shorter"
    text += ". " + (f"{_percent(share)} of the frames are not used." if share else "Every frame is used.")
    if pictures:
        text += (
            f" {_many(pictures, 'picture')} {'is a piece' if pictures == 1 else 'are pieces'} of one frame."
        )
    return text


def _percent(share: float) -> str:
    return "Less than 1 %" if share < 0.01 else f"{min(99, round(100 * share))} %"


def _many(count: int, noun: str) -> str:
    # Not the page's own filter: the worker imports this module, and it knows no templates.
    return f"{count:,} {noun}{'' if count == 1 else 's'}".replace(",", "\u202f")
