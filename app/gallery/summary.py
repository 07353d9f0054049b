"""What a request must not count: words in use and how often, pictures made with each model.

Counted anew by the reaper. A large catalogue takes longer, so it is counted less often: at most one part in
fifty of the time goes into it, and a small one is never more than a tick behind.
"""

from time import monotonic

from sqlalchemy import text
from sqlalchemy.orm import Session

SHARE = 50
_next = {"at": 0.0}

_TERMS = text("""
with listed as materialized (
    select model.id, model.type, model.username, model.built_in from model
    where visibility = 'public' and taken_down_at is null and rating <> 0 and exists
        (select from model_version version where version.model_id = model.id and status = 'Published')
), fresh as (
    select 'type' as kind, type as name, count(*) as models from listed group by type
    union all select 'creator', username, count(*) from listed group by username
    union all select 'base', base_model, count(distinct model_id)
        from model_version join listed on listed.id = model_id where status = 'Published' group by base_model
    union all select 'tag', tag, count(*) from model_tag join listed on listed.id = model_id group by tag
    union all select 'topic', tag, count(*) from model_tag join listed on listed.id = model_id
        where not built_in group by tag
), gone as (
    delete from term where not exists
        (select from fresh where fresh.kind = term.kind and fresh.name = term.name)
)
insert into term (kind, name, models) select kind, name, models from fresh
on conflict (kind, name) do update set models = excluded.models where term.models <> excluded.models
""")

_PICTURES = text("""
with fresh as (
    select version.model_id, count(distinct image.id) as pictures from image_resource resource
    join image on image.id = resource.image_id
    join model_version version on version.id = resource.model_version_id
    where image.visibility = 'public' and image.taken_down_at is null group by version.model_id
)
update model set image_count = coalesce(fresh.pictures, 0)
from model counted left join fresh on fresh.model_id = counted.id
where counted.id = model.id and model.image_count <> coalesce(fresh.pictures, 0)
""")


def recount(db: Session) -> None:
    """Bring the table `term` and `Model.image_count` up to date."""
    db.flush()
    db.execute(_TERMS)
    db.execute(_PICTURES)
    db.expire_all()


def recount_in_turn(db: Session) -> None:
    """As `recount`, but not before the last one has earned it."""
    if monotonic() < _next["at"]:
        return
    begun = monotonic()
    recount(db)
    now = monotonic()
    _next["at"] = now + (now - begun) * SHARE
