"""What fits what: LoRAs, embeddings and VAEs on checkpoints, by architecture and with words for people."""

from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.jobs import CheckpointRef, LoraRef
from app.core.errors import Invalid, NotFound
from app.gallery.matching import why_not
from app.gallery.models import ModelVersion
from app.gallery.picker import find_base_for, list_choices, list_fitting
from app.gallery.refs import (
    check_loras,
    checkpoint_ref,
    embedding_ref,
    embeddings_in,
    lora_ref,
    vae_ref,
)
from tests.factories import make_blob, make_file, make_model, make_user, make_version

FAMILIES = {"starter": "starter", "sd1": "sd1", "sdxl": "sdxl"}


def page(db: Session, user: User, type: str, base_model: str, **facts: Any) -> ModelVersion:
    """A public page of one file. `facts` are what the file was recognised as; none = nothing is known."""
    name = facts.pop("name", f"{type} for {base_model}")
    file = facts.pop("file", f"{name.replace(' ', '-')}.safetensors")
    kind = {"Checkpoint": "checkpoint", "VAE": "vae", "TextualInversion": "embedding"}.get(type, "lora")
    told = {"kind": kind, "tensors": 1, "parameters": 1, "why": "the test says so"} | facts if facts else {}
    if type == "Checkpoint":
        told.setdefault("has_vae", True)
    model = make_model(db, user, name, type=type, visibility="public")
    plain = facts.get("variant", "base") == "base" and facts.get("prediction") != "edm"
    family = FAMILIES.get(facts.get("architecture", "")) if plain else None
    version = make_version(db, model, base_model=base_model, family=family, status="Published")
    make_file(db, version, name=file, facts=told, blob_sha256=make_blob(db).sha256)
    db.refresh(version)
    return version


@pytest.fixture
def user(db: Session) -> User:
    return make_user(db)


@pytest.fixture
def xl(db: Session, user: User) -> CheckpointRef:
    version = page(db, user, "Checkpoint", "SDXL 1.0", architecture="sdxl", prediction="epsilon", name="XL")
    return checkpoint_ref(db, user, version.id)


def refs(db: Session, user: User, *versions: ModelVersion) -> list[LoraRef]:
    return [lora_ref(db, user, version.id) for version in versions]


@pytest.mark.parametrize(
    ("base_model", "facts", "words"),
    [
        ("SDXL 1.0", {"architecture": "sdxl"}, ""),
        ("Pony", {"architecture": "sdxl"}, "Made for Pony, a relative of SDXL 1.0: it may look different."),
        ("Illustrious", {}, "Made for Illustrious, a relative of SDXL 1.0: it may look different."),
        ("SDXL Turbo", {"architecture": "sdxl"}, "Made for SDXL Turbo, a relative"),
        ("SDXL 1.0", {"architecture": "sdxl", "prediction": "v"}, "predicts in another way"),
        ("Other", {"architecture": "sdxl"}, ""),
        ("My own merge", {"architecture": "sdxl"}, "Made for My own merge, a relative of SDXL 1.0"),
    ],
)
def test_relatives_are_used_with_a_word(
    db: Session, user: User, xl: CheckpointRef, base_model: str, facts: dict[str, Any], words: str
) -> None:
    lora = page(db, user, "LORA", base_model, name="Ink", **facts)
    notes = check_loras(db, xl, refs(db, user, lora))
    assert [note.startswith("Ink: ") and words in note for note in notes] == ([True] if words else [])


@pytest.mark.parametrize(
    ("base_model", "facts", "code", "words"),
    [
        ("SD 1.5", {"architecture": "sd1"}, "lora-base-mismatch", "made for SD 1.5, not for XL (SDXL 1.0)"),
        ("SD 1.5", {}, "lora-base-mismatch", "made for SD 1.5"),
        ("Starter 1", {"architecture": "starter"}, "lora-base-mismatch", "made for Starter 1"),
        # The file counts before the page.
        ("SDXL 1.0", {"architecture": "sd1"}, "lora-base-mismatch", "not for XL"),
        ("Flux.1 D", {"architecture": "flux1"}, "lora-base-mismatch", "made for Flux.1 D"),
        ("Other", {}, "lora-base-unknown", "It is not known for which base model Ink was made."),
        ("Who knows", {"kind": "unknown"}, "lora-base-unknown", "Its owner can say so on its page."),
    ],
)
def test_strangers_are_refused_in_words(
    db: Session, user: User, xl: CheckpointRef, base_model: str, facts: dict[str, Any], code: str, words: str
) -> None:
    lora = page(db, user, "LORA", base_model, name="Ink", **facts)
    with pytest.raises(Invalid) as refused:
        check_loras(db, xl, refs(db, user, lora), ["#/resources/3"])
    assert refused.value.code == code
    assert words in refused.value.detail
    assert [(e.pointer, e.code) for e in refused.value.errors] == [("#/resources/3", code)]


def test_relatives_of_sd1(db: Session, user: User) -> None:
    turbo = page(db, user, "Checkpoint", "SD 1.5 LCM", architecture="sd1", prediction="v", name="Fast")
    base = checkpoint_ref(db, user, turbo.id)
    plain = page(db, user, "LORA", "SD 1.5", architecture="sd1", name="Ink")
    other = page(db, user, "LORA", "SD 1.5 LCM", architecture="sd1", prediction="epsilon", name="Oil")
    assert check_loras(db, base, refs(db, user, plain, other)) == [
        "Ink: Made for SD 1.5, a relative of SD 1.5 LCM: it may look different.",
        "Oil: Made for a model that predicts in another way: it may look wrong.",
    ]


def test_the_same_lora_twice_in_every_guise(db: Session, user: User, xl: CheckpointRef) -> None:
    first = page(db, user, "LORA", "Pony", architecture="sdxl", name="Ink")
    [ref] = refs(db, user, first)
    again = page(db, user, "LORA", "SDXL 1.0", architecture="sdxl", name="Ink again")
    again.files[0].blob_sha256 = first.files[0].blob_sha256
    epoch = ref.model_copy(update={"model_version_id": None})
    ref = ref.model_copy(update={"autov3": "0123456789ab"})
    renamed = ref.model_copy(update={"file": ref.file.model_copy(update={"sha256": "f" * 64})})
    for other in (*refs(db, user, again), epoch, renamed):
        with pytest.raises(Invalid) as refused:
            check_loras(db, xl, [ref, other])
        assert refused.value.code == "duplicate-lora"
        assert refused.value.errors[0].pointer == "#/resources/1"


def test_a_page_may_be_called_lora_locon_or_dora(db: Session, user: User, xl: CheckpointRef) -> None:
    made = {page(db, user, kind, "Pony", architecture="sdxl").id for kind in ("LORA", "LoCon", "DoRA")}
    assert {choice.version_id for choice in list_choices(db, user, "LORA")} == made


def test_cards_that_fit_come_first_and_the_others_say_why(db: Session, user: User, xl: CheckpointRef) -> None:
    page(db, user, "LORA", "Pony", architecture="sdxl", name="Near")
    page(db, user, "LORA", "SD 1.5", architecture="sd1", name="Far")
    found = list_fitting(db, user, "LORA", base=xl.model_version_id)
    assert [(f.choice.name, f.fit.usable) for f in found] == [("Near", True), ("Far", False)]
    assert "a relative of SDXL 1.0" in found[0].fit.words
    assert found[1].fit.words == "Far was made for SD 1.5, not for XL (SDXL 1.0)."
    by_name = list_fitting(db, user, "LORA", base_model="SD 1.5")
    assert [f.choice.name for f in by_name if f.fit.usable] == ["Far"]


def test_a_lora_finds_a_base(db: Session, user: User, xl: CheckpointRef) -> None:
    pony = page(db, user, "Checkpoint", "Pony", architecture="sdxl", name="Pony")
    page(db, user, "Checkpoint", "Illustrious", architecture="sdxl", name="Other")
    lora = page(db, user, "LORA", "Pony", architecture="sdxl")
    stranger = page(db, user, "LORA", "Flux.1 D", architecture="flux1")
    cards = {c.version_id: c for c in list_choices(db, user, "LORA")}
    base = find_base_for(db, user, cards[lora.id])
    assert base is not None
    assert base.version_id == pony.id
    assert find_base_for(db, user, cards[stranger.id]) is None


# What a checkpoint says of itself


@pytest.mark.parametrize(
    ("base_model", "facts", "words"),
    [
        ("SDXL 1.0", {"architecture": "sdxl-refiner", "variant": "refiner"}, "is a refiner"),
        ("SD 1.5", {"architecture": "sd1", "variant": "inpaint"}, "is made for inpainting"),
        ("Flux.1 D", {"architecture": "flux1"}, "(Flux.1 D) cannot train or draw here yet"),
        ("SDXL 1.0", {"architecture": "sdxl", "prediction": "edm"}, "noise schedule (EDM)"),
        ("SD 1.5", {"kind": "unknown"}, "was not recognised"),
        ("SD 1.5", {"kind": "vae"}, "is a VAE, not a checkpoint"),
    ],
)
def test_a_checkpoint_that_cannot_run_says_why(
    db: Session, user: User, base_model: str, facts: dict[str, Any], words: str
) -> None:
    version = page(db, user, "Checkpoint", base_model, name="Big", **facts)
    assert words in why_not(version)
    with pytest.raises(Invalid) as refused:
        checkpoint_ref(db, user, version.id)
    assert refused.value.code == "base-model-unsupported"
    assert refused.value.detail == f"Big {why_not(version)}. Choose another base model."
    [card] = list_fitting(db, user, "Checkpoint")
    assert not card.fit.usable
    assert card.fit.words.startswith("It ")


def test_a_family_that_is_not_installed_does_not_run(db: Session, user: User) -> None:
    version = page(db, user, "Checkpoint", "SD 1.5", architecture="sd1", name="Big")
    version.family = "gone"
    with pytest.raises(Invalid) as refused:
        checkpoint_ref(db, user, version.id)
    assert refused.value.code == "base-model-unsupported"
    assert [c.family for c in list_choices(db, user, "Checkpoint")] == [None]


# VAEs


def test_a_vae_is_taken_beside_the_checkpoint(db: Session, user: User, xl: CheckpointRef) -> None:
    vae = page(db, user, "VAE", "Pony", name="Fix", component="VAE with 4 latent channels")
    ref = checkpoint_ref(db, user, xl.model_version_id or 0, vae_version_id=vae.id)
    assert ref.vae is not None
    assert (ref.vae.name, ref.vae.sha256) == ("Fix.safetensors", vae.files[0].blob_sha256)
    assert ref.model_copy(update={"vae": None}) == xl


@pytest.mark.parametrize(
    ("type", "base_model", "facts", "code"),
    [
        ("VAE", "SD 1.5", {"component": "VAE with 4 latent channels"}, "vae-base-mismatch"),
        ("VAE", "Starter 1", {"architecture": "starter"}, "vae-base-mismatch"),
        ("VAE", "Other", {"component": "VAE with 4 latent channels"}, "vae-base-unknown"),
        ("LORA", "SDXL 1.0", {"architecture": "sdxl"}, "not-a-vae"),
        ("VAE", "SDXL 1.0", {"kind": "upscaler"}, "not-a-vae"),
    ],
)
def test_a_vae_that_does_not_fit_is_refused(
    db: Session, user: User, xl: CheckpointRef, type: str, base_model: str, facts: dict[str, Any], code: str
) -> None:
    vae = page(db, user, type, base_model, **facts)
    with pytest.raises(Invalid) as refused:
        vae_ref(db, user, xl, vae.id)
    assert (refused.value.code, refused.value.errors[0].pointer) == (code, "#/vae_version_id")


def test_a_vae_by_what_the_file_is(db: Session, user: User, xl: CheckpointRef) -> None:
    vae = page(db, user, "Other", "SDXL 1.0", kind="vae", component="VAE with 4 latent channels")
    assert vae_ref(db, user, xl, vae.id).sha256 == vae.files[0].blob_sha256
    vae.model.visibility = "private"
    with pytest.raises(NotFound):
        vae_ref(db, make_user(db), xl, vae.id)


def test_sd2_takes_the_vae_of_sd1(db: Session, user: User) -> None:
    page(db, user, "VAE", "SD 1.5", name="Soft")
    assert [f.fit.usable for f in list_fitting(db, user, "VAE", base_model="SD 2.1")] == [True]
    assert [f.fit.usable for f in list_fitting(db, user, "VAE", base_model="SDXL 1.0")] == [False]


def test_a_checkpoint_without_a_vae_needs_one(db: Session, user: User) -> None:
    bare = page(db, user, "Checkpoint", "SDXL 1.0", architecture="sdxl", has_vae=False, name="Bare")
    vae = page(db, user, "VAE", "SDXL 1.0")
    with pytest.raises(Invalid) as refused:
        checkpoint_ref(db, user, bare.id)
    assert (refused.value.code, refused.value.errors[0].pointer) == ("vae-missing", "#/vae_version_id")
    assert checkpoint_ref(db, user, bare.id, vae_version_id=vae.id).vae is not None


# Embeddings


def test_an_embedding_for_a_job(db: Session, user: User, xl: CheckpointRef) -> None:
    version = page(
        db, user, "TextualInversion", "SDXL 1.0", architecture="sdxl", file="neg-XL.v2.safetensors"
    )
    ref = embedding_ref(db, user, xl, version.id)
    assert (ref.name, ref.base_model, ref.model_version_id) == ("neg-XL.v2", "SDXL 1.0", version.id)
    wrong = page(db, user, "TextualInversion", "SD 1.5", architecture="sd1")
    lora = page(db, user, "LORA", "SDXL 1.0", architecture="sdxl")
    for other, code in ((wrong, "lora-base-mismatch"), (lora, "not-an-embedding")):
        with pytest.raises(Invalid) as refused:
            embedding_ref(db, user, xl, other.id)
        assert refused.value.code == code


def test_embeddings_are_found_by_their_names(db: Session, user: User, xl: CheckpointRef) -> None:
    other = make_user(db)
    facts = {"architecture": "sdxl", "file": "easy-neg.safetensors"}
    page(db, other, "TextualInversion", "SDXL 1.0", **facts)
    mine = page(db, user, "TextualInversion", "SDXL 1.0", **facts)
    page(db, other, "TextualInversion", "SDXL 1.0", **facts)
    page(db, user, "TextualInversion", "SD 1.5", architecture="sd1", file="sd1-only.safetensors")
    found = embeddings_in(db, user, xl, "a house, (Easy-Neg:1.2), sd1-only", "embedding:easy-neg.")
    assert [(e.name, e.model_version_id) for e in found] == [("easy-neg", mine.id)]
    assert embeddings_in(db, user, xl, "a house, easy negative") == ()
