"""From the generator's form to a job, and from its result to pictures."""
