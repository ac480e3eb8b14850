"""What lines of details remember for translators, and the rarer ways in which a validator's findings come."""

from __future__ import annotations

from typing import Annotated, Any

import pydantic
import pytest
from pydantic_core import PydanticCustomError

import backendkit.errors
from backendkit.errors import MalformedBody, ValidationFailed, issues, validation_error
from backendkit.errors.foreign import phrases
from backendkit.errors.issues import ISSUES, SENTENCES, Issue
from backendkit.errors.validation import syntax_issue


def found(model: Any, value: Any) -> list[dict[str, str]]:
    """Return the lines for a value that does not fit."""
    with pytest.raises(pydantic.ValidationError) as caught:
        pydantic.TypeAdapter(model).validate_python(value)
    return [dict(line) for line in issues(caught.value.errors())]


def test_a_line_keeps_its_sentence_and_parameters() -> None:
    """For translations; as a dict it is what it was."""
    model = Annotated[str, pydantic.Field(max_length=3)]
    with pytest.raises(pydantic.ValidationError) as caught:
        pydantic.TypeAdapter(model).validate_python("long")
    (line,) = issues(caught.value.errors())
    assert line == {"issue": "Must have at most 3 characters", "code": "TOO_LONG"}
    assert isinstance(line, Issue)
    assert line.template == "Must have at most {max_length} characters"
    assert line.params == {"max_length": 3}


def test_every_sentence_can_be_translated() -> None:
    """The table that catalogues are checked against has all of them."""
    assert {sentence for _, sentence in ISSUES.values()} <= set(SENTENCES)
    lines = (
        syntax_issue("odd", 3),
        *issues([{"type": "value_error", "loc": (), "msg": "no email address"}]),
        *issues(
            [{"type": kind, "loc": ("a", kind)} for kind in ("int_type", "list_type")],
            body={"a": 1},
        ),
    )
    assert len(lines) == 3
    for line in lines:
        assert isinstance(line, Issue)
        assert SENTENCES[line.template] == line["code"]


def test_a_union_of_which_one_complains_keeps_its_words() -> None:
    """There is nothing to merge."""
    errors = [{"type": "int_parsing", "loc": ("body", "a", "int"), "msg": "", "input": "x"}]
    assert issues(errors, body={"a": "x"}) == [
        {"field": "a", "issue": "Must be an integer", "code": "INVALID_TYPE", "pointer": "/a", "in": "body"}
    ]  # fmt: skip


def test_a_custom_types_text_is_told_unless_it_repeats_the_value() -> None:
    """However deep in the input the repeated part is, up to where nobody looks."""

    def custom(value: str) -> str:
        raise PydanticCustomError("seat-odd", "Seat {seat} is odd", {"seat": value})

    def short(value: str) -> str:
        raise ValueError(f"I do not like {value}")

    assert found(Annotated[str, pydantic.AfterValidator(custom)], "hunter2") == [
        {"issue": "Invalid value", "code": "SEAT_ODD"}
    ]
    # A letter gives nothing away.
    assert (
        found(Annotated[str, pydantic.AfterValidator(short)], "x")[0]["issue"] == "I do not like x"
    )
    for value in (
        [{"b": "hunter2"}],
        {"hunter2": True},
        {"a": {"b": ({"c": "hunter2"},)}},
        list(range(100, 200)),
    ):
        error = {"type": "x", "loc": (), "msg": "got hunter2", "input": value}
        assert issues([error])[0]["issue"] == "Invalid value"
    deep: Any = "hunter2"
    for _ in range(9):
        deep = [deep]
    error = {"type": "x", "loc": (), "msg": "got it", "input": deep}
    assert issues([error])[0]["issue"] == "got it"


def test_what_says_nothing_is_told_as_nothing() -> None:
    """An empty ValueError, one that is not there, a type without a name, a context without its parameter."""
    empty = {"type": "value_error", "loc": (), "ctx": {"error": ValueError()}}
    assert issues([empty])[0]["issue"] == "Invalid value"
    assert (
        issues([{"type": "assertion_error", "loc": (), "msg": "x"}])[0]["issue"] == "Invalid value"
    )
    assert issues([{"type": "", "loc": None}]) == [
        {"issue": "Invalid value", "code": "INVALID_VALUE"}
    ]
    assert issues([{"type": "too_short", "loc": ("a",)}]) == [
        {"field": "a", "issue": "Invalid value", "code": "TOO_SHORT", "pointer": "/a"}
    ]


def test_broken_json_is_another_error() -> None:
    """Where that is all that is wrong; the parser's own words end before they quote or count."""
    error = {
        "type": "json_invalid",
        "loc": ("body",),
        "ctx": {"error": "Unterminated string starting at: line 1 column 8 (char 7)"},
    }
    told = validation_error([error])
    assert type(told) is MalformedBody
    assert (
        told.details[0]["issue"] == "Not valid JSON at character 0: Unterminated string starting at"
    )
    assert issues([{"type": "json_invalid", "loc": (5,)}])[0]["issue"].endswith("5: syntax error")
    assert type(validation_error([])) is ValidationFailed


def test_a_status_that_is_none_has_no_phrases() -> None:
    """Frameworks let applications answer 499 or 9000."""
    assert phrases(9000) == frozenset()


def test_public_names_are_there_and_no_others() -> None:
    """Those of the rarer rooms come on first use."""
    for name in backendkit.errors.__all__:
        assert getattr(backendkit.errors, name) is not None
    assert set(backendkit.errors.__all__) <= set(dir(backendkit.errors))
    with pytest.raises(AttributeError, match="no_such"):
        _ = backendkit.errors.no_such
