"""The small video starter: scenes that move, its training, its judge, its weights."""
