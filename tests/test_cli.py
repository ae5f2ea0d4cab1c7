"""The command line as people use it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from bot.cli import main

BAD = [
    ("", "prompt"),
    ("   ", "prompt"),
    ("a cat --steps 0", "steps"),
    ("a cat --steps 1000000000", "steps"),
    ("a cat --steps -1", "steps"),
    ("a cat --steps nan", "steps"),
    ("a cat --steps", "steps"),
    ("a cat --stpes 20", "--steps"),
    ("a cat --guidance inf", "guidance"),
    ("a cat --guidance 1e400", "guidance"),
    ("a cat --guidance 31", "guidance"),
    ("a cat --seed 18446744073709551616", "seed"),
    ("a cat --seed -1", "seed"),
    ("a cat --count 9999", "count"),
    ("a cat --width 100000", "width"),
    ("a cat --size 12x", "size"),
    ("a cat --size 512", "size"),
    ("a cat --ar 0:1", "ar"),
    ("a cat --ar 1:1000000", "ar"),
    ("a cat --ar 16:9 --ar 1:1", "twice"),
    ("a cat --size 2048x2048 --steps 150 --count 10", "2048"),
    ("a cat --scheduler Nonsense", "scheduler"),
    ("a cat --scheduler UniPC Beta", "UniPC Beta does not work with this model"),
    ("a cat --model no-such-model", "model"),
    ("a cat --style no-such-style", "style"),
    ("a cat --strength 0.5", "strength"),
]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FAIRBRUSH_DATA_DIR", str(tmp_path / "data"))


@pytest.mark.parametrize(("prompt", "named"), BAD)
def test_a_bad_option_is_one_clear_line_and_exit_code_2(
    prompt: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["imagine", prompt, "-o", "out.png"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert named in err
    assert not Path("out.png").exists()


def test_the_same_command_gives_the_same_pixels_and_another_seed_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = "a red circle on a blue background --steps 20 --seed"
    assert main(["imagine", f"{command} 7", "-o", "one.png"]) == 0
    assert main(["imagine", f"{command} 7", "-o", "two.png", "--json"]) == 0
    assert main(["imagine", f"{command} 8", "-o", "three.png"]) == 0
    one, two, three = (Image.open(name).convert("RGB") for name in ("one.png", "two.png", "three.png"))
    assert one.tobytes() == two.tobytes()
    assert one.tobytes() != three.tobytes()
    red = one.getpixel((one.width // 2, one.height // 2))
    blue = one.getpixel((2, 2))
    assert isinstance(red, tuple)
    assert isinstance(blue, tuple)
    assert red[0] > 150 > max(red[1:])
    assert blue[2] > 150 > max(blue[:2])
    printed = capsys.readouterr().out
    recipe = json.loads(printed[printed.index("{") : printed.rindex("}") + 1])
    assert (recipe["seed"], recipe["steps"]) == (7, 20)


def test_a_picture_says_which_command_makes_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["imagine", "a green star --steps 4 --seed 3 --count 2", "-o", "star.png"]) == 0
    assert capsys.readouterr().out.split() == ["star-1.png", "star-2.png"]
    assert main(["recipe", "star-2.png"]) == 0
    command = capsys.readouterr().out.strip()
    assert command.startswith("fairbrush imagine 'a green star")
    assert "--seed 4" in command
    assert main(["imagine", re.findall("'(.*)'", command)[0], "-o", "again.png"]) == 0
    again, before = (Image.open(name).convert("RGB") for name in ("again.png", "star-2.png"))
    # a batch of two and a single picture may round differently in the last bit
    assert max(abs(a - b) for a, b in zip(again.tobytes(), before.tobytes(), strict=True)) <= 1


def test_without_o_pictures_are_named_after_the_prompt_and_never_overwrite(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("a-red-star-5.png", "a-red-star-5-2.png"):
        assert main(["imagine", "a red star --steps 2 --seed 5"]) == 0
        assert capsys.readouterr().out.strip() == name


def test_a_size_is_kept_exactly_and_the_recipe_says_what_was_really_made() -> None:
    assert main(["imagine", "a red star --steps 2 --size 520x296 --seed 5", "-o", "wide.png"]) == 0
    with Image.open("wide.png") as wide:
        assert wide.size == (520, 296)


def test_a_file_without_a_recipe_is_a_clear_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    assert main(["recipe", "plain.png"]) == 2
    assert "no recipe" in capsys.readouterr().err
    assert main(["recipe", "missing.png"]) == 2
    assert "missing.png" in capsys.readouterr().err


def test_a_key_is_printed_alone_on_the_last_line_and_stored_as_its_digest(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["key", "create", "our web shop"]) == 0
    key = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"fb_[\w-]{43}", key)
    assert main(["key", "create", ""]) == 2
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir() if path.is_file())
    assert key.encode() not in stored
    assert b"our web shop" in stored


def test_a_key_has_an_organization_a_weight_and_a_budget_and_is_listed_without_its_secret(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--organization", "our-shop", "--weight", "2.5", "--daily-budget", "3"]
    assert main(["key", "create", "our web shop", *options]) == 0
    assert main(["key", "create", "a second one"]) == 0
    keys = capsys.readouterr().out.split()
    assert main(["key", "list"]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["ID", "NAME", "ORGANIZATION", "WEIGHT", "BUDGET", "CREATED", "REVOKED"]
    key_id, *rest = re.split(r" {2,}", first)
    assert re.fullmatch(r"[0-9a-f]{16}", key_id)
    assert rest[:4] == ["our web shop", "our-shop", "2.5", "$3/day"]
    assert rest[-1] == "-"
    assert re.split(r" {2,}", second)[1:5] == ["a second one", "-", "1", "-"]
    assert not any(key in first + second for key in keys)
    assert main(["weight", f"key:{key_id}"]) == 0
    assert capsys.readouterr().out == "2.5\n"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--organization", "Our Shop"], "ORG must have 2 to 63 characters"),
        (["--organization", "2shops"], "ORG must have 2 to 63 characters"),  # no address would be its own
        (["--organization", "-shop"], "ORG must have 2 to 63 characters"),
        (["--organization", "x"], "ORG must have 2 to 63 characters"),
        (["--weight", "0"], "from 0.1 to 100"),
        (["--weight", "heavy"], 'W must be a number such as 2 or 0.5, not "heavy"'),
        (["--daily-budget", "-1"], "B must be from 0 to 1000000 US dollars a day"),
        (["--daily-budget", "nan"], "B must be a number"),
    ],
)
def test_a_wrong_option_of_a_key_is_named_and_no_key_is_made(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["key", "create", "shop", *(f"{options[0]}={options[1]}",)]) == 2
    assert main(["key", "list"]) == 0
    out, err = capsys.readouterr()
    assert told in err
    assert out == ""


def test_a_key_is_revoked_by_its_id_and_an_unknown_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    main(["key", "create", "our web shop"])
    main(["key", "list"])
    key_id = capsys.readouterr().out.splitlines()[-1].split()[0]
    assert main(["key", "revoke", "abc"]) == 2
    assert f"{key_id} (our web shop)" in capsys.readouterr().err
    assert main(["key", "revoke", f"key:{key_id}"]) == 0
    assert main(["key", "list"]) == 0
    once = capsys.readouterr().out
    assert once.splitlines()[-1].endswith("UTC")
    assert main(["key", "revoke", key_id]) == 0
    assert main(["key", "list"]) == 0
    assert capsys.readouterr().out == once


def test_a_wrong_setting_is_one_line_and_exit_code_78(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (
        ("FAIRBRUSH_PORT", "99999"),
        ("FAIRBRUSH_BACKENDS", "nonsense:x"),
        ("FAIRBRUSH_BACKENDS", "local"),
        ("FAIRBRUSH_STYLES", "{"),
        ("FAIRBRUSH_LOG_LEVEL", "loud"),
        ("FAIRBRUSH_DATABASE_URL", "mysql://x"),
        ("DISCORD_TOKEN_FILE", "/nonexistent"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert main(["run", "--port", "0"] if name != "FAIRBRUSH_PORT" else ["run"]) == 78
        err = capsys.readouterr().err
        assert name in err
        assert "Traceback" not in err


def test_doctor_names_a_broken_model_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("FAIRBRUSH_BACKENDS", f"local:{tmp_path / 'no-model'}")
    assert main(["doctor", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["ok"]
    assert any("no-model" in finding["detail"] for finding in report["findings"])


def test_doctor_finds_the_shipped_model_and_a_sound_database(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "local:" in printed
    assert "bad" not in printed


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from bot.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "slow = {'torch', 'aiohttp', 'pydantic', 'discord', 'slack_bolt', 'PIL', 'numpy'}\n"
        "heavy = slow & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "examples:" in done.stdout
