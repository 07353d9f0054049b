// `@civitai/client` from npm: workflows that draw, their list and their tags, a resource, a plan, a refusal.
import {
  addWorkflowTag, createCivitaiClient, getResource, getWorkflow, queryWorkflows, submitWorkflow, updateWorkflow,
} from "@civitai/client";

const [url, token, checkpoint, lora] = process.argv.slice(2);
const client = createCivitaiClient({ auth: token, baseUrl: url });
const step = (extra = {}) => ({
  $type: "textToImage",
  input: {
    model: checkpoint, prompt: "tuscafternoon, tower", scheduler: "eulerA", steps: 4, cfgScale: 5, width: 128,
    height: 128, seed: 41, quantity: 1, additionalNetworks: { [lora]: { strength: 0.7 } }, ...extra,
  },
});
const submit = (steps, query = {}) => submitWorkflow({ client, body: { steps, tags: ["first"] }, query });
const planned = await submit([step()], { whatif: true });
const sent = await submit([step()], { wait: 30 });
let made = sent.data;
while (!["succeeded", "failed", "canceled", "expired"].includes(made.status)) {
  made = (await getWorkflow({ client, path: { workflowId: made.id }, query: { wait: 30 } })).data;
}
const tagged = await addWorkflowTag({ client, path: { workflowId: made.id }, body: "second" });
const listed = await queryWorkflows({ client, query: { tags: ["second"] } });
const later = await submit([step({ quantity: 4 })]);
const stopped = await updateWorkflow({ client, path: { workflowId: later.data.id }, body: { status: "canceled" } });
const resource = await getResource({ client, path: { air: lora } });
const unknown = await submit([step({ model: "urn:air:sd1:checkpoint:civitai:4384@128713" })]);
console.log(JSON.stringify({
  planned: [planned.response.status, planned.data],
  made,
  tagged: tagged.response.status,
  listed: listed.data.items.map((item) => [item.id, item.tags]),
  stopped: stopped.response.status,
  resource: resource.data,
  unknown: [unknown.response.status, unknown.error],
}));
