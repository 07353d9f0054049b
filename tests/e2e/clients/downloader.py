"""The command `civitdl` from PyPI, as its console script starts it."""

import sys

from civitdl.__main__ import main

if __name__ == "__main__":
    sys.argv[0] = "civitdl"
    main()
