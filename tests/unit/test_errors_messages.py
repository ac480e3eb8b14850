"""Messages in other languages."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendkit.core.clock import ManualClock
from backendkit.errors import (
    AppError,
    Conflict,
    Errors,
    InvalidArgument,
    MessagesError,
    NotFound,
    Rendered,
    ValidationFailed,
    from_status,
    validation_error,
)
from backendkit.errors.issues import Issue


class SeatGone(Conflict):
    """For these tests."""

    code = "TEST_SEAT_GONE"
    message = "Seat {seat} in row {row} is gone"


GERMAN = {
    "errors": {
        "TEST_SEAT_GONE": "Platz {seat} ist weg",
        "NOT_FOUND": "Nicht gefunden",
        "VALIDATION_ERROR": "Die Anfrage ist ungültig",
    },
    "issues": {
        "REQUIRED": "Fehlt",
        "TOO_SHORT": "Ist zu kurz",
        "Must have at least {min_length} items": "Braucht mindestens {min_length} Einträge",
        "INVALID_JSON": "Kein gültiges JSON",
    },
}


@pytest.fixture
def errors() -> Errors:
    """A registry that speaks German, a little Austrian, and some French."""
    return Errors(
        SeatGone,
        clock=ManualClock(),
        messages={
            "de": GERMAN,
            "de-AT": {"errors": {"NOT_FOUND": "Nix da"}},
            "fr": {"errors": {"NOT_FOUND": "Introuvable"}},
        },
    )


def told(rendered: Rendered) -> dict[str, Any]:
    """Return the envelope's inside."""
    body: dict[str, Any] = json.loads(rendered.body)["error"]
    return body


@pytest.mark.parametrize(
    ("header", "message", "language"),
    [
        ("de", "Platz 12A ist weg", "de"),
        ("de-AT", "Platz 12A ist weg", "de"),
        ("fr", "Seat 12A in row 3 is gone", "en"),
        ("it", "Seat 12A in row 3 is gone", "en"),
        (None, "Seat 12A in row 3 is gone", "en"),
    ],
)
def test_a_message_is_told_in_the_clients_language(
    errors: Errors, header: str | None, message: str, language: str
) -> None:
    """What a language lacks is told in the next shorter one, then in the default; the header says which it was."""
    rendered = errors.render(SeatGone(seat="12A", row=3), accept_language=header)
    assert told(rendered)["message"] == message
    assert dict(rendered.headers)["Content-Language"] == language
    assert dict(rendered.headers)["Vary"] == "Accept, Accept-Language"


def test_a_region_overrides_its_language(errors: Errors) -> None:
    """`de-AT` has its own word, and takes the rest from `de`."""
    assert told(errors.render(NotFound(), accept_language="de-AT"))["message"] == "Nix da"
    assert told(errors.render(NotFound(), accept_language="de-CH"))["message"] == "Nicht gefunden"


def test_a_problem_is_translated_as_well(errors: Errors) -> None:
    """Its `detail` is the message; `title` and `code` stay."""
    rendered = errors.render(NotFound(), accept="application/problem+json", accept_language="fr")
    assert json.loads(rendered.body)["detail"] == "Introuvable"
    assert json.loads(rendered.body)["title"] == "Not found"


def test_without_messages_no_header_speaks_of_languages() -> None:
    """What does not vary must not say so: caches would keep copies."""
    headers = dict(Errors().render(NotFound(), accept_language="de").headers)
    assert "Content-Language" not in headers
    assert headers["Vary"] == "Accept"


def test_with_one_format_only_the_language_varies() -> None:
    """`Vary` names what the answer depends on, and nothing else."""
    errors = Errors(format="envelope", messages={"de": {}})
    assert dict(errors.render(NotFound()).headers)["Vary"] == "Accept-Language"


def test_a_text_of_the_applications_own_stays(errors: Errors) -> None:
    """It says more than the general message would, in whatever language it is written."""
    error = from_status(404, "No such tenant")
    rendered = errors.render(error, accept_language="de")
    assert told(rendered)["message"] == "No such tenant"
    assert dict(rendered.headers)["Content-Language"] == "en"


def test_a_missing_parameter_falls_back(errors: Errors) -> None:
    """A translation with a hole would look broken; the original shows which parameter is missing."""
    rendered = errors.render(SeatGone(row=3), accept_language="de")
    assert told(rendered)["message"] == "Seat {seat} in row 3 is gone"


def test_issues_are_translated_by_sentence_then_by_code(errors: Errors) -> None:
    """One code stands for several sentences; a sentence has the parameters."""

    class Order(pydantic.BaseModel):
        name: str = pydantic.Field(min_length=3)
        items: list[int] = pydantic.Field(min_length=2)
        note: str
        age: int = pydantic.Field(ge=18)

    with pytest.raises(pydantic.ValidationError) as caught:
        Order.model_validate({"name": "a", "items": [1], "age": 3})
    error = validation_error(caught.value.errors())
    rendered = errors.render(error, accept_language="de")
    lines = {line["field"]: line["issue"] for line in told(rendered)["details"]}
    assert lines == {
        "name": "Ist zu kurz",
        "items": "Braucht mindestens 2 Einträge",
        "note": "Fehlt",
        "age": "Must be at least 18",
    }
    assert dict(rendered.headers)["Content-Language"] == "de, en"
    assert {line["code"] for line in told(rendered)["details"]} == {
        "TOO_SHORT",
        "REQUIRED",
        "TOO_SMALL",
    }


def test_plain_lines_are_translated_by_code(errors: Errors) -> None:
    """An application writes lines by hand, too."""
    details = [{"field": "a", "issue": "Is required", "code": "REQUIRED"}, {"issue": "Odd"}]
    rendered = errors.render(ValidationFailed(details=details), accept_language="de")
    assert [line["issue"] for line in told(rendered)["details"]] == ["Fehlt", "Odd"]


def test_the_default_language_may_reword_and_add() -> None:
    """The library's English is not everybody's, and an application has issues of its own."""
    errors = Errors(
        messages={
            "en": {"errors": {"NOT_FOUND": "Nothing here"}, "issues": {"SEAT_ODD": "Must be even"}},
            "de": {"issues": {"SEAT_ODD": "Muss gerade sein"}},
        }
    )
    assert told(errors.render(NotFound()))["message"] == "Nothing here"
    assert told(errors.render(NotFound(), accept_language="de"))["message"] == "Nothing here"
    error = ValidationFailed(details=[{"issue": "odd", "code": "SEAT_ODD"}])
    assert (
        told(errors.render(error, accept_language="de"))["details"][0]["issue"]
        == "Muss gerade sein"
    )
    assert told(errors.render(error))["details"][0]["issue"] == "Must be even"


def test_catalogues_are_read_from_files(tmp_path: Path) -> None:
    """Translators deliver files."""
    file = tmp_path / "de.json"
    file.write_text(json.dumps(GERMAN), encoding="utf-8")
    for source in (file, str(file)):
        errors = Errors(SeatGone, messages={"de": source})
        assert told(errors.render(NotFound(), accept_language="de"))["message"] == "Nicht gefunden"


def faults_of(messages: Any, **options: Any) -> list[tuple[str, str, str]]:
    """Return what is found wrong."""
    with pytest.raises(MessagesError) as caught:
        Errors(SeatGone).translate(messages, **options)
    assert isinstance(caught.value, InvalidArgument)
    for fault in caught.value.faults:
        assert fault.language in str(caught.value)
        assert fault.rule in str(caught.value)
    return [(fault.language, fault.key, fault.rule) for fault in caught.value.faults]


def test_all_that_is_wrong_is_told_at_once() -> None:
    """Whoever mends a catalogue wants the list, not one fault per start."""
    found = faults_of(
        {
            "de": {
                "errors": {
                    "NOT_FUOND": "x",
                    "TEST_SEAT_GONE": "{seat} {price}",
                    "GONE": "{",
                    "ZZZ": "x",
                },
                "issues": {
                    "TOO_SHORT": "mindestens {min_length}",
                    "Must be at least {ge}": "ab {gt}",
                },
            }
        }
    )
    assert ("de", "NOT_FUOND", "is not known; NOT_FOUND is") in found
    assert ("de", "ZZZ", "is not known") in found
    assert any(key == "TEST_SEAT_GONE" and "{price}" in rule for _, key, rule in found)
    assert any(key == "GONE" and "no template" in rule for _, key, rule in found)
    assert any("{gt}" in rule for _, _, rule in found)
    # Every sentence of TOO_SHORT has {min_length}, so that its translation may.
    assert not any(key == "TOO_SHORT" for _, key, _ in found)
    assert len(found) == 5


def test_a_code_has_only_the_parameters_of_all_its_sentences() -> None:
    """TOO_SMALL is "greater than {gt}" and "at least {ge}": neither is there for sure."""
    found = faults_of({"de": {"issues": {"TOO_SMALL": "Mindestens {ge}", "TOO_LARGE": "Zu groß"}}})
    assert [(key, "{ge}" in rule) for _, key, rule in found] == [("TOO_SMALL", True)]


@pytest.mark.parametrize(
    ("messages", "rule"),
    [
        ({"de": 5}, "no mapping"),
        ({"de": {"error": {}}}, "only `errors` and `issues`"),
        ({"de": {"errors": []}}, "must map texts"),
        ({"de": {"errors": {"NOT_FOUND": 5}}}, "must map texts"),
        ({"de": {"errors": {5: "x"}}}, "must map texts"),
        ({"d e": {}}, "no language tag"),
        ({"a" + "-a" * 64: {}}, "no language tag"),
        ({"de": {}, "DE": {}}, "same language"),
        ({"de": "/no/such/file.json"}, "cannot be read"),
    ],
)
def test_a_catalogue_of_the_wrong_shape_is_refused(messages: Any, rule: str) -> None:
    """At start, by name, rather than in the middle of an error."""
    assert rule in faults_of(messages)[0][2]


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    """As any other fault."""
    (tmp_path / "de.json").write_text("{", encoding="utf-8")
    assert "cannot be read" in faults_of({"de": tmp_path / "de.json"})[0][2]


def test_the_default_must_be_a_tag() -> None:
    """It goes into a header."""
    assert "no language tag" in faults_of({}, language="e\n")[0][2]


def test_classes_defined_since_can_be_translated() -> None:
    """An application's modules are often imported after its registry was built."""
    errors = Errors()
    late = type("LateSeat", (Conflict,), {"code": "TEST_LATE_SEAT", "__module__": __name__})
    errors.translate({"de": {"errors": {"TEST_LATE_SEAT": "Zu spät"}}})
    assert told(errors.render(late(), accept_language="de"))["message"] == "Zu spät"
    late.__qualname__ = "<locals>.LateSeat"


def test_a_refusal_leaves_the_registry_as_it_was(errors: Errors) -> None:
    """Half a translation is worse than the old one."""
    with pytest.raises(MessagesError):
        errors.translate({"de": {"errors": {"NO_SUCH": "x"}}})
    assert told(errors.render(NotFound(), accept_language="fr"))["message"] == "Introuvable"


def test_many_headers_do_not_fill_memory(errors: Errors) -> None:
    """The header is the client's to choose."""
    for number in range(1000):
        errors.render(NotFound(), accept_language=f"de;q=0.{number:03}")
    assert (
        told(errors.render(NotFound(), accept_language="de" + "," * 400))["message"]
        == "Nicht gefunden"
    )
    messages = errors._messages
    assert messages is not None
    assert len(messages._chosen) <= 256


def test_an_issue_survives_pickle_and_copy() -> None:
    """Errors travel between processes, with their lines."""
    issue = Issue({"issue": "Must be 3"}, "Must be {expected}", {"expected": 3})
    for twin in (pickle.loads(pickle.dumps(issue)), copy.deepcopy(issue), copy.copy(issue)):
        assert (twin, twin.template, twin.params) == (issue, issue.template, issue.params)
        assert type(twin) is Issue


class Hostile:
    """A value that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    def __format__(self, _: str) -> str:
        raise RuntimeError("no")


hostile = st.one_of(
    st.text(),
    st.floats(),
    st.none(),
    st.builds(Hostile),
    st.integers(),
    st.just("\ud800"),
    st.just([[]]),
)


@given(
    st.text(max_size=30) | st.sampled_from(["de", "fr", "de-AT;q=0.5,*"]),
    st.dictionaries(st.sampled_from(["seat", "row", "x"]), hostile),
    st.lists(
        st.dictionaries(st.sampled_from(["field", "issue", "code"]), hostile, max_size=3),
        max_size=3,
    ),
    st.sampled_from(["REQUIRED", "TOO_SHORT", "X"]) | hostile,
)
def test_translating_never_raises(header: str, params: Any, details: Any, code: Any) -> None:
    """Whatever parameters and lines hold."""
    errors = Errors(SeatGone, messages={"de": GERMAN})
    error = SeatGone(details=[*details, {"code": code}], **params)
    rendered = errors.render(error, accept_language=header)
    assert rendered.status == 409
    assert told(rendered)["code"] == "TEST_SEAT_GONE"
    assert int(dict(rendered.headers)["Content-Length"]) == len(rendered.body)


def test_the_base_can_be_translated_too() -> None:
    """What nobody has foreseen is told in the client's language as well."""
    errors = Errors(messages={"de": {"errors": {"INTERNAL_ERROR": "Interner Fehler"}}})
    assert told(errors.render(KeyError("x"), accept_language="de"))["message"] == "Interner Fehler"
    assert errors.kinds["INTERNAL_ERROR"] is AppError
