"""`bottega` on the command line: starting an installation, looking after it, and the REST client."""
