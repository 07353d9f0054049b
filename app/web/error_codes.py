"""What each error code means and what to do: the page that `type` of every problem leads to."""

CODES: dict[str, str] = {
    "adapter-empty": (
        "The training ran to its end and changed nothing: the learning rate is far too low. Raise it and "
        "train again."
    ),
    "air-unknown": (
        "No model here has this AIR, or you may not see it. Models from other sites are not fetched; each "
        "model's own AIR is on its page and in GET /api/v1/models."
    ),
    "already-published": (
        "This training has a model page already. Publish another epoch as a new version of it."
    ),
    "archive": "The file is a packed archive. Unpack it and upload the .safetensors file inside.",
    "bad-request": "The request could not be understood. The detail says what was wrong with it.",
    "bad-token": "The token is unknown, has expired or was deleted. Make a new one on the Settings page.",
    "base-model-broken": (
        "The archive of the base model cannot be read. Upload the checkpoint again or choose another."
    ),
    "base-model-incomplete": (
        "The checkpoint lacks a part that is not installed here. `detail` says which to bring."
    ),
    "base-model-missing": (
        "The base checkpoint of this job is not on the server any more, or you may not see it."
    ),
    "base-model-unsupported": (
        "This installation cannot train on that base model yet. Choose another checkpoint."
    ),
    "base-model-unusable": (
        "The base model cannot be trained on here. The detail says what is wrong; choose another one."
    ),
    "cannot-pause": "Only trainings can be paused. Cancel the job instead.",
    "changed-meanwhile": (
        "Somebody changed this after you read it. Read it again and send your change with the new ETag."
    ),
    "checkpoint-refused": (
        "The checkpoint cannot be used here. The detail says what is wrong; choose another one."
    ),
    "clip-too-large": "The clip's picture is too large to read here. Export it at 1080p.",
    "clip-too-long": "The clip is too long to train on. Cut it into clips of 2 to 10 seconds.",
    "clip-truncated": "The clip was cut off: it ends before its header says. Copy it again.",
    "clip-unreadable": "The clip is damaged or was cut off. Export it as MP4 (H.264) and add it again.",
    "codec-unreadable": "The clip is coded in a way that is not read here. Export it as MP4 (H.264).",
    "common-trigger": "Advice: the trigger word is an everyday word. A made-up word works better.",
    "conflict": "The thing is not in a state that allows this. The detail says which state it is in.",
    "content-blocked": "The same content was taken down here before and cannot be published again.",
    "dataset-empty": "The data set has no picture. Add some, then start the training.",
    "dataset-media": "The set holds clips and pictures were expected, or the reverse. Choose another set.",
    "dataset-too-small": "The data set has too few pictures to train on. Add more.",
    "dataset-unlabeled": "Pictures have no label. Add labels, or give a trigger word.",
    "digest-mismatch": (
        "The bytes changed on their way: their hash is not the one that you named. Send them again."
    ),
    "disk-full": "The server's disk has too little room. Delete what you do not need, or ask the admin.",
    "duplicate-file": "The version has this very file already. Nothing was added.",
    "duplicate-lora": "The same LoRA was named twice. Name it once, with the strength that you want.",
    "embedding-unusable": (
        "An embedding does not fit this checkpoint or cannot be read. Remove it or choose another one."
    ),
    "empty-file": "The file is empty. Copy or download it again.",
    "failed": "The job failed. The detail says why; change what it names and start it again.",
    "few-pictures": "Advice: with so few pictures the result is likely stiff. 15 to 30 are best.",
    "file-cut-off": "The file is not whole: its copy or download broke off. Fetch it again.",
    "file-damaged": "The file does not hold what its header or its hash says. Upload it again.",
    "file-missing": (
        "A file that the job needs is no longer on the server. Upload it again or choose another one."
    ),
    "file-not-found": "The version has no such file, or you may not see it.",
    "forbidden": "You are known, but you may not do this.",
    "gone": "It was here and is not given out any more: its owner has archived it.",
    "gguf": "A GGUF file is for programs for compressed models. Bring the .safetensors form.",
    "idempotency-in-progress": (
        "The first request with this Idempotency-Key is still being answered. Ask again in a moment."
    ),
    "idempotency-key-reused": (
        "This Idempotency-Key was used with another body. Use a new key for a new request."
    ),
    "image-missing": "The picture to start from, or its mask, is not here any more. Choose it again.",
    "image-too-large": "The picture has more pixels than can be used for this. Make it smaller.",
    "image-too-small": "The picture is smaller than the smallest side that can be used.",
    "image-unreadable": "The file is not a picture that can be read, or it is damaged.",
    "insufficient-scope": (
        "The token is valid and lacks the scope that this needs. Make one with that scope."
    ),
    "internal-error": (
        "The job met a mistake in the program. Try again; the server's log has the details for the admin."
    ),
    "internal-server-error": "Something went wrong on the server. Tell the admin the number in the detail.",
    "invalid-settings": "The settings cannot be drawn with this checkpoint. The detail says which to change.",
    "job-already-finished": (
        "The job has ended, so it cannot be paused or resumed. Use retry to run it again."
    ),
    "job-canceled": "The job was stopped before anything of it was done. Start it again.",
    "job-deleted": "The job was deleted while something waited for it. Start it again.",
    "job-not-finished": "The job has not ended yet. Wait for its end or cancel it first.",
    "job-state": "The job is in a state that does not allow this. The detail says which.",
    "job-unreadable": "The job was made by another version of Bottega. Start it again.",
    "last-admin": "This is the only admin. Make somebody else an admin first.",
    "lfs-pointer": "The file only points to a large file. Fetch the large file itself (git lfs pull).",
    "link-gone": "A link that works once was used already, or is too old. Ask the admin for a new one.",
    "login-failed": "The name or the password is not right.",
    "lora-base-mismatch": "The LoRA was trained for another kind of base model than the chosen checkpoint.",
    "lora-base-unknown": (
        "It is not known for which base model this was made. Its owner can say so on its page."
    ),
    "lora-unusable": (
        "A LoRA does not fit this checkpoint or cannot be read. Remove it or choose another one."
    ),
    "method-not-allowed": "This address exists and does not take that kind of request.",
    "model-unknown": "There is no such model here, or it is not shared with you. List the models first.",
    "name-taken": "Somebody has this name already. Choose another one.",
    "no-frames": "The file has no moving pictures in it. Export it again as MP4 (H.264).",
    "noise-taken": (
        "The file would be for the same noise as one that the version has, or its model has one network "
        "only. Say the other one with `noise`, or remove a file first."
    ),
    "noise-unknown": (
        "The model has two networks, and nothing says which one the file is. Say `high` or `low` with "
        "`noise`."
    ),
    "no-generation-data": (
        "The picture holds no generation data that is known here. Type the settings, or start from it."
    ),
    "not-a-clip": "The file is no clip that can be read. MP4, WebM, MOV, GIF and pictures are taken.",
    "not-a-lora": "A trained LoRA can only become a version of a model page of the type LORA.",
    "not-a-model": "The file is no safetensors file and no zipped diffusers folder.",
    "not-a-text-encoder": "What was named as a text encoder is none. Choose a page of the type TextEncoder.",
    "not-a-vae": "What was named as a VAE is none. Choose a page of the type VAE.",
    "not-an-embedding": "What was named as an embedding is none. Choose a page of the type TextualInversion.",
    "not-finite": (
        "The numbers ran over while drawing. Lower the CFG scale, the weights or the LoRA strength."
    ),
    "not-found": "There is nothing at this address, or it is private and not yours.",
    "not-paused": "Only a paused training can go on. Use retry for one that has ended.",
    "not-running": "This works only while the training is running.",
    "nothing-to-publish": "The model has no version with a file. Add a file before you publish it.",
    "other-format": (
        "The model is in a format of other programs (ONNX, HDF5, NumPy). Bring it as .safetensors."
    ),
    "out-of-memory": (
        "The device has too little memory. Use a smaller resolution, a smaller batch or gradient "
        "checkpointing."
    ),
    "out-of-memory-expected": (
        "The training needs more memory than any training machine has. The detail says which settings fit."
    ),
    "part-size": "The part is not as long as it must be. All parts but the last are `part_size` bytes.",
    "parts-missing": (
        "Some parts have not arrived. `missing` lists their numbers; send these, then complete the upload."
    ),
    "pickle": (
        "A pickle (.ckpt, .pt, .pth, .bin) can run programs, so it is never opened. "
        "Bring its .safetensors form."
    ),
    "picture": "The file is a picture or a clip, not a model.",
    "primary-file": "The version stands on this file. Delete the version instead.",
    "queue-full": "You have as many unfinished jobs as one may have. Wait for one to end, or cancel one.",
    "quota-exceeded": "Your storage is used up. Delete what you do not need, or ask the admin for more.",
    "rate-limited": "Too many requests in a minute. Wait as many seconds as Retry-After says.",
    "registration-closed": "New accounts are not open to everybody here. Ask the admin for an invitation.",
    "rights-missing": "Confirm that you may use the pictures before the training starts.",
    "service-unavailable": (
        "The database is away for a moment. Nothing is lost; try again in a few seconds."
    ),
    "small-pictures": (
        "Advice: some pictures are smaller than the training resolution, so they are enlarged."
    ),
    "snapshot-gone": (
        "The pictures that this training took are gone, so it cannot be run again. Start a new one."
    ),
    "still-drawing": (
        "The drawing takes longer than a request may wait. It goes on: look at the job that the answer names."
    ),
    "storage-away": (
        "The storage did not answer for a while. Try again later; nothing that was saved is lost."
    ),
    "text": "The file is a text, not a model.",
    "text-encoder-mismatch": (
        "The checkpoint cannot read with this text encoder: Wan's models read with UMT5 XXL, LTX-Video with "
        "T5 XXL, all others with their own."
    ),
    "too-large": "The file is larger than a form may be. Send it in parts with an upload.",
    "tokenizer-missing": (
        "A text encoder works only with its tokenizer. Upload a zip with the folders text_encoder and "
        "tokenizer of a diffusers checkpoint."
    ),
    "too-many-cells": "The grid would have more pictures than one grid may have. Give fewer values.",
    "too-many-files": "A version has at most 20 files. Remove one first.",
    "too-many-pictures": "A version shows at most 20 pictures. Take some off the page first.",
    "training-diverged": (
        "The loss stopped being a number. Lower the learning rate; the last good checkpoint is kept."
    ),
    "took-too-long": "The search was stopped after two seconds. Use fewer or rarer words, or another filter.",
    "try-again": "The server cannot check this for a moment. Try again in a few seconds.",
    "unauthorized": "Nobody is logged in and no token was sent. Send Authorization: Bearer <token>.",
    "unsupported-media": "The file is of a kind that is not taken here.",
    "upload-complete": "The upload is complete. Its parts cannot be changed any more.",
    "upload-failed": "The upload failed and cannot go on. Start a new one.",
    "upload-incomplete": "The upload is not complete yet. Send what is missing and complete it first.",
    "vae-base-mismatch": "The VAE is for another kind of base model. Choose one for that of the checkpoint.",
    "vae-base-unknown": "It is not known for which base model the VAE is. Its owner can say so on its page.",
    "vae-missing": "The checkpoint holds no VAE, so it cannot make pictures alone. Name one for it.",
    "validation-failed": (
        "Some fields are wrong. `errors` lists each with a JSON pointer and what to correct."
    ),
    "web-page": (
        "The file is a web page: the download was answered with a page. Log in there and download again."
    ),
    "webhook-events": "The webhook names an event that does not exist.",
    "webhook-url": "The webhook needs an address that begins with https://.",
    "worker-lost": (
        "The process that did the work vanished several times, e.g. because the machine ran out of memory."
    ),
    "wrong-base-model": (
        "The file was made for another base model than you said. Leave the field out, or correct it."
    ),
    "wrong-file": (
        "The file does not belong to the others of this version; the detail says why, and where it belongs."
    ),
    "wrong-model-type": (
        "The file is another kind of model than the page is for. Make a page of the type that is named."
    ),
    "zip": "This zip holds no diffusers folder that can be used. Unpack it and upload the .safetensors file.",
}
