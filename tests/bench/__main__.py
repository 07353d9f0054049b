"""`./dev bench NAME [ARGS]`: every module here with a `main(arguments)` is a benchmark."""

import sys
from importlib import import_module
from pathlib import Path

import worker  # noqa: F401  first: it keeps transformers quiet, here and in the processes that a benchmark starts

NOT_BENCHES = {"report", "meter", "filling", "asking", "questions", "__init__", "__main__"}


def names() -> list[str]:
    stems = (path.stem for path in Path(__file__).parent.glob("*.py"))
    return sorted(stem.replace("_", "-") for stem in stems if stem not in NOT_BENCHES)


def main(arguments: list[str]) -> None:
    if not arguments or arguments[0] not in names():
        sys.exit(f"Usage: ./dev bench NAME [ARGS], where NAME is one of: {', '.join(names())}")
    import_module(f"tests.bench.{arguments[0].replace('-', '_')}").main(arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
