"""An error whose answer a face has made already, in its own shape.

A route class that caught an error and answered it would do so inside the request's unit of work, which would
then commit. Raised as `Rendered` the error passes through it, and what the request had changed is undone.
"""

from fastapi import FastAPI, Request
from fastapi.responses import Response


class Rendered(Exception):
    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


async def _answer(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Rendered)
    return error.response


def add_rendered_handler(app: FastAPI) -> None:
    app.add_exception_handler(Rendered, _answer)
