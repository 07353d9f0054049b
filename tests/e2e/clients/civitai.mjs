// `civitai` from npm: draws, looks up by token, number and query, asks what can be drawn with, cancels.
import { Civitai, OpenAPI, Scheduler } from "civitai";

const [url, token, checkpoint, lora] = process.argv.slice(2);
const client = new Civitai({ auth: token });
OpenAPI.BASE = url;
const wanted = {
  model: checkpoint,
  params: {
    prompt: "tuscafternoon, piazza", negativePrompt: "", scheduler: Scheduler.EULER_A, steps: 4, cfgScale: 5,
    width: 128, height: 128, seed: 31, clipSkip: 1,
  },
  additionalNetworks: { [lora]: { strength: 0.7 } },
};
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const begun = await client.image.fromText(wanted);
let made = begun;
while (!made.jobs[0].result?.blobUrl && made.jobs[0].scheduled) {
  await sleep(300);
  made = await client.jobs.getByToken(begun.token);
}
const one = await client.jobs.getById(made.jobs[0].jobId);
const coverage = await client.models.get([checkpoint]);
const later = await client.image.fromText({ ...wanted, quantity: 4 });
const canceled = await client.jobs.cancel(later.jobs[0].jobId);
const found = await client.jobs.getByQuery({ jobType: "textToImage" });
console.log(JSON.stringify({ begun, made, one, coverage, canceled, found: found.jobs.map((job) => job.jobId) }));
