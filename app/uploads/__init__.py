"""Resumable upload sessions for files that are too large for a form."""
