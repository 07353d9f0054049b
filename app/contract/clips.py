"""How clips are cut for training: rates, legal lengths, windows. Pure arithmetic, shared by web and worker.

A clip of `frames` frames at `fps` is first thought of at the family's own rate, so that motion keeps
its speed; windows are counted in frames of that rate. A clip that is too short for the wanted length
gives one shorter window: nothing is dropped but the few frames that make no legal length.
"""

from math import floor

from app.contract.family import ClipRule, Frozen

MODES = ("head", "uniform", "chunks", "sliding", "full")
"""Ways to cut; what each does is said in `windows`."""
MAX_WINDOWS = 64
"""Of one clip: a long one cut closely must not outweigh a whole set."""


class Window(Frozen):
    """Frames `start` … `start + length - 1` of a clip at the family's rate."""

    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length


def legal_length(frames: int, rule: ClipRule) -> int:
    """The greatest step · n + 1 that is at most `frames`; 1 at least."""
    return max(1, (frames - 1) // rule.step * rule.step + 1)


def resampled_length(frames: int, fps: float | None, rule: ClipRule) -> int:
    """Frames of a clip at the family's rate; a picture (one frame, or no rate) stays one."""
    if frames <= 1 or not fps:
        return 1
    return max(1, floor(frames * rule.fps / fps + 1e-6))


def source_frame(index: int, frames: int, fps: float | None, rule: ClipRule) -> int:
    """Which stored frame is shown as frame `index` at the family's rate: the one on screen at that moment."""
    if not fps:
        return 0
    return min(frames - 1, floor(index * fps / rule.fps + 1e-6))


def windows(total: int, rule: ClipRule, *, mode: str, length: int, stride: int | None = None,
            count: int = 4, longest: int | None = None) -> list[Window]:  # fmt: skip
    """Cut `total` frames (at the family's rate) into windows of `length`, brought to a legal length.

    head: the beginning. uniform: `count` windows spread evenly. chunks: one after the other; the last
    one ends with the clip. sliding: one every `stride` frames (half a window unless said); the last one
    ends with the clip. full: all of it, or its first `longest` frames, in one window (`length` is not
    looked at).
    Errors: ValueError for another mode, or for figures below 1.
    """
    if mode not in MODES:
        raise ValueError(f"“{mode}” is not a way to cut clips: {', '.join(MODES)}.")
    if min(total, length, count, 1 if stride is None else stride) < 1:
        raise ValueError("Frames, length, stride and count are 1 at least.")
    if mode == "full":
        return [Window(start=0, length=legal_length(min(total, longest or total), rule))]
    size = min(legal_length(length, rule), legal_length(total, rule))
    last = total - size
    if mode == "head":
        starts = [0]
    elif mode == "uniform":
        starts = spread(last + 1, count)
    else:
        starts = _steps(last, size if mode == "chunks" else stride or max(1, size // 2))
    return [Window(start=start, length=size) for start in starts]


def spread(total: int, count: int) -> list[int]:
    """At most `count` different places of 0 … total - 1, first and last among them, as even as can be."""
    count = min(count, total, MAX_WINDOWS)
    if count <= 1:
        return [0]
    return [round(at * (total - 1) / (count - 1)) for at in range(count)]


def _steps(last: int, stride: int) -> list[int]:
    """0, stride, 2 · stride … and `last`; with wider steps where there would be more than MAX_WINDOWS."""
    starts = list(range(0, last + 1, stride))
    if starts[-1] != last:
        starts.append(last)
    return starts if len(starts) <= MAX_WINDOWS else spread(last + 1, MAX_WINDOWS)


def unused(total: int, cut: list[Window]) -> int:
    """Frames of `total` that no window shows."""
    return total - len({frame for window in cut for frame in range(window.start, window.end)})
