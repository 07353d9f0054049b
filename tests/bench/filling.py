"""A large catalogue made inside Postgres by INSERT … SELECT: skewed as real ones are, the same each time.

A few models have most downloads, pictures and versions; a few words and tags stand nearly everywhere, and
most hardly anywhere. The n-th in popularity has a number far from n, so that the popular are of any
age. All rows share one blob of one byte: nothing here is ever sent as a file.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

SYLLABLES = "bakadolimenarupisatovexiyuzegifo"
"""Sixteen pairs of letters: three of them are one of 4096 words."""
BLOB = "0" * 64
KINDS = (("SHA256", 64), ("AutoV2", 10), ("AutoV3", 12), ("BLAKE3", 64), ("CRC32", 8))


@dataclass(frozen=True)
class Size:
    """How many rows of each; people are a twentieth of the models."""

    models: int
    versions: int
    files: int
    images: int

    @classmethod
    def of(cls, models: int) -> "Size":
        """The proportions of the issue: three versions to two models, two files a version."""
        return cls(models, models * 3 // 2, models * 3, models)


def word(number: str) -> str:
    """SQL of the word with this number, which must be a column: it is read three times."""
    parts = (f"substr('{SYLLABLES}', 1 + 2 * mod({number} / {by}, 16), 2)" for by in (1, 16, 256))
    return f"({' || '.join(parts)})"


def words(fewest: int, more: int) -> str:
    """SQL of `fewest` words or up to `more` more, for a row with a number `n`; common ones come often."""
    return (
        f"(select string_agg({word('number')}, ' ') from (select pg_temp.rank(4000) as number "
        f"from generate_series(1, {fewest} + mod(n, {more + 1}))) one)"
    )


FUNCTIONS = """
create function pg_temp.rank(amount integer) returns integer language sql volatile as
$$ select floor(exp(random() * ln(amount)))::integer $$;
create function pg_temp.of_list(words text[], weights float[]) returns text language plpgsql volatile as
$$ declare left_over float := random(); begin
   for n in 1..array_length(words, 1) loop
       left_over := left_over - weights[n];
       if left_over < 0 then return words[n]; end if;
   end loop;
   return words[array_length(words, 1)]; end $$;
"""

PEOPLE = """
insert into "user" (username, password_hash, role) select 'person' || n, '-', 'member'
from generate_series(1, %(people)s) n;
insert into blob (sha256, size, media_type) values (%(blob)s, 1, 'application/octet-stream');
"""

MODELS = f"""
insert into model (id, user_id, username, name, type, category, description, visibility, rating, licence, poi,
    allow_no_credit, allow_commercial_use, allow_derivatives, allow_different_license, download_count,
    created_at, published_at, updated_at, built_in)
select at.id, person.id, person.username, {words(2, 3)},
    pg_temp.of_list('{{LORA,Checkpoint,TextualInversion,LoCon,VAE,Controlnet,Upscaler}}',
                    '{{.76,.11,.06,.05,.01,.005,.005}}'),
    pg_temp.of_list('{{style,character,concept,""}}', '{{.3,.3,.1,.3}}'), {words(6, 18)},
    pg_temp.of_list('{{public,private,unlisted}}', '{{.93,.05,.02}}'),
    pg_temp.of_list('{{1,2,4,8,16,0}}', '{{.6,.15,.1,.1,.04,.01}}')::integer, '', false, true, '["Sell"]',
    true, true, (2000000 / n ^ .8 + 20 * random())::integer, moment, moment, moment, false
from generate_series(1, %(models)s) n
cross join lateral (select id, now() - interval '1100 days' * (1 - id::float / %(models)s) as moment
    from (select 1 + mod(n::bigint * 7919, %(models)s) as id) place) at
cross join lateral (select pg_temp.rank(%(people)s) + 0 * n as number) who
join "user" person on person.id = who.number;
select setval('model_id_seq', %(models)s);
"""

TAGS = f"""
insert into model_tag (model_id, tag) select id, category from model where category <> '';
insert into model_tag (model_id, tag)
select model.id, {word("place.number")} || case when place.number < 4096 then '' else
    ' ' || place.number / 4096 end
from model cross join lateral
    (select pg_temp.rank(30000) + 0 * model.id as number from generate_series(1, 4)) place
on conflict do nothing;
"""

VERSIONS = f"""
insert into model_version (model_id, name, base_model, family, description, trained_words, status,
    upload_type, strength, published_at, created_at, updated_at, download_count)
select model.id, 'v' || n, base.name, case base.name when 'SD 1.5' then 'sd15' when 'SDXL 1.0' then 'sdxl'
    when 'Bottega Starter' then 'starter' end, '', jsonb_build_array({word("n")}),
    case when random() < .97 then 'Published' else 'Draft' end,
    case when random() < .05 then 'Trained' else 'Created' end, .8, model.published_at, model.created_at,
    model.updated_at, model.download_count
from generate_series(1, %(versions)s) n
cross join lateral (select case when n <= %(models)s then n
    else 1 + floor(%(models)s * random() ^ 1.3)::bigint end as number) place
join model on model.id = 1 + mod(place.number * 7919, %(models)s)
cross join lateral (select pg_temp.of_list(
    '{{SD 1.5,SDXL 1.0,Pony,Illustrious,Flux.1 D,NoobAI,Wan Video,SD 3.5,Bottega Starter,Other}}',
    '{{.34,.22,.15,.12,.08,.05,.02,.01,.001,.009}}') || repeat('x', 0 * n) as name) base;
update model set bases = coalesce(told.bases, '{{}}'),
    visibility = case when told.bases is null then 'private' else one.visibility end
from model one left join (select model_id, array_agg(distinct base_model::text) as bases from model_version
    where status = 'Published' group by model_id) told on told.model_id = one.id
where one.id = model.id;
"""

FILES = """
insert into model_file (id, version_id, blob_sha256, name, type, format, fp, precision, size, is_primary,
    created_at, hash_values)
select n, version.id, %(blob)s,
    'file-' || n || case when n <= %(versions)s then '.safetensors' else '.ckpt' end,
    'Model', case when n <= %(versions)s then 'SafeTensor' else 'PickleTensor' end,
    case when n <= %(versions)s then 'fp16' else 'fp32' end, 'pruned', 1 + n, n <= %(versions)s,
    version.created_at, (select jsonb_object_agg(kind.name,
        upper(left(md5(n || kind.name) || md5(kind.name || n), kind.digits)))
        from (values {kinds}) kind (name, digits))
from generate_series(1, %(files)s) n
join model_version version on version.id = case when n <= %(versions)s then n
    when n <= 2 * %(versions)s - %(versions)s / 4 then n - %(versions)s
    else 1 + (mod(n::bigint * 7919, %(versions)s / 4)) end;
select setval('model_file_id_seq', %(files)s);
"""

HASHES = """
insert into file_hash (file_id, kind, value)
select file.id, hash.key, hash.value from model_file file cross join jsonb_each_text(hash_values) hash;
"""

PICTURES = f"""
insert into image (user_id, username, blob_sha256, thumb_sha256, origin, media_type, size, width, height,
    visibility, rating, title, description, tags, prompt, negative_prompt, meta, infotext, base_model,
    created_at, published_at)
select person.id, person.username, %(blob)s, %(blob)s,
    case when mod(n, 5) < 3 then 'page' else 'generated' end, 'image/png', 1000, 512, 768,
    case when random() < .9 then 'public' else 'private' end,
    pg_temp.of_list('{{1,2,4,8,16}}', '{{.6,.15,.1,.1,.05}}')::integer, '', '',
    case when random() < .3 then jsonb_build_array({word("who.number")}) else '[]' end,
    text.words, '', jsonb_build_object('prompt', text.words, 'seed', n, 'steps', 25, 'sampler', 'Euler'), '',
    pg_temp.of_list('{{SD 1.5,SDXL 1.0,Pony,Illustrious,Flux.1 D,Bottega Starter}}',
                    '{{.34,.25,.2,.12,.089,.001}}'), moment, moment
from generate_series(1, %(images)s) n
cross join lateral (select now() - interval '1100 days' * (1 - n::float / %(images)s) as moment) at
cross join lateral (select {words(6, 14)} as words) text
cross join lateral (select pg_temp.rank(%(people)s) + 0 * n as number) who
join "user" person on person.id = who.number;
insert into image_resource (image_id, position, kind, name, model_version_id, weight, hash)
select image.id, place.n, 'lora', 'a model', pg_temp.rank(%(versions)s), .8, ''
from image cross join generate_series(0, 1) place (n) where place.n = 0 or mod(image.id, 2) = 0;
insert into version_picture (version_id, image_id, position)
select 1 + floor(%(versions)s * random() ^ 1.3)::integer, image.id, 0
from image where image.origin = 'page';
"""

PARTS = {
    "people": PEOPLE, "models": MODELS, "tags": TAGS, "versions": VERSIONS,
    "files": FILES.format(kinds=", ".join(f"('{kind}', {digits})" for kind, digits in KINDS)),
    "hashes": HASHES, "images": PICTURES,
}  # fmt: skip
TABLES = (
    "model", "model_tag", "model_version", "model_file", "file_hash", "image", "image_resource",
    "version_picture",
)  # fmt: skip
INDEXES = """
select indexdef, 'drop index ' || quote_ident(indexname) from pg_indexes
where schemaname = current_schema() and tablename = any(%s)
    and not exists (select from pg_constraint where conname = indexname)
"""


@contextmanager
def without_indexes(db: psycopg.Connection) -> Iterator[None]:
    """Indexes are made after the rows, which is many times faster; primary keys stay."""
    found = db.execute(INDEXES, [list(TABLES)]).fetchall()
    for _, drop in found:
        db.execute(drop)
    yield
    for definition, _ in found:
        db.execute(definition)


def fill(url: str, size: Size) -> float:
    """Fill an empty, migrated database; gives the seconds, index building and ANALYZE included."""
    begun = time.monotonic()
    figures = {
        "models": size.models, "versions": size.versions, "files": size.files, "images": size.images,
        "people": max(10, size.models // 20), "blob": BLOB,
    }  # fmt: skip
    with psycopg.connect(url, autocommit=False, cursor_factory=psycopg.ClientCursor) as db:
        for setting in ("synchronous_commit = off", "maintenance_work_mem = '512MB'", "work_mem = '64MB'"):
            db.execute(f"set {setting}")
        db.execute(FUNCTIONS)
        db.execute("select setseed(0.25)")
        with without_indexes(db):
            db.execute("alter table model_version disable trigger user")
            for name, statement in PARTS.items():
                part = time.monotonic()
                db.execute(statement, figures if "%(" in statement else None)
                print(f"  {name}: {time.monotonic() - part:.0f} s", flush=True)
            db.execute("alter table model_version enable trigger user")
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("vacuum (analyze)")
        db.execute("checkpoint")
    return time.monotonic() - begun
