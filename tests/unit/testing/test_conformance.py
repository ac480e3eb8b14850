"""Every adapter, and the plain frames, answer the suite that ships with the library; and the suite can fail."""

from typing import Any

import pytest

from backendkit.http import WsgiFrame
from backendkit.kit import Kit
from backendkit.testing import SCENARIOS, check_adapter
from backendkit.testing.conformance import client_of, faults, new_kit
from tests.unit.testing.adapters import ADAPTERS, flask_views, on_starlette, on_werkzeug


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_adapter_conforms(name: str) -> None:
    """All scenarios, and what data cannot say."""
    check_adapter(ADAPTERS[name])


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_all_adapters_tell_an_error_in_the_same_bytes(scenario: Any) -> None:
    """Not only what a scenario names: the whole body."""
    if scenario.code is None:
        return
    bodies = set()
    for make in ADAPTERS.values():
        client = client_of(make(new_kit()))
        answer = client.request(
            scenario.method, scenario.path, headers=scenario.sends, body=scenario.body
        )
        bodies.add(answer.body)
    loose = {"nesting without end", "text that is not UTF-8", "a number of 5,000 digits"}
    assert len(bodies) == 1 or scenario.name in loose, bodies


def bare(kit: Kit) -> Any:
    """The application without a kit."""
    return flask_views()


def test_an_application_without_the_frame_fails_and_all_is_listed() -> None:
    """The suite must be able to fail, and must not stop at the first fault."""
    with pytest.raises(AssertionError) as raised:
        check_adapter(bare)
    text = str(raised.value)
    for said in ("no such path: ", "an unknown error: ", "reports once: ", "knows the id: "):
        assert said in text


def test_a_frame_that_tells_the_exception_is_found() -> None:
    """A leak is a fault, wherever it comes from."""

    def leaking(kit: Kit) -> Any:
        app = on_starlette(kit)

        def say(exc: ValueError) -> Any:
            from backendkit.errors import BadRequest

            error = BadRequest()
            error.status, error.message = 500, str(exc)
            error.code = "INTERNAL_ERROR"
            return error

        kit.errors.map(ValueError, say)
        return app

    assert any("tells a secret" in fault for fault in faults(leaking))


def test_one_kit_for_all_applications_is_found() -> None:
    """State that two applications share."""
    shared = new_kit()
    assert any("two applications" in f for f in faults(lambda _: on_starlette(shared)))


def test_scenarios_can_be_left_out_by_name_and_by_need() -> None:
    """An adapter without bodies is still checked for the rest."""

    def broken(kit: Kit) -> Any:
        app = on_starlette(kit)
        app.router.routes = [r for r in app.router.routes if getattr(r, "path", "") != "/orders"]
        return app

    assert list(faults(broken))
    check_adapter(broken, without=["body", "no such method"])


def test_a_frame_without_layers_is_found_and_can_be_excused() -> None:
    """The bare frame names requests and tells errors, and no more."""

    def plain(kit: Kit) -> Any:
        return WsgiFrame(on_werkzeug(kit).app, kit.errors)

    said = "\n".join(faults(plain))
    assert "security headers" in said
    assert "readiness" in said
    check_adapter(plain, without=["layers"])


def test_every_scenario_has_a_name_of_its_own() -> None:
    """Names are how they are left out."""
    names = [scenario.name for scenario in SCENARIOS]
    assert len(names) == len(set(names))
