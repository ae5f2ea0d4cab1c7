"""Settings from the environment, .env and files; and the house rules that a test can hold."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from bot.config import SECRETS, Environment, load, parse_backends
from bot.core.errors import ConfigurationError
from bot.core.settings import BackendEntry, Secret, Settings
from bot.logs import OneLine

ROOT = Path(__file__).parent.parent


def test_the_environment_wins_over_dotenv_and_files_hold_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file, token = tmp_path / ".env", tmp_path / "token"
    token.write_text("s3cret-of-mine\n")
    env_file.write_text(f"FAIRBRUSH_PORT=1111\nFAIRBRUSH_MAX_STEPS=40\nDISCORD_TOKEN_FILE={token}\n")
    monkeypatch.setenv("FAIRBRUSH_PORT", "2222")
    monkeypatch.setenv("SALAD_API_KEY", " copied \r\n")
    settings = load(env_file=env_file)
    assert settings.port == 2222
    assert settings.limits.max_steps == 40
    assert settings.secret("DISCORD_TOKEN").reveal() == "s3cret-of-mine"
    assert settings.secret("SALAD_API_KEY").reveal() == "copied"
    assert "s3cret" not in repr(settings)


def test_a_password_in_an_address_is_refused_without_being_repeated() -> None:
    with pytest.raises(ConfigurationError, match="FAIRBRUSH_A1111_AUTH") as caught:
        parse_backends("local:,a1111:http://me:hunter2@gpu1:7860")
    assert "hunter2" not in caught.value.message


def test_backends_are_kind_target_and_options() -> None:
    assert parse_backends("local:, local:/models/x;slots=2;device=cpu") == (
        BackendEntry("local", ""),
        BackendEntry("local", "/models/x", {"slots": "2", "device": "cpu"}),
    )


@pytest.mark.parametrize("text", ["", "local", ":x", "local:;slots", "local:,local:"])
def test_a_malformed_backend_list_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="FAIRBRUSH_BACKENDS"):
        parse_backends(text)


def test_every_setting_is_in_the_example_file_and_nothing_else_is() -> None:
    example = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    known = {f"FAIRBRUSH_{name.upper()}" for name in Environment.model_fields}
    assert example == known | set(SECRETS)


def test_the_environment_is_read_in_config_alone() -> None:
    readers = [
        path
        for folder in ("bot", "adapters")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"os\.environ|os\.getenv", path.read_text())
    ]
    assert readers == [ROOT / "bot" / "config.py"]


def test_one_record_is_one_line_and_holds_no_secret() -> None:
    formatter = OneLine([Secret("hunter2-hunter2")])
    record = logging.LogRecord("x", logging.INFO, "", 0, "prompt %s", ("a\nb\x1b[31m hunter2-hunter2",), None)
    line = formatter.format(record)
    assert "\n" not in line
    assert "\x1b" not in line
    assert "hunter2" not in line


@pytest.mark.parametrize(
    "address",
    [
        "https://discord.com/api/v10/webhooks/12/to-ken.secret/messages/@original",
        "https://discord.com/api/v10/interactions/12/to-ken.secret/callback?with_response=1",
        "https://hooks.slack.com/commands/T1/12/to-ken.secret",
    ],
)
def test_no_log_line_holds_the_token_of_an_address(address: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "it broke: url='%s'", (address,), None)
    line = OneLine([]).format(record)
    assert "to-ken" not in line
    assert "secret" not in line
    assert address.split("/")[2] in line


@pytest.mark.parametrize(
    "token", ["xoxb-12-34-AbCdEf", "xapp-1-A12-34-abcdef", "xoxe.xoxb-1-MS0yLTEtMTIz", "fb_" + "a-_9" * 10]
)
def test_no_log_line_holds_a_token_that_is_in_no_setting(token: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "it broke: token=%s", (token,), None)
    assert OneLine([]).format(record).endswith("token=***")


def test_settings_have_the_documented_defaults(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert (settings.host, settings.port) == ("127.0.0.1", 8765)
    assert settings.backends == (BackendEntry("local", ""),)
