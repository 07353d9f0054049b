"""Sets of pictures with labels: upload, checks, label editing, export."""
