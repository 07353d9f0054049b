"""The pictures of a job in the order in which they cost least, for grids above all.

Cells with the same LoRAs stand together, because switching them costs time, and cells that differ in
their seed alone are one request, so that their prompts are encoded once.
"""

from collections.abc import Callable
from dataclasses import dataclass

from app.contract.jobs import GenerateJob
from app.contract.passes import picture_calls, picture_job
from worker.inference.flow_samplers import check_flow_sampler
from worker.inference.samplers import check_sampler


@dataclass(frozen=True)
class Series:
    """Pictures that differ in their seed alone. `places[i]` is the number in the job of the one of seed i."""

    job: GenerateJob
    places: tuple[int, ...]

    @property
    def calls(self) -> int:
        """Of the model, for all of them."""
        return len(self.places) * picture_calls(self.job)


def series_of(job: GenerateJob, *, flow: bool = False) -> list[Series]:
    """All pictures of a job. SettingsError for a sampler that there is not.

    `flow`: its model predicts a flow, for which there are other samplers.
    """
    check: Callable[[str, str], object] = check_flow_sampler if flow else check_sampler
    if job.grid is None:
        check(job.sampler, job.schedule)
        return [Series(job, tuple(range(len(job.seeds))))]
    alike: dict[tuple[object, ...], dict[GenerateJob, dict[int, int]]] = {}
    for place in range(len(job.grid.cells)):
        own = picture_job(job, place)
        check(own.sampler, own.schedule)
        rest = own.model_copy(update={"seeds": ()})
        alike.setdefault(own.loras, {}).setdefault(rest, {})[place] = own.seeds[0]
    return [
        Series(rest.model_copy(update={"seeds": tuple(seeds.values())}), tuple(seeds))
        for group in alike.values()
        for rest, seeds in group.items()
    ]
