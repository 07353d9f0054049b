"""What lists of a million models look at is in the model's own row, and all hashes of a file in one value.

`model.bases`, the bases that a model has published versions for, follows the versions by a trigger: whoever
writes a version, the filter that is used most cannot be wrong.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

HASHES = """
update model_file set hash_values = found.hash_values
from (select file_id, jsonb_object_agg(kind, value) as hash_values from file_hash group by file_id) found
where found.file_id = model_file.id
"""
BASES = """
update model set bases = found.bases
from (select model_id, array_agg(distinct base_model::text order by base_model::text) as bases
    from model_version where status = 'Published' group by model_id) found
where found.model_id = model.id
"""
TELL_BASES = """
create function tell_bases(number integer) returns void language plpgsql as $$
declare told text[];
begin
    -- Two changes of one model wait for each other here, and the second sees what the first has done.
    perform from model where id = number for update;
    select coalesce(array_agg(distinct base_model::text order by base_model::text), '{}') into told
    from model_version where model_id = number and status = 'Published';
    update model set bases = told where id = number and bases is distinct from told;
end $$
"""
VERSION_CHANGED = """
create function version_changed() returns trigger language plpgsql as $$
begin
    if tg_op <> 'INSERT' then perform tell_bases(old.model_id); end if;
    if tg_op <> 'DELETE' then perform tell_bases(new.model_id); end if;
    return null;
end $$
"""
TRIGGER = """
create trigger version_changed after insert or delete or update of status, base_model, model_id
on model_version for each row execute function version_changed()
"""


def upgrade() -> None:
    _add("model_file", "hash_values", postgresql.JSONB())
    _add("model", "bases", postgresql.ARRAY(sa.Text))
    for statement in (HASHES, BASES, TELL_BASES, VERSION_CHANGED, TRIGGER):
        op.execute(statement)
    op.create_index("ix_model_lower_name", "model", [sa.text("lower(name)")])
    _search("ix_model_search_fetched", "search", "download_count >= 100")
    _search("ix_model_public_bases", "bases", "visibility = 'public'")
    op.execute("analyze model")  # until then Postgres believes that many models have the same name


def _add(table: str, name: str, kind: sa.types.TypeEngine[Any]) -> None:
    op.add_column(table, sa.Column(name, kind, nullable=False, server_default=sa.text("'{}'")))


def _search(name: str, column: str, condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, "model", [column], postgresql_using="gin", postgresql_where=where)


def downgrade() -> None:
    for name in ("ix_model_public_bases", "ix_model_search_fetched", "ix_model_lower_name"):
        op.drop_index(name, table_name="model")
    op.execute("drop trigger version_changed on model_version")
    op.execute("drop function version_changed()")
    op.execute("drop function tell_bases(integer)")
    op.drop_column("model", "bases")
    op.drop_column("model_file", "hash_values")
