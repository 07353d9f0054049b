"""Everything that may import torch: families, trainer, inference, and the supervisor that runs jobs."""

import logging
import os

# Every process would warn that torchvision is missing, which nothing here uses.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
# Likewise that kernels of torchao which nothing here calls are made for other cards and other programs.
for _name in ("torchao", "torch.utils._pytree", "diffusers.quantizers.torchao.torchao_quantizer"):
    logging.getLogger(_name).setLevel(logging.ERROR)
