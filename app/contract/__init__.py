"""The language that web and worker share. Only pydantic: no database, no web framework, no torch."""
