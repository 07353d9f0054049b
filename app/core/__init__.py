"""The floor: settings, database, storage, errors. Knows neither FastAPI nor any domain word."""
