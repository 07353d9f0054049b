"""Everything that may import torch: families, trainer, inference, and the supervisor that runs jobs."""

import os

# Every process would warn that torchvision is missing, which nothing here uses.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
