"""The one command that makes the checkpoint: tokenizer, VAE, judge, text encoder, U-Net, decoder.

    python -m worker.starter.train --out worker/starter/weights

Each stage keeps its state in the work folder and goes on from it when started again; a
preview of the pipeline is refreshed there. `--workers` processes train together.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTokenizer

from worker.starter import parallel
from worker.starter.classifier import train_classifier
from worker.starter.data import Pixels, draw_scenes, draw_to_file, make_scenes
from worker.starter.pipeline import assemble, load_pipeline, picture_grid, sample, save_pipeline
from worker.starter.scenes import scene_prompt
from worker.starter.text import build_text_encoder, school_text_encoder
from worker.starter.tokenizer import train_tokenizer
from worker.starter.unet import Examples, Model, UNetTraining, build_unet
from worker.starter.vae import build_vae, encode, polish_decoder, reconstruction_psnr, train_vae

SCENES = 20_000
_PREVIEW_MEETINGS = 40


def _load_vae(work: Path) -> AutoencoderKL:
    """The VAE, with the polished decoder where that stage has run."""
    polished = work / "polished.pt"
    state = torch.load(polished if polished.exists() else work / "vae.pt", weights_only=True)
    vae = build_vae()
    vae.load_state_dict(state["vae"])
    return vae.eval()


def _fit_scaling(vae: AutoencoderKL, latents: torch.Tensor) -> float:
    """Sets the factor that gives latents a standard deviation of one."""
    means = latents[:4000].float().chunk(2, dim=1)[0]
    scaling = round(1 / float(means.std()), 4)
    vae.register_to_config(scaling_factor=scaling)
    return scaling


def _load_tokenizer(work: Path) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(work / "tokenizer", local_files_only=True)


def prepare(work: Path) -> None:
    """Tokenizer and pictures."""
    train_tokenizer(work / "tokenizer")
    draw_to_file(make_scenes(SCENES, seed=1), work / "scenes.npy")


def run_vae(work: Path, minutes: float) -> None:
    """The VAE, in as many processes as have joined."""
    train_vae(_pixels(work), work / "vae.pt", minutes * 60)


def run_between(work: Path) -> None:
    """Everything between VAE and U-Net: its figure, the latents, judge and text encoder."""
    vae = _load_vae(work)
    unseen = draw_scenes(make_scenes(100, seed=3))
    print(f"vae psnr {reconstruction_psnr(vae, unseen):.2f} dB", flush=True)
    torch.save(encode(vae, _pixels(work)[:SCENES]), work / "latents.pt")
    tokenizer = _load_tokenizer(work)
    text_encoder = build_text_encoder(tokenizer)
    school_text_encoder(text_encoder, tokenizer)
    torch.save(text_encoder.state_dict(), work / "text.pt")


def run_polish(work: Path, minutes: float) -> None:
    """The decoder once more, after the U-Net, in as many processes as have joined."""
    polish_decoder(_load_vae(work), _pixels(work), work / "polished.pt", minutes * 60)


def run_classifier(work: Path) -> None:
    """The judge, which needs the VAE only."""
    scenes = make_scenes(SCENES, seed=1)
    train_classifier(_load_vae(work), _pixels(work), scenes, work / "judge.safetensors")


def run_unet(work: Path, minutes: float) -> None:
    """U-Net and text encoder, in as many processes as have joined."""
    vae, tokenizer = _load_vae(work), _load_tokenizer(work)
    latents = torch.load(work / "latents.pt", weights_only=True)
    examples = Examples(latents, make_scenes(SCENES, seed=1), _fit_scaling(vae, latents))
    text_encoder = build_text_encoder(tokenizer)
    text_encoder.load_state_dict(torch.load(work / "text.pt", weights_only=True))
    torch.manual_seed(2)
    training = UNetTraining(Model(build_unet(), text_encoder), tokenizer, work, minutes * 60)
    for meeting, loss in enumerate(training.run(examples), start=1):
        if parallel.rank() == 0:
            print(f"unet {training.step} {training.budget.elapsed:.0f}s loss {loss:.4f}", flush=True)
            if meeting % _PREVIEW_MEETINGS == 0:
                training.save()
                write_pipeline(work, work / "preview")
    if parallel.rank() == 0:
        training.save()


def write_pipeline(work: Path, folder: Path) -> None:
    """The pipeline as trained so far."""
    vae, tokenizer = _load_vae(work), _load_tokenizer(work)
    _fit_scaling(vae, torch.load(work / "latents.pt", weights_only=True, mmap=True))
    model = Model(build_unet(), build_text_encoder(tokenizer))
    model.load_state_dict(torch.load(work / "unet.pt", weights_only=True)["ema"])
    save_pipeline(assemble(vae, model.text_encoder, tokenizer, model.unet), folder)


def draw_preview(folder: Path) -> None:
    """Writes grid.png: 24 scenes that training did not see."""
    prompts = [scene_prompt(scene) for scene in make_scenes(24, seed=5)]
    pictures = sample(load_pipeline(folder), prompts, list(range(len(prompts))))
    picture_grid(pictures, columns=8).save(folder / "grid.png")


def _pixels(work: Path) -> Pixels:
    return draw_to_file(make_scenes(SCENES, seed=1), work / "scenes.npy")


def _start_workers(stage: str, arguments: argparse.Namespace) -> None:
    """Runs one stage in `--workers` processes, each in a session of its own."""
    rendezvous = arguments.work / "rendezvous"
    rendezvous.unlink(missing_ok=True)
    command = [sys.executable, "-m", "worker.starter.train", *sys.argv[1:], "--stage", stage]
    started = [
        subprocess.Popen([*command, "--rank", str(rank)], start_new_session=True)
        for rank in range(arguments.workers)
    ]
    statuses = [process.wait() for process in started]
    if any(statuses):
        raise SystemExit(f"the {stage} stage failed")


def _run_stage(arguments: argparse.Namespace) -> None:
    parallel.join_workers(arguments.work / "rendezvous", arguments.rank, arguments.workers)
    run = {"vae": run_vae, "unet": run_unet, "polish": run_polish}[arguments.stage]
    run(arguments.work, getattr(arguments, f"minutes_{arguments.stage}"))


def main() -> None:
    """Reads the command line; without --stage runs every stage that is not finished."""
    parser = argparse.ArgumentParser(prog="worker.starter.train")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("data/starter"))
    parser.add_argument("--minutes-vae", type=float, default=60)
    parser.add_argument("--minutes-unet", type=float, default=100)
    parser.add_argument("--minutes-polish", type=float, default=15)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--stage", choices=("vae", "unet", "polish"))
    parser.add_argument("--rank", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.stage:
        _run_stage(arguments)
        return
    prepare(arguments.work)
    _start_workers("vae", arguments)
    run_between(arguments.work)
    run_classifier(arguments.work)
    _start_workers("unet", arguments)
    _start_workers("polish", arguments)
    write_pipeline(arguments.work, arguments.out)


if __name__ == "__main__":
    main()
