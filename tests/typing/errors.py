"""What a checker makes of translations, shapes, the catalogue and the client side; never run."""

from typing import Any, assert_type

import httpx
import requests

from backendkit.errors import (
    AppError,
    Catalogue,
    Conflict,
    Errors,
    GrpcCode,
    Pagination,
    Shape,
    Success,
    Told,
    from_graphql,
    from_grpc,
    from_response,
    grpc_code,
    http_status,
    raise_for_error,
    success,
    to_graphql,
    to_grpc,
)


class SeatTaken(Conflict):
    """Three lines."""

    code = "SEAT_TAKEN"
    message = "Seat {seat} is taken"


def flat(told: Told) -> dict[str, object]:
    """A shape."""
    assert_type(told.message, str)
    assert_type(told.error, AppError)
    return {"status_code": told.status, "message": told.message, "data": None}


def registry() -> Errors:
    """Every argument."""
    Errors(shape=Shape(flat, "application/vnd.api+json"))
    errors = Errors(SeatTaken, shape=flat, params=True, messages={"de": "de.json"})
    errors.translate({"de": {"errors": {"SEAT_TAKEN": "Platz {seat}"}}}, language="en")
    assert_type(errors.catalogue(), Catalogue)
    assert_type(errors.tell(KeyError()), Told)
    assert_type(errors.kinds["SEAT_TAKEN"], type[AppError])
    return errors


def clients(one: httpx.Response, other: requests.Response, errors: Errors) -> None:
    """Responses of both libraries, rendered errors, and plain tuples."""
    raise_for_error(one)
    raise_for_error(other, errors)
    raise_for_error(errors.render(KeyError()))
    raise_for_error((404, {"Content-Type": "text/html"}, b""))
    raise_for_error((404, [(b"content-type", b"text/html")], b""))
    assert_type(from_response(one), AppError | None)


def worlds(errors: Errors) -> None:
    """There and back."""
    assert_type(to_grpc(KeyError(), errors, domain="shop.example"), dict[str, Any])
    assert_type(from_grpc({"code": 5}), AppError | None)
    assert_type(from_graphql(to_graphql(KeyError(), errors, path=["a", 0])), AppError)
    assert_type(grpc_code(404), GrpcCode)
    assert_type(http_status(GrpcCode.ABORTED), int)


def page() -> Success[list[int]]:
    """What went well keeps its type."""
    where: Pagination = {"limit": 10, "next": None}
    return success([1], pagination=where)
