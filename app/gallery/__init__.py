"""Models and their versions: pages, files, hashes, tags, search, downloads, reports."""
