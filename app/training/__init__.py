"""From a form to a training job, and from its result to a published version."""
