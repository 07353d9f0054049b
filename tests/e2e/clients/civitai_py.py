"""`civitai-py` from PyPI draws, waits, looks up by token and by query, and cancels.

The token is in the environment, the address is an attribute: `civitai.civitai.base_path`.
"""

import json
import sys
import time

import civitai

url, checkpoint, lora = sys.argv[1:]
civitai.civitai.base_path = url
wanted = {
    "model": checkpoint,
    "params": {"prompt": "tuscafternoon, house", "negativePrompt": "", "scheduler": "EulerA", "steps": 4,
               "cfgScale": 5, "width": 128, "height": 128, "seed": 11, "clipSkip": 1},
    "additionalNetworks": {lora: {"type": "Lora", "strength": 0.7}},
}  # fmt: skip
made = civitai.image.create(wanted, wait=True)
again = civitai.jobs.get(token=made["token"])
slow = wanted | {"quantity": 4, "params": wanted["params"] | {"steps": 60}}
later = civitai.image.create(slow)
stopped = later["jobs"][-1]["jobId"]  # the others are drawn before it
civitai.jobs.cancel(stopped)
after = civitai.jobs.get(token=later["token"])["jobs"]
while next(job for job in after if job["jobId"] == stopped)["scheduled"]:
    time.sleep(0.3)
    after = civitai.jobs.get(token=later["token"])["jobs"]
found = civitai.jobs.query({"jobType": "textToImage"})
print(json.dumps({
    "made": made, "again": again, "stopped": [job for job in after if job["jobId"] == stopped],
    "found": [job.jobId for job in found.jobs],
}))  # fmt: skip
