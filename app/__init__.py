"""Everything of Bottega that is not the model stack: web pages, REST API, database, command line."""
