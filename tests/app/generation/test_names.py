"""What prompts name: LoRA tags become resources, embeddings are found, and what is not here is told."""

import pytest
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.errors import Invalid
from app.generation.plan import Planned, plan_generation
from app.generation.schemas import GenerationIn
from tests.app.generation.making import body, make_component
from tests.app.training.factories import make_base, make_lora
from tests.factories import make_user


def codes(planned: Planned) -> list[str]:
    return [note.code for note in planned.notes]


def plan(db: Session, user: User, wanted: GenerationIn) -> Planned:
    return plan_generation(db, user, wanted)


def test_a_tag_becomes_a_resource_and_leaves_the_prompt(db: Session) -> None:
    user = make_user(db)
    lora = make_lora(db, user)
    found = plan(db, user, body(make_base(db, user).id, prompt="a mill, <lora:windmills:0.5:0.7>, dawn"))
    assert found.job.prompt == "a mill, dawn"
    used = found.job.loras[0]
    assert (used.model_version_id, used.strength, used.text_encoder_strength) == (lora.id, 0.7, 0.5)
    assert codes(found) == []


@pytest.mark.parametrize("name", ["Windmills", "WINDMILLS", "windmills.safetensors"])
def test_file_or_page_may_be_named_in_any_case(db: Session, name: str) -> None:
    user = make_user(db)
    make_lora(db, user)
    found = plan(db, user, body(make_base(db, user).id, prompt=f"<lora:{name}:0.5> a mill"))
    assert [lora.name for lora in found.job.loras] == ["windmills"]
    assert found.job.prompt == "a mill"


def test_a_tag_sets_the_strength_of_what_is_in_the_list(db: Session) -> None:
    user = make_user(db)
    lora = make_lora(db, user)
    listed = [{"model_version_id": lora.id, "strength": 0.8}]
    found = plan(db, user, body(make_base(db, user).id, prompt="x <lora:windmills:0.3>", resources=listed))
    assert [(x.model_version_id, x.strength) for x in found.job.loras] == [(lora.id, 0.3)]


def test_an_unknown_name_stays_and_is_told(db: Session) -> None:
    user = make_user(db)
    make_lora(db, make_user(db), "Starter 1").model.visibility = "private"
    found = plan(db, user, body(make_base(db, user).id, prompt="a mill <lora:windmills:1> <hypernet:x:1>"))
    assert found.job.loras == ()
    assert "<lora:windmills:1>" in found.job.prompt
    assert codes(found) == ["lora-unknown", "tag-ignored"]
    assert "windmills" in found.notes[0].detail


def test_of_several_of_one_name_the_newest_own_is_taken_and_it_is_said(db: Session) -> None:
    user, other = make_user(db), make_user(db)
    make_lora(db, user)
    newest = make_lora(db, user)
    make_lora(db, other)
    found = plan(db, user, body(make_base(db, user).id, prompt="<lora:windmills:1>"))
    assert [lora.model_version_id for lora in found.job.loras] == [newest.id]
    assert codes(found) == ["lora-ambiguous"]


def test_a_tag_for_another_base_is_refused_in_words(db: Session) -> None:
    user = make_user(db)
    make_lora(db, user, base_model="SDXL 1.0")
    with pytest.raises(Invalid) as caught:
        plan(db, user, body(make_base(db, user).id, prompt="<lora:windmills:1>"))
    assert (caught.value.code, caught.value.errors[0].pointer) == ("lora-base-mismatch", "#/prompt")


def test_a_prompt_names_only_so_many(db: Session) -> None:
    user = make_user(db)
    with pytest.raises(Invalid, match="21 LoRAs"):
        plan(db, user, body(make_base(db, user).id, prompt="".join(f"<lora:x{n}:1>" for n in range(21))))


def test_strengths_beyond_the_range_are_held_and_told(db: Session) -> None:
    user = make_user(db)
    make_lora(db, user)
    found = plan(db, user, body(make_base(db, user).id, prompt="<lora:windmills:7>"))
    assert found.job.loras[0].strength == 2.0
    assert codes(found) == ["strength-limited"]


def test_text_encoder_strength_of_a_listed_lora(db: Session) -> None:
    user = make_user(db)
    lora = make_lora(db, user)
    apart = [{"model_version_id": lora.id, "strength": 0.8, "text_encoder_strength": 0.2}]
    assert (
        plan(db, user, body(make_base(db, user).id, resources=apart)).job.loras[0].text_encoder_strength
        == 0.2
    )
    same = [{"model_version_id": lora.id, "strength": 0.8, "text_encoder_strength": 0.8}]
    assert (
        plan(db, user, body(make_base(db, user).id, resources=same)).job.loras[0].text_encoder_strength
        is None
    )


def test_embeddings_are_found_by_name_in_both_prompts(db: Session) -> None:
    user = make_user(db)
    for name in ("easyneg", "castle-x", "unused"):
        make_component(db, user, "TextualInversion", name)
    make_component(db, user, "TextualInversion", "hill", base_model="SDXL 1.0")
    found = plan(
        db, user, body(make_base(db, user).id, prompt="castle-x on a hill", negative_prompt="(EasyNeg:1.2)")
    )
    assert sorted(each.name for each in found.job.embeddings) == ["castle-x", "easyneg"]


def test_an_embedding_that_is_only_listed_is_told(db: Session) -> None:
    user = make_user(db)
    version = make_component(db, user, "TextualInversion", "easyneg")
    base = make_base(db, user).id
    found = plan(db, user, body(base, resources=[{"model_version_id": version.id}]))
    assert codes(found) == ["embedding-unused"]
    with pytest.raises(Invalid, match="no strength"):
        plan(db, user, body(base, resources=[{"model_version_id": version.id, "strength": 0.5}]))


def test_a_vae_is_taken_and_something_else_is_not(db: Session) -> None:
    user = make_user(db)
    vae, base = make_component(db, user, "VAE", "soft"), make_base(db, user).id
    chosen = plan(db, user, body(base, vae_version_id=vae.id)).job.base.vae
    assert chosen is not None
    assert chosen.name == "soft.safetensors"
    with pytest.raises(Invalid) as caught:
        plan(db, user, body(base, vae_version_id=make_lora(db, user).id))
    assert caught.value.errors[0].pointer == "#/vae_version_id"
