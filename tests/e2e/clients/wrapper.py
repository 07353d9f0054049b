"""The package `civitai` from PyPI reads lists, a model, a version by number and by hash."""

import json
import sys

from civitai import creators, images, models, tags

model_id, version_id, digits = sys.argv[1:]
listed = models.get(limit=1, sort="Newest", types="LORA", nsfw="true")
paged = models.get(limit=1, page=1, types="LORA", nsfw="true")
one = models.get_model(model_id)
version = models.get_by_modelVersion(version_id)
found = models.get_by_hash(digits)
pictures = images.get(limit=5, modelId=int(model_id), nsfw="X")
people = creators.get(query="lor")
words = tags.get(limit=1)
print(json.dumps({
    "listed": [(m.id, m.name, m.creator_username, m.downloadCount) for m in listed.items],
    "next": listed.nextCursor,
    "paged": [paged.currentPage, paged.pageSize, paged.nextPage],
    "model": [one.id, one.name, one.type, one.description, one.tags, one.rating],
    "versions": [[v.id, v.downloadUrl, [f["hashes"] for f in v.files]] for v in one.modelVersions],
    "version": [version.id, version.modelId, version.baseModel, version.trainedWords, version.vaeId],
    "by_hash": found.id,
    "pictures": [[p.url, p.width, p.height, p.username, p.nsfw, p.prompt] for p in pictures.items],
    "people": [[p.username, p.modelCount, p.link] for p in people.items],
    "words": [words.items[0].name, words.pageSize],
}))  # fmt: skip
