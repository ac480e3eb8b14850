"""Validation: where, what, which code; and nothing of what was sent."""

import json
from typing import Annotated, Any, Literal

import pydantic
import pydantic_core
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from backendkit.errors import MalformedBody, ValidationFailed, issues, validation_error
from backendkit.errors.issues import ISSUES


class Item(BaseModel):
    """One line of an order."""

    sku: str = Field(min_length=2)
    count: int = Field(ge=1)


class Cat(BaseModel):
    """One kind of pet."""

    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    """Another."""

    kind: Literal["dog"]
    bones: int


class Order(BaseModel):
    """A body with most of what bodies have."""

    model_config = ConfigDict(extra="forbid")

    email: str
    items: list[Item] = []
    either: int | list[int] = 0
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    names: dict[str, int] = {}


def found(value: Any, model: type[BaseModel] = Order) -> list[Any]:
    """Return pydantic's errors about `value`."""
    with pytest.raises(pydantic.ValidationError) as caught:
        model.model_validate(value)
    return list(caught.value.errors(include_url=False))


def lines(value: Any, model: type[BaseModel] = Order) -> list[Any]:
    """Return our lines about a body."""
    return issues(found(value, model), place="body", body=value)


def test_a_field_has_a_path_a_pointer_a_place_and_a_code() -> None:
    """The whole line, as clients read it."""
    assert lines({"email": "a", "items": [{"sku": "x", "count": 1}]}) == [
        {
            "field": "items.0.sku",
            "issue": "Must have at least 2 characters",
            "code": "TOO_SHORT",
            "pointer": "/items/0/sku",
            "in": "body",
        }
    ]


def test_the_place_is_read_from_the_location() -> None:
    """As FastAPI gives it; only a body has pointers."""
    error = {"type": "missing", "loc": ("query", "page"), "msg": "Field required"}
    assert issues([error]) == [
        {"field": "page", "issue": "Is required", "code": "REQUIRED", "in": "query"}
    ]


def test_a_pointer_is_escaped_and_a_key_that_is_input_is_not_told() -> None:
    """RFC 6901; a key of a mapping is as much input as its value."""
    assert "pointer" not in lines({"email": "a", "names": {"4111 1111": "x"}})[0]
    assert lines({"email": "a", "names": {"4111 1111": "x"}})[0]["field"] == "names.*"
    assert lines({"email": "a", "names": {"ok-1": "x"}})[0]["pointer"] == "/names/ok-1"


def test_a_unions_alternatives_speak_as_one() -> None:
    """Type names that pydantic puts into the path are gone."""
    assert lines({"email": "a", "either": "x"}) == [
        {
            "field": "either",
            "issue": "Matches none of the allowed types",
            "code": "INVALID_TYPE",
            "pointer": "/either",
            "in": "body",
        }
    ]


def test_a_discriminated_unions_tag_is_not_part_of_the_path() -> None:
    """The client sent `pet.lives`, not `pet.cat.lives`."""
    (line,) = lines({"email": "a", "pet": {"kind": "cat"}})
    assert (line["field"], line["code"]) == ("pet.lives", "REQUIRED")


def test_a_wrong_tag_is_not_repeated() -> None:
    """Pydantic's own text quotes it."""
    (line,) = lines({"email": "a", "pet": {"kind": "hunter2"}})
    assert "hunter2" not in json.dumps(line)
    assert line["code"] == "NOT_ALLOWED"


def test_syntax_errors_are_an_offset_and_not_a_field() -> None:
    """FastAPI's location of one is `("body", 10)`."""
    error = {
        "type": "json_invalid",
        "loc": ("body", 10),
        "msg": "JSON decode error",
        "ctx": {"error": "Expecting value"},
    }
    told = validation_error([error])
    assert isinstance(told, MalformedBody)
    assert told.details == [
        {
            "issue": "Not valid JSON at character 10: Expecting value",
            "code": "INVALID_JSON",
            "in": "body",
        }
    ]


def test_an_applications_own_text_is_told_unless_it_repeats_the_value() -> None:
    """A validator that quotes what it got is common, and leaks."""

    def error(text: str) -> dict[str, Any]:
        cause = ValueError(text)
        return {"type": "value_error", "loc": ("a",), "ctx": {"error": cause}, "input": "hunter2"}

    assert issues([error("Must be even")])[0]["issue"] == "Must be even"
    assert issues([error("bad password HUNTER2!")])[0]["issue"] == "Invalid value"


def test_an_applications_own_type_becomes_a_code() -> None:
    """With its message."""
    error = {"type": "seat.taken", "loc": ("seat",), "msg": "Seat is taken", "input": "12A"}
    assert issues([error])[0]["code"] == "SEAT_TAKEN"
    assert issues([error])[0]["issue"] == "Seat is taken"


def test_a_wrong_address_is_told_in_our_words() -> None:
    """Those of the e-mail validator quote parts of it."""
    error = {
        "type": "value_error",
        "loc": ("email",),
        "msg": "value is not a valid email address: contains invalid characters: '<'.",
        "ctx": {"reason": "contains invalid characters: '<'."},
        "input": "<x",
    }
    assert issues([error])[0]["issue"] == "Must be a valid email address"


def test_a_large_bad_request_gets_a_short_answer() -> None:
    """A hundred lines at the most."""
    value = {"email": "a", "items": [{"sku": "x", "count": 0}] * 1000}
    assert len(lines(value)) == 100


def test_the_same_complaint_is_made_once() -> None:
    """For each field and code."""
    error = {"type": "missing", "loc": ("body", "a"), "msg": "x"}
    assert len(issues([error, error])) == 1


def test_every_type_that_pydantic_has_is_in_the_table() -> None:
    """So that a release that adds one is noticed."""
    own = {"value_error", "assertion_error", "json_invalid"}
    known = {entry["type"] for entry in pydantic_core._pydantic_core.list_all_errors()}
    assert known - own - ISSUES.keys() == set()


def test_every_text_of_the_table_can_be_filled_from_pydantics_context() -> None:
    """No template names what the context has not."""
    for entry in pydantic_core._pydantic_core.list_all_errors():
        template = ISSUES.get(entry["type"], ("", ""))[1]
        assert template.format_map(entry.get("example_context") or {}) is not None


CANARY = "c4naryv4lue"
json_values: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([CANARY, f"x {CANARY}", 9, -1, None, True, 1.5, [], {}]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["sku", "count", "kind", f"k {CANARY}"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["email", "items", "either", "pet", "names", f"no {CANARY}"]), json_values
    )
    | json_values
)
def test_nothing_of_a_body_comes_back(value: Any) -> None:
    """Neither values nor keys that are not names."""
    try:
        Order.model_validate(value)
    except pydantic.ValidationError as error:
        told = validation_error(error.errors(include_url=False), place="body", body=value)
        assert isinstance(told, ValidationFailed)
        assert CANARY not in json.dumps(told.details)
        assert told.details


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "type": st.text() | st.integers() | st.sampled_from(sorted(ISSUES)),
                "loc": st.lists(st.text() | st.integers()).map(tuple) | st.none(),
                "msg": st.text() | st.none(),
                "ctx": st.none() | st.dictionaries(st.text(), st.text()),
                "input": st.text() | st.binary() | st.floats() | st.lists(st.text()),
            },
        )
    )
)
def test_any_list_of_errors_gives_lines_of_text(errors: list[Any]) -> None:
    """Whatever a validator made of it."""
    for line in issues(errors, body={"a": [1]}):
        assert {type(text) for pair in line.items() for text in pair} == {str}
        assert {"issue", "code"} <= line.keys()


def test_a_text_of_the_applications_own_that_only_contains_the_input_by_chance_stays() -> None:
    """`mail` is in every text on e-mail; what is put together from the input is dropped all the same."""

    def constant(value: str) -> str:
        raise ValueError("Must be a valid email address")

    def echoing(value: str) -> str:
        raise ValueError(f"{value} is no address")

    for rule, value, expected in (
        (constant, "mail", "Must be a valid email address"),
        (constant, "email", "Must be a valid email address"),
        (echoing, "mail", "Invalid value"),
        (echoing, "hunter2hunter2", "Invalid value"),
    ):
        adapter: pydantic.TypeAdapter[str] = pydantic.TypeAdapter(
            Annotated[str, pydantic.AfterValidator(rule)]
        )
        with pytest.raises(pydantic.ValidationError) as caught:
            adapter.validate_python(value)
        (line,) = issues(caught.value.errors())
        assert line["issue"] == expected
