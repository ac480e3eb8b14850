"""Settings: everything named, everything bounded, no secret shown."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from backendkit.kit import Kit
from backendkit.settings import Settings, SettingsError, StoreSettings
from backendkit.tokens import KeyRing, SecretRing


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


SECRETS = "s2:" + "0123456789abcdef" * 4 + " s1:" + "fedcba9876543210" * 4


def test_keys_and_secrets_are_read_at_start_from_files_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As secret files, as a file of keys, as PEM; and the kit makes of them what they are for."""
    ring = KeyRing.generate("ES256")
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "BACKENDKIT_TOKENS__KEYS").write_text(json.dumps(ring.private_jwks()))
    (folder / "BACKENDKIT_TOKENS__SECRETS").write_text(SECRETS + "\n")
    (folder / "BACKENDKIT_PASSWORDS__PEPPERS").write_text("p1:" + "0123456789abcdef" * 4)
    monkeypatch.setenv("BACKENDKIT_TOKENS__ISSUER", "https://id.example")
    monkeypatch.setenv("BACKENDKIT_TOKENS__AUDIENCE", "api admin")
    monkeypatch.setenv("BACKENDKIT_TOKENS__ACCESS", "60")
    monkeypatch.setenv("BACKENDKIT_PASSWORDS__MEMORY_MIB", "8")
    monkeypatch.setenv("BACKENDKIT_PASSWORDS__LEGACY", "bcrypt scrypt")
    with Kit.from_env(secrets_dir=folder) as kit:
        tokens, hasher = kit.tokens(), kit.passwords(failure_time=0.001)
        pair = tokens.issue("u")
        assert pair.expires_in == 60
        assert tokens.verify(pair.access_token).claims["aud"] == ("api", "admin")
        assert [key.kid for key in tokens.keys.keys] == [ring.keys[0].kid]
        assert list(tokens.secret.ids) == ["s2", "s1"]
        assert (
            kit.one_time("reset").take(kit.one_time("reset").issue("u", bound="h"), bound="h")
            == "u"
        )
        assert hasher.profile.memory_kib == 8 << 10
        assert hasher.hash("x" * 15).startswith("$bk1$k=p1$argon2id")
    shown = repr(kit.settings) + kit.settings.model_dump_json()
    for secret in ("0123456789abcdef", "fedcba98", ring.keys[0].jwk(private=True)["d"]):
        assert secret not in shown
    monkeypatch.setenv("BACKENDKIT_TOKENS__KEYS_FILE", str(folder / "BACKENDKIT_TOKENS__KEYS"))
    assert len(Settings.from_env().tokens.key_ring().keys) == 1


def test_wrong_keys_and_secrets_are_named_at_start_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each by its variable, all at once."""
    (tmp_path / "keys").write_text("hunter2")
    wrong = {
        "TOKENS__KEYS": '{"kty":"oct","alg":"HS256","k":"aHVudGVyMg"}', "TOKENS__SECRETS": "s1:hunter2",
        "TOKENS__ISSUER": "id", "TOKENS__GRACE": "61", "PASSWORDS__PEPPERS": "p1:hunter2",
        "PASSWORDS__LEGACY": "md5", "PASSWORDS__MEMORY_MIB": "1",
    }  # fmt: skip
    for name, value in wrong.items():
        monkeypatch.setenv(f"BACKENDKIT_{name}", value)
    with pytest.raises(SettingsError) as caught:
        Settings.from_env()
    told = faults(caught.value)
    assert set(told) == {f"BACKENDKIT_{name}" for name in wrong}
    assert "at least 32 bytes" in told["BACKENDKIT_TOKENS__KEYS"][0]
    assert "hunter2" not in str(caught.value) + repr(caught.value.faults)
    assert "aHVudGVyMg" not in str(caught.value) + repr(caught.value.faults)
    for more, said in (
        ({"keys_file": tmp_path / "none"}, "cannot be read"),
        ({"keys_file": tmp_path / "keys"}, "neither JWKs nor PEM"),
        (
            {"keys": json.dumps(KeyRing.generate("HS256").private_jwks()), "keys_file": "x"},
            "beside",
        ),
        ({"idle": 60.0}, "must not be shorter than access"),
    ):
        with pytest.raises(SettingsError, match=said) as caught:
            Settings(tokens=more)
        assert "hunter2" not in str(caught.value)


def test_tokens_need_their_settings_when_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before; what is passed need not be set."""
    ring, secret = KeyRing.generate(), SecretRing.generate()
    kit = Kit()
    given: dict[str, Any] = {"issuer": "i", "audience": "a", "keys": ring, "secret": secret}
    assert kit.tokens(**given).keys is ring
    for missing, variable in (
        ("issuer", "TOKENS__ISSUER"), ("audience", "TOKENS__AUDIENCE"), ("keys", "TOKENS__KEYS"),
        ("secret", "TOKENS__SECRETS"),
    ):  # fmt: skip
        with pytest.raises(SettingsError, match=f"BACKENDKIT_{variable} must be set"):
            kit.tokens(**{name: value for name, value in given.items() if name != missing})
    with pytest.raises(SettingsError, match="BACKENDKIT_TOKENS__SECRETS"):
        kit.one_time("reset")
