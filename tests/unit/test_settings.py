"""Settings: everything named, everything bounded, no secret shown."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from backendkit.settings import Settings, SettingsError, StoreSettings


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start without ours in the environment, in an empty directory."""
    import os

    for name in list(os.environ):
        if name.upper().startswith("BACKENDKIT_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def faults(error: SettingsError) -> dict[str, tuple[str, str | None]]:
    """Return what is wrong, by variable."""
    return {fault.variable: (fault.rule, fault.value) for fault in error.faults}


def test_built_directly_it_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is for `from_env`."""
    monkeypatch.setenv("BACKENDKIT_ENVIRONMENT", "staging")
    assert Settings().environment == "production"
    assert Settings.from_env().environment == "staging"


def test_the_environment_wins_over_the_file_over_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each sets what those before it leave open, also within one group."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "backendkit_store__url").write_text("redis://:hunter2@a:1/0\n")
    (secrets / "BACKENDKIT_STORE__TIMEOUT").write_text("1")
    (secrets / "BACKENDKIT_ENVIRONMENT").write_text("secret")
    (secrets / "another").write_text("x")
    (tmp_path / ".env").write_text(
        "BACKENDKIT_STORE__TIMEOUT=2\nBACKENDKIT_STORE__CONNECT_TIMEOUT=2\nOTHER=1\n"
    )
    monkeypatch.setenv("BACKENDKIT_STORE__CONNECT_TIMEOUT", "3")
    monkeypatch.setenv("BACKENDKIT_SECRETS_DIR", str(secrets))
    settings = Settings.from_env()
    assert settings.store.url.get_secret_value() == "redis://:hunter2@a:1/0"
    assert (settings.store.timeout, settings.store.connect_timeout) == (2, 3)
    assert settings.environment == "secret"
    assert type(settings) is Settings


def test_all_that_is_wrong_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Variable, rule and value; a misspelt one with what was probably meant."""
    (tmp_path / ".env").write_text("BACKENDKIT_HTTP__DOCS=x\n")
    monkeypatch.setenv("BACKENDKIT_HTTP__ERROR_FORMT", "auto")
    monkeypatch.setenv("BACKENDKIT_STORE__TIMEOUT", "900")
    monkeypatch.setenv("BACKENDKIT_HTTP__TRUST_REQUEST_ID", "perhaps")
    with pytest.raises(SettingsError) as caught:
        Settings.from_env()
    told = faults(caught.value)
    assert told["BACKENDKIT_STORE__TIMEOUT"] == ("must be less than or equal to 60", "'900'")
    assert told["BACKENDKIT_HTTP__TRUST_REQUEST_ID"][1] == "'perhaps'"
    assert told["BACKENDKIT_HTTP__ERROR_FORMT"][0] == (
        "is not a setting; BACKENDKIT_HTTP__ERROR_FORMAT is"
    )
    assert "BACKENDKIT_HTTP__DOCS" in told
    assert len(told) == 4
    for name in told:
        assert name in str(caught.value)


def test_a_secret_is_in_no_message_and_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when it is wrong, not when its name is misspelt, not when all is well."""
    monkeypatch.setenv("BACKENDKIT_STORE__URL", "hunter2")
    monkeypatch.setenv("BACKENDKIT_REDIS_PASSWORD", "hunter2")
    monkeypatch.setenv("BACKENDKIT_STORE__PASSWORD", "hunter2")
    with pytest.raises(SettingsError) as caught:
        Settings.from_env()
    assert "hunter2" not in str(caught.value) + repr(caught.value.faults)
    assert len(caught.value.faults) == 3
    assert caught.value.__suppress_context__
    store = StoreSettings(url="redis://user:hunter2@host:1/0?password=hunter2")  # type: ignore[arg-type]
    assert "hunter2" not in f"{store!r} {store} {store.url} {store.model_dump_json()}"
    assert "host:1/0" in repr(store)


def test_a_group_may_be_given_whole_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is read as strictly, without showing what is in it."""
    monkeypatch.setenv("BACKENDKIT_STORE", '{"timeout": 2}')
    assert Settings.from_env().store.timeout == 2
    monkeypatch.setenv("BACKENDKIT_STORE", '{"password": "hunter2"}')
    with pytest.raises(SettingsError, match="BACKENDKIT_STORE__PASSWORD is not a setting") as one:
        Settings.from_env()
    monkeypatch.setenv("BACKENDKIT_STORE", "{hunter2")
    with pytest.raises(SettingsError, match="cannot be read") as two:
        Settings.from_env()
    assert "hunter2" not in f"{one.value}{two.value}"


def test_arguments_are_held_to_the_same_rules() -> None:
    """In code as in the environment."""
    with pytest.raises(SettingsError, match="BACKENDKIT_STOER is not a setting"):
        Settings(stoer=1)
    with pytest.raises(SettingsError, match="BACKENDKIT_ENVIRONMENT"):
        Settings(environment="Not A Name")


def test_a_directory_of_secrets_must_exist(tmp_path: Path) -> None:
    """A wrong path must not mean no secrets."""
    with pytest.raises(SettingsError, match="BACKENDKIT_SECRETS_DIR must be a directory"):
        Settings.from_env(secrets_dir=tmp_path / "nowhere")


def test_settings_cannot_be_changed_later() -> None:
    """Whoever has read one may rely on it."""
    settings = Settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.environment = "x"
    with pytest.raises(ValueError, match="frozen"):
        settings.store.timeout = 1


def test_every_setting_has_a_default_and_a_description() -> None:
    """What is documented is what there is; a number says its range."""

    def check(model: type[BaseModel]) -> None:
        for name, field in model.model_fields.items():
            assert not field.is_required(), name
            assert field.description, name
            if field.annotation in {int, float}:
                assert len(field.metadata) >= 2, name
                assert ".." in field.description, name
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                check(field.annotation)

    check(Settings)
