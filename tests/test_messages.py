"""The texts that people read."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.core import messages
from bot.core.ports import JobStatus, Position, Progress
from bot.core.request import ImageResult, Picture, Requester, State


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0, 0, "under a minute"),
        (10, 59, "under a minute"),
        (10, 61, "1-2 min"),
        (60, 180, "1-3 min"),
        (119, 121, "1-3 min"),
        (300, 300, "about 5 min"),
        (20 * 60, 89 * 60, "20-89 min"),
        (2 * 3600, 4 * 3600, "2-4 h"),
        (100, 2 * 3600, "1-2 h"),
        (40 * 3600, 90 * 3600, "1-4 days"),
        (500, 20, "1-9 min"),
        (-5, -1, "under a minute"),
    ],
)
def test_a_wait_is_told_as_a_range_that_holds(low: float, high: float, text: str) -> None:
    assert messages.wait_range(low, high) == text


def test_time_spent() -> None:
    spent = [messages.duration(seconds) for seconds in (0.2, 18.4, 59.6, 100, 3600, 7500)]
    assert spent == ["0 s", "18 s", "1:00", "1:40", "1:00:00", "2:05:00"]


def test_a_place_in_the_queue() -> None:
    position = Position(own_rank=2, own_total=3, ahead=9, low=60, high=180)
    assert messages.place(position) == "#2 of yours · about 9 ahead · 1-3 min"
    assert messages.ahead(position) == "About 9 requests ahead"
    assert messages.own_place(position) == "your #2 of 3"
    alone = Position(own_rank=1, own_total=1, ahead=0, low=1, high=9)
    assert messages.place(alone) == "next · under a minute"
    assert messages.ahead(alone) == "Next"
    assert messages.own_place(alone) == ""
    assert messages.ahead(Position(1, 1, 1, 0, 0)) == "About 1 request ahead"


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Progress(0.4, 12, 30), "▰▰▰▰▱▱▱▱▱▱ 12/30"),
        (Progress(0.0, 0, 30), "▱▱▱▱▱▱▱▱▱▱ 0/30"),
        (Progress(1.0, 30, 30), "▰▰▰▰▰▰▰▰▰▰ 30/30"),
        (Progress(1.5, 31, 30), "▰▰▰▰▰▰▰▰▰▰ 30/30"),
        (Progress(0.55), "▰▰▰▰▰▱▱▱▱▱ 55 %"),
        (Progress(-1.0), "▱▱▱▱▱▱▱▱▱▱ 0 %"),
        (Progress(0.0, phase="Loading the model"), "Loading the model"),
        (Progress(0.999, phase="Sending"), "▰▰▰▰▰▰▰▰▰▱ 99 %"),
    ],
)
def test_a_progress_bar(progress: Progress, text: str) -> None:
    assert messages.progress_bar(progress) == text


def test_a_prompt_is_shown_on_one_short_line() -> None:
    assert messages.one_line("a red\nfox ") == "a red fox"
    shown = messages.one_line("fox " * 60)
    assert len(shown) <= 80
    assert shown.endswith("fox…")


def test_why_somebody_waits() -> None:
    assert messages.why_waiting(31) == (
        "31 members share 1 GPU. Whoever has had least GPU time since joining the line goes next; "
        "big requests count for more."
    )
    assert messages.why_waiting(31, 2, member="person").startswith("31 people share 2 GPUs. Whoever has")
    assert messages.why_waiting(31, guilds=4) == (
        "31 members of 4 servers share 1 GPU. The server, and in it the member, that has had least GPU time "
        "since joining the line goes next; big requests count for more."
    )
    assert messages.why_waiting(1) == "1 member uses 1 GPU: your own requests are made one after the other."
    assert messages.share_line(100, 50) == "last hour: you 1:40 · typical 0:50"


def picture(seed: int, *, withheld: bool = False) -> Picture:
    return Picture("p", 0, Path("p"), "image/png", 64, 64, seed, "", {}, withheld)


def result(state: State, **changes: object) -> ImageResult:
    return ImageResult("g", Requester("web", "web", "u"), "x", state, **changes)  # type: ignore[arg-type]


def test_a_finished_line_tells_what_made_it() -> None:
    line = messages.finished(seed=812734, model="SDXL", seconds=18.2, backend="local:", money=None)
    assert line == "seed 812734 · SDXL · 18 s · local"
    hosted = result(
        State.DONE,
        pictures=(picture(1, withheld=True), picture(5)),
        model="flux",
        backend="fal:flux",
        device_seconds=3,
        money=0.021,
    )
    assert messages.finished_line(hosted) == "seed 5 · flux · 3 s · fal · $0.02"
    assert messages.finished_line(result(State.DONE, backend="local:")) == "local"


def test_a_small_price_is_not_nothing() -> None:
    prices = [messages.price(money) for money in (0, 0.0004, 0.0042, 0.02, 1.5)]
    assert prices == ["$0.00", "$0.001", "$0.004", "$0.02", "$1.50"]


def test_a_failure_says_that_nothing_was_charged() -> None:
    text = "Not made: out of GPU memory at 2048×2048. Not charged."
    assert messages.not_made("out of GPU memory at 2048×2048") == text
    assert messages.failed("out of GPU memory at 2048×2048.", "7K2Q") == f"{text} ref 7K2Q"
    assert messages.failed("", charged=True) == "Not made: something went wrong."


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ((10, 10), "Not queued: 10 of your 10 places are taken. Wait for one to finish, or cancel one."),
        ((1, 1), "Not queued: 1 of your 1 places is taken. Wait for one to finish, or cancel one."),
        (
            (8, 10, 4),
            "Not queued: 8 of your 10 places are taken and this needs 4 more. Wait, or ask for fewer ",
        ),
        ((0, 10, 16), "Not queued: 0 of your 10 places are taken and this needs 16. Ask for fewer"),
    ],
)
def test_a_full_queue_names_both_numbers_and_the_way_out(asked: tuple[int, ...], text: str) -> None:
    assert messages.queue_full(*asked).startswith(text)


def test_a_full_queue_can_be_the_servers() -> None:
    assert messages.queue_full(500, 500, whose="this server's").startswith(
        "Not queued: 500 of this server's 500 places are taken."
    )
    assert messages.not_queued("The prompt is empty") == "Not queued: The prompt is empty."
    assert messages.not_queued(messages.queue_full(9, 9)) == messages.queue_full(9, 9)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (JobStatus("g", "x", State.ACCEPTED), "Accepted"),
        (JobStatus("g", "x", State.QUEUED), "Queued"),
        (JobStatus("g", "x", State.QUEUED, position=Position(1, 1, 9, 0, 9)), "About 9 requests ahead"),
        (
            JobStatus("g", "x", State.QUEUED, position=Position(1, 1, 9, 0, 9), restarted=True),
            "Restarted, your place was kept · About 9 requests ahead",
        ),
        (JobStatus("g", "x", State.RUNNING), "Starting"),
        (
            JobStatus("g", "x", State.RUNNING, made=1, total=4, progress=Progress(0.5, 15, 30)),
            "▰▰▰▰▰▱▱▱▱▱ 15/30 · 1 of 4 made",
        ),
        (JobStatus("g", "x", State.DONE), "Ready"),
        (JobStatus("g", "x", State.DONE, message="3 of 4 pictures came back."), "3 of 4 pictures came back."),
        (
            JobStatus("g", "x", State.FAILED, message="no", reference="7Q"),
            "Not made: no. Not charged. ref 7Q",
        ),
        (JobStatus("g", "x", State.CANCELLED), "Cancelled. Not charged."),
        (JobStatus("g", "x", State.CANCELLED, made=2), "Cancelled after 2 pictures."),
        (JobStatus("g", "x", State.WITHHELD, message="Withheld: nudity"), "Withheld: nudity."),
    ],
)
def test_every_state_has_a_line(status: JobStatus, text: str) -> None:
    assert messages.status_line(status) == text


def test_a_result_without_pictures_says_why_and_one_with_all_says_nothing() -> None:
    assert messages.ended(result(State.DONE, pictures=(picture(1),))) == ""
    assert messages.ended(result(State.DONE, message="3 of 4 pictures came back.")).startswith("3 of 4")
    assert messages.ended(result(State.FAILED, message="no", reference="AB")).endswith("Not charged. ref AB")
    assert messages.ended(result(State.CANCELLED, pictures=(picture(1),))) == "Cancelled after 1 picture."
    assert messages.ended(result(State.WITHHELD)).startswith("Withheld: a content rule")
