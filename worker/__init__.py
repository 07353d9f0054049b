"""Everything that may import torch: families, trainer, inference, and the supervisor that runs jobs."""
