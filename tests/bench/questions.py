"""What is asked of a filled catalogue: addresses for each kind of page and read, each with other values."""

import random
from typing import Any
from urllib.parse import urlencode

import psycopg

from app.core.paging import encode_cursor

Paths = list[str]
SHOWN = "visibility = 'public' and taken_down_at is null and rating in (1, 2)"


class Catalogue:
    """Values for addresses, drawn from the database, the same each time."""

    def __init__(self, url: str, amount: int) -> None:
        self.db = psycopg.connect(url, autocommit=True)
        self.amount = amount
        self.random = random.Random(7)

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        return self.db.execute(query, values).fetchall()

    def some(self, table: str, columns: str, condition: str = SHOWN) -> list[tuple[Any, ...]]:
        """`amount` rows from anywhere of the table."""
        [(last,)] = self.rows(f"select max(id) from {table}")
        wanted = [self.random.randint(1, last) for _ in range(self.amount * 8)]
        query = f"select {columns} from {table} where id = any(%(wanted)s) and {condition} limit %(amount)s"
        found = self.rows(query, wanted=wanted, amount=self.amount)
        return [self.random.choice(found) for _ in range(self.amount)]

    def popular(self, columns: str) -> list[tuple[Any, ...]]:
        """Public models, those that are fetched most more often than others."""
        query = f"select {columns} from model where {SHOWN} order by download_count desc limit 20000"
        found = self.rows(query)
        return [found[int(len(found) * self.random.random() ** 3)] for _ in range(self.amount)]

    def tags(self, fewest: int, most: int) -> list[str]:
        query = (
            "select tag from model_tag group by tag having count(*) between %(fewest)s and %(most)s limit 500"
        )
        found = [row[0] for row in self.rows(query, fewest=fewest, most=most)]
        return [self.random.choice(found) for _ in range(self.amount)]

    def words(self) -> list[str]:
        """Two words that stand in the same description."""
        texts = [row[0].split() for row in self.some("model", "description")]
        return [" ".join(self.random.sample(words, 2)) for words in texts]

    def one_word(self) -> list[str]:
        """A word of a description, a tag that many or few have, or some letters of a name, in turn."""
        texts = [row[0].split() for row in self.some("model", "description")]
        words = [self.random.choice(each) for each in texts]
        names = [row[0].replace(" ", "")[1:5] for row in self.some("model", "name")]
        [(total,)] = self.rows("select count(*) from model")
        kinds = (words, self.tags(total // 50, total), self.tags(1, 30), names)
        return [kinds[place % 4][place] for place in range(self.amount)]

    def prompts(self) -> list[str]:
        """Two words beside each other in the prompt of a picture."""
        texts = [row[0].split() for row in self.some("image", "prompt")]
        return [" ".join(words[place : place + 2]) for words in texts for place in [len(words) // 2]]

    def versions(self, models: list[int]) -> list[int]:
        query = "select max(id) from model_version where model_id = any(%(models)s) and status = 'Published'"
        found = self.rows(f"{query} group by model_id", models=models)
        return [self.random.choice(found)[0] for _ in range(self.amount)]

    def hashes(self, models: list[int]) -> list[str]:
        """One of each file of a version of these models, of any kind."""
        query = (
            "select distinct on (file_id) value from file_hash join model_file on model_file.id = file_id "
            "where version_id = any(%(versions)s) order by file_id, md5(value)"
        )
        found = self.rows(query, versions=self.versions(models))
        return [self.random.choice(found)[0] for _ in range(self.amount)]

    def spread(self, path: str, **choices: list[Any]) -> Paths:
        """`path` with one of each of the choices in its query."""
        return [
            f"{path}?{urlencode({name: self.random.choice(values) for name, values in choices.items()})}"
            for _ in range(self.amount)
        ]


TYPES = ["LORA", "Checkpoint", "TextualInversion", "LoCon", "VAE", "Upscaler"]
BASES = ["SD 1.5", "SDXL 1.0", "Pony", "Illustrious", "Flux.1 D", "SD 3.5", "Bottega Starter"]
PERIODS = ["AllTime", "Year", "Month", "Week", "Day"]


def cursors(catalogue: Catalogue, table: str, columns: str) -> list[str]:
    return [encode_cursor(row) for row in catalogue.some(table, columns)]


def pages(catalogue: Catalogue) -> dict[str, Paths]:
    """What a browser asks for."""
    by_date = cursors(catalogue, "model", "published_at, id")
    by_fetches = cursors(catalogue, "model", "download_count, id")
    by_number = cursors(catalogue, "image", "id")
    sorts = ["newest", "downloads", "pictures", "oldest"]
    total = catalogue.rows("select count(*) from model")[0][0]
    return {
        "home": ["/"] * catalogue.amount,
        "models by type, base, order": catalogue.spread("/models", type=TYPES, base=BASES, sort=sorts),
        "models by category, period, order": catalogue.spread(
            "/models", category=["style", "character", "concept"], period=PERIODS, sort=sorts
        ),
        "models, most pictures": catalogue.spread("/models", sort=["pictures"], type=["", *TYPES[:2]]),
        "models trained here": catalogue.spread("/models", trained=["true"], sort=sorts),
        "models of a person": [f"/models?username={row[0]}" for row in catalogue.some("model", "username")],
        "deep page of the newest": catalogue.spread("/models", cursor=by_date),
        "deep page by downloads": catalogue.spread("/models", sort=["downloads"], cursor=by_fetches),
        "two words": catalogue.spread("/models", query=catalogue.words()),
        "one word": catalogue.spread("/models", query=catalogue.one_word()),
        "common tag": catalogue.spread("/models", tag=catalogue.tags(total // 50, total), sort=sorts[:2]),
        "rare tag": catalogue.spread("/models", tag=catalogue.tags(1, 30), sort=sorts[:2]),
        "model page": [f"/models/{n}/{name.replace(' ', '-')}" for n, name in catalogue.popular("id, name")],
        "pictures": ["/images"] * catalogue.amount,
        "pictures by base, period, order": catalogue.spread(
            "/images", base=["", *BASES], period=PERIODS, sort=["newest", "oldest"]
        ),
        "deep page of pictures": catalogue.spread("/images", cursor=by_number),
        "pictures by two words": catalogue.spread("/images", query=catalogue.prompts()),
        "picture page": [f"/images/{row[0]}" for row in catalogue.some("image", "id")],
    }


def reads(catalogue: Catalogue) -> dict[str, Paths]:
    """The same things as programs ask for them, under Civitai's paths, 20 to a page."""
    few = {"limit": [20]}
    by_fetches = cursors(catalogue, "model", "download_count, id")
    sorts = ["Highest Rated", "Most Downloaded", "Newest", "Most Images", "Oldest"]
    total = catalogue.rows("select count(*) from model")[0][0]
    ids = [row[0] for row in catalogue.popular("id")]
    return {
        "api models": catalogue.spread("/api/v1/models", **few, nsfw=["true", "false"]),
        "api models by types, base, sort": catalogue.spread(
            "/api/v1/models", **few, types=TYPES, baseModels=BASES, sort=sorts, period=PERIODS
        ),
        "api models, deep page": catalogue.spread("/api/v1/models", **few, cursor=by_fetches),
        "api models, two words": catalogue.spread("/api/v1/models", **few, query=catalogue.words()),
        "api models, one word": catalogue.spread("/api/v1/models", **few, query=catalogue.one_word()),
        "api models, common tag": catalogue.spread(
            "/api/v1/models", **few, tag=catalogue.tags(total // 50, total)
        ),
        "api models, rare tag": catalogue.spread("/api/v1/models", **few, tag=catalogue.tags(1, 30)),
        "api model": [f"/api/v1/models/{n}" for n in ids],
        "api version": [f"/api/v1/model-versions/{n}" for n in catalogue.versions(ids)],
        "api by hash": [f"/api/v1/model-versions/by-hash/{digits}" for digits in catalogue.hashes(ids)],
        "api images": catalogue.spread("/api/v1/images", **few, sort=["Newest", "Most Reactions", "Oldest"]),
        "api images of a model": [f"/api/v1/images?modelId={n}&limit=20" for n in ids],
        "api images, deep page": catalogue.spread(
            "/api/v1/images", **few, cursor=cursors(catalogue, "image", "id")
        ),
        "api tags": catalogue.spread("/api/v1/tags", page=[1, 2, 3, 40], query=["", "ba", "kababa", "ti"]),
        "api creators": catalogue.spread(
            "/api/v1/creators", page=[1, 2, 40], query=["", "person", "PERSON12"]
        ),
    }
