"""The command line. Each command imports what it needs when it runs, so that --help answers at once."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bot import program_version

if TYPE_CHECKING:
    from bot.core.settings import Settings

EXIT_FAILED, EXIT_USAGE, EXIT_CONFIGURATION, EXIT_INTERRUPTED = 1, 2, 78, 130

EXAMPLES = """\
examples:
  fairbrush run                                        the bot and its Playground, on http://127.0.0.1:8765
  fairbrush imagine "a red circle on a blue background --steps 20 --seed 7" -o out.png
  fairbrush imagine "a {red, green} star --count 2"    four pictures, named after the prompt
  fairbrush recipe out.png                             the command that makes this picture again
  fairbrush doctor                                     what is configured, and whether it works
  fairbrush key create "our web shop"                  a key for everything but the Playground on this machine
  fairbrush key list                                   whose keys there are, and what they may spend
  fairbrush weight discord:80351110224678912 2         twice the usual share for this server
  fairbrush invite                                     the address that adds the bot to a Discord server
  fairbrush slack-manifest                             what to paste when making the app in Slack
"""

PLATFORM_COMMANDS = {
    "invite": "print the address that adds the bot to a Discord server",
    "slack-manifest": "print the manifest of the Slack app",
}

IMAGINE_EXAMPLES = """\
options in the prompt text:
  --steps 30  --guidance 7.5  --seed 7  --size 768x512  --ar 16:9  --count 4  --negative blurry
  --scheduler "Euler a"  --model ID  --style watercolor  --strength 0.6 (with --image)
examples:
  fairbrush imagine "a house by the sea at sunset --ar 3:2 --seed 12" -o house.png
  fairbrush imagine "a yellow star on a black background --count 3" -o star.png     star-1.png ... star-3.png
  fairbrush imagine "a green hill --strength 0.5" --image photo.png
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit code: 0, 1 failed, 2 bad options, 78 configuration, 130 interrupted."""
    from bot.core.errors import ConfigurationError, FairbrushError, Refusal

    parser = _parser()
    args, more = parser.parse_known_args(argv)
    if hasattr(args, "arguments"):  # a platform's command reads its own
        args.arguments += more
    elif more:
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    try:
        return int(args.command(args))
    except Refusal as error:
        print(f"fairbrush: {error.message}", file=sys.stderr)
        return EXIT_USAGE
    except ConfigurationError as error:
        print(f"fairbrush: {error.message}", file=sys.stderr)
        return EXIT_CONFIGURATION
    except FairbrushError as error:
        print(f"fairbrush: {error.message}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="fairbrush",
        description="A self-hosted image bot with a durable, fair queue.",
        epilog=EXAMPLES,
        formatter_class=raw,
    )
    parser.add_argument("--version", action="version", version=f"fairbrush {program_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    run = commands.add_parser("run", help="start the bot and the web Playground")
    run.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    run.add_argument("--port", type=int, help="port to listen on (default 8765)")
    _data_dir(run)
    run.set_defaults(command=_run)

    imagine = commands.add_parser(
        "imagine", help="make pictures here and now", epilog=IMAGINE_EXAMPLES, formatter_class=raw
    )
    imagine.add_argument("prompt", nargs="+", metavar="PROMPT", help="the prompt, with options in it")
    imagine.add_argument("-o", "--output", type=Path, help="file to write (default: named after the prompt)")
    imagine.add_argument("-i", "--image", type=Path, help="picture to start from")
    imagine.add_argument("--mask", type=Path, help="with --image: white is repainted")
    imagine.add_argument("--json", action="store_true", help="print the full recipe")
    _data_dir(imagine)
    imagine.set_defaults(command=_imagine)

    recipe = commands.add_parser("recipe", help="print the command that makes a picture again")
    recipe.add_argument("file", type=Path, metavar="FILE")
    recipe.add_argument("--json", action="store_true", help="print the full recipe")
    recipe.set_defaults(command=_recipe)

    doctor = commands.add_parser("doctor", help="check the configuration, the data and the backends")
    doctor.add_argument("--json", action="store_true", help="for programs")
    _data_dir(doctor)
    doctor.set_defaults(command=_doctor)

    key = commands.add_parser("key", help="API keys").add_subparsers(metavar="COMMAND", required=True)
    create = key.add_parser("create", help="make a key and print it, once, on the last line")
    create.add_argument("name", metavar="NAME", help="what it is for, for you to recognise")
    create.add_argument(
        "--organization", metavar="ORG", help="in the addresses of the Salad format (default: any)"
    )
    create.add_argument("--weight", metavar="W", help="its share of the machines, 0.1 to 100 (default 1)")
    create.add_argument("--daily-budget", metavar="B", help="US dollars a day (UTC) at paid backends")
    _data_dir(create)
    create.set_defaults(command=_key_create)
    listing = key.add_parser("list", help="print all keys, but never what opens the door")
    _data_dir(listing)
    listing.set_defaults(command=_key_list)
    revoke = key.add_parser("revoke", help="let a key open nothing any more")
    revoke.add_argument("key_id", metavar="ID", help="as `fairbrush key list` shows it")
    _data_dir(revoke)
    revoke.set_defaults(command=_key_revoke)

    weight = commands.add_parser("weight", help="print or set a server's share of the machines")
    weight.add_argument("tenant", metavar="TENANT", help="discord:SERVER_ID, slack:TEAM_ID or key:ID")
    weight.add_argument("weight", nargs="?", metavar="W", help="0.1 to 100; 1 is everybody's")
    _data_dir(weight)
    weight.set_defaults(command=_weight)

    for name, told in PLATFORM_COMMANDS.items():
        command = commands.add_parser(name, help=told, add_help=False)
        command.add_argument("arguments", nargs=argparse.REMAINDER)
        command.set_defaults(command=_platform_command, name=name)
    return parser


def _data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", type=Path, metavar="D", help="where jobs, keys and pictures are kept")


def _settings(args: argparse.Namespace) -> Settings:
    from bot.config import load

    return load(
        data_dir=args.data_dir,
        host=getattr(args, "host", None),
        port=getattr(args, "port", None),
    )


def _async(work: Coroutine[Any, Any, int]) -> int:
    return asyncio.run(work)


def _run(args: argparse.Namespace) -> int:
    from bot.run import run

    return _async(run(_settings(args)))


def _imagine(args: argparse.Namespace) -> int:
    from bot.imagine import imagine

    return _async(
        imagine(
            _settings(args),
            " ".join(args.prompt),
            output=args.output,
            image=args.image,
            mask=args.mask,
            as_json=args.json,
        )
    )


def _recipe(args: argparse.Namespace) -> int:
    from bot.imagine import show_recipe

    return show_recipe(args.file, as_json=args.json)


def _doctor(args: argparse.Namespace) -> int:
    from bot.doctor import doctor

    return _async(doctor(_settings(args), as_json=args.json))


def _weight(args: argparse.Namespace) -> int:
    from bot.core.ranges import number
    from bot.weights import weight

    settings = _settings(args)
    now = asyncio.run(weight(settings, args.tenant, args.weight))
    if args.weight is not None:
        told = "A running bot counts it within 5 seconds."
        print(f"The weight of {args.tenant} for the data in {settings.data_dir}. {told}", file=sys.stderr)
    print(number(now))
    return 0


def _platform_command(args: argparse.Namespace) -> int:
    """A command that an adapter brings along: main(settings, arguments) -> exit code."""
    from importlib.metadata import entry_points

    from bot.config import load
    from bot.core.errors import ConfigurationError

    found = list(entry_points(group="fairbrush.commands", name=args.name))
    if not found:
        raise ConfigurationError("Fairbrush is not installed here. Run: pip install -e '.[local]'")
    return int(found[0].load()(load(), args.arguments))


def _key_create(args: argparse.Namespace) -> int:
    from bot.keys import Wanted, create_key

    settings = _settings(args)
    wanted = Wanted(args.name, args.organization, args.weight, args.daily_budget)
    text = asyncio.run(create_key(settings, wanted))
    print(
        f'Key "{args.name}" for the data in {settings.data_dir}. It is shown this once; keep it safe.',
        file=sys.stderr,
    )
    print(text)
    return 0


def _key_list(args: argparse.Namespace) -> int:
    from bot.keys import listed_keys, table

    settings = _settings(args)
    keys = asyncio.run(listed_keys(settings))
    if not keys:
        told = "Make one with: fairbrush key create NAME"
        print(f"There is no key yet for the data in {settings.data_dir}. {told}", file=sys.stderr)
        return 0
    print(table(keys))
    return 0


def _key_revoke(args: argparse.Namespace) -> int:
    from bot.keys import revoke_key

    key = asyncio.run(revoke_key(_settings(args), args.key_id))
    told = "A running bot refuses it within a second; what it has asked for already is still made."
    print(f'The key {key.key_id} ("{key.name}") is revoked. {told}', file=sys.stderr)
    return 0
