"""The one command that makes the video starter: tokenizer, autoencoder, text encoder, transformer, judge.

    python -m worker.starter.clips.train --out worker/starter/clips/weights

Each stage keeps its state in the work folder and goes on from it when started again.
"""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan

from worker.starter.clips.data import draw_clips, draw_to_file
from worker.starter.clips.judge import train_classifier
from worker.starter.clips.pipeline import assemble, film_strips, load_pipeline, sample, save_pipeline
from worker.starter.clips.scenes import OTHER_STYLES, make_scenes, scene_prompt
from worker.starter.clips.text import (
    build_text_encoder,
    load_tokenizer,
    school_text_encoder,
    train_tokenizer,
)
from worker.starter.clips.transformer import (
    Examples,
    Model,
    Training,
    build_transformer,
    channel_statistics,
)
from worker.starter.clips.vae import build_vae, encode, polish_decoder, reconstruction_psnr, train_vae

SCENES = 4000
_VAE_SCENES = 1500
"""The first ones of the set: the autoencoder needs fewer."""
_OTHER_SCENES = 300
_JUDGE_SCENES = 2500
_CHUNK = 100
_PREVIEW_EVERY = 40


def run_vae(work: Path, minutes: float) -> None:
    """The autoencoder, on the first clips."""
    clips = draw_to_file(make_scenes(_VAE_SCENES, seed=1), work / "clips.npy")
    train_vae(clips, work / "vae.pt", minutes * 60)


def load_vae(work: Path) -> AutoencoderKLWan:
    """The autoencoder, with the polished decoder where that stage has run."""
    polished = work / "polished.pt"
    state = torch.load(polished if polished.exists() else work / "vae.pt", weights_only=True)
    vae = build_vae()
    vae.load_state_dict(state["vae"])
    return vae.eval()


def run_polish(work: Path, minutes: float) -> None:
    """The decoder once more, after the transformer, on clips in other styles too."""
    scenes = make_scenes(_VAE_SCENES - _OTHER_SCENES, seed=1)
    for number, style in enumerate(OTHER_STYLES):
        scenes += make_scenes(_OTHER_SCENES // len(OTHER_STYLES), seed=30 + number, style=style)
    polish_decoder(
        load_vae(work), draw_to_file(scenes, work / "styles.npy"), work / "polished.pt", minutes * 60
    )


def run_text(work: Path) -> None:
    """Tokenizer and text encoder."""
    if (work / "text.pt").exists():
        return
    tokenizer = train_tokenizer(work / "tokenizer")
    torch.manual_seed(2)
    encoder = build_text_encoder(tokenizer)
    school_text_encoder(encoder, tokenizer)
    torch.save(encoder.state_dict(), work / "text.pt")


def run_latents(work: Path) -> None:
    """All clips of the set as latents; they are drawn and forgotten by the hundred."""
    if (work / "latents.pt").exists():
        return
    vae, scenes = load_vae(work), make_scenes(SCENES, seed=1)
    print(f"vae psnr {reconstruction_psnr(vae, draw_clips(make_scenes(20, seed=3))):.2f} dB", flush=True)
    starts = range(0, len(scenes), _CHUNK)
    parts = [encode(vae, draw_clips(scenes[start : start + _CHUNK])) for start in starts]
    torch.save(torch.cat(parts), work / "latents.pt")


def run_transformer(work: Path, minutes: float) -> None:
    """Transformer and text encoder."""
    tokenizer = load_tokenizer(work / "tokenizer")
    latents = torch.load(work / "latents.pt", weights_only=True)
    examples = Examples(latents, make_scenes(SCENES, seed=1), *channel_statistics(latents))
    encoder = build_text_encoder(tokenizer)
    encoder.load_state_dict(torch.load(work / "text.pt", weights_only=True))
    torch.manual_seed(2)
    training = Training(Model(build_transformer(), encoder), tokenizer, work, minutes * 60)
    for meeting, loss in enumerate(training.run(examples), start=1):
        print(f"transformer {training.step} {training.budget.elapsed:.0f}s loss {loss:.4f}", flush=True)
        if meeting % _PREVIEW_EVERY == 0:
            training.save()
    training.save()


def run_judge(work: Path) -> None:
    """The judge, on clips that the other stages never see."""
    scenes = make_scenes(_JUDGE_SCENES, seed=21)
    clips = draw_to_file(scenes, work / "judge.npy")
    train_classifier(load_vae(work), clips, scenes, work / "judge.safetensors")


def write_pipeline(work: Path, folder: Path) -> None:
    """The pipeline as trained so far."""
    vae, tokenizer = load_vae(work), load_tokenizer(work / "tokenizer")
    mean, deviation = channel_statistics(torch.load(work / "latents.pt", weights_only=True))
    rounded = {
        "latents_mean": [round(float(value), 4) for value in mean.flatten()],
        "latents_std": [round(float(value), 4) for value in deviation.flatten()],
    }
    vae.register_to_config(**rounded)
    model = Model(build_transformer(), build_text_encoder(tokenizer))
    model.load_state_dict(torch.load(work / "transformer.pt", weights_only=True)["ema"])
    save_pipeline(assemble(vae, model.text_encoder, tokenizer, model.transformer), folder)


def draw_preview(folder: Path) -> None:
    """Writes strips.png: twelve scenes that training did not see."""
    prompts = [scene_prompt(scene) for scene in make_scenes(12, seed=5)]
    film_strips(sample(load_pipeline(folder), prompts, list(range(len(prompts))))).save(folder / "strips.png")


def main() -> None:
    """Reads the command line and runs every stage that is not finished."""
    parser = argparse.ArgumentParser(prog="worker.starter.clips.train")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("data/clips-starter"))
    parser.add_argument("--minutes-vae", type=float, default=30)
    parser.add_argument("--minutes-transformer", type=float, default=90)
    parser.add_argument("--minutes-polish", type=float, default=15)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    run_text(arguments.work)
    run_vae(arguments.work, arguments.minutes_vae)
    run_latents(arguments.work)
    run_transformer(arguments.work, arguments.minutes_transformer)
    run_polish(arguments.work, arguments.minutes_polish)
    run_judge(arguments.work)
    write_pipeline(arguments.work, arguments.out)


if __name__ == "__main__":
    main()
