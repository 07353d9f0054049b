"""Pictures that were generated here or brought along, with their generation data. Private by default."""
