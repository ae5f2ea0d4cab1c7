"""From the command to the first picture, beside a plain diffusers script. `python -m benchmarks.start`

Prints seconds until /readyz answers 200 and until the first picture can be fetched, both from the start of
`fairbrush run`, and the seconds that a script takes which loads the same model and makes the same picture.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from aiohttp import ClientSession, CookieJar

MODEL = Path(__file__).parent.parent / "backends" / "local" / "embedded"
PROMPT = "a red circle on a blue background --steps 20 --seed 7"
API = "/playground/api"
PLAIN = """
import sys, torch
from diffusers import StableDiffusionPipeline
pipe = StableDiffusionPipeline.from_pretrained(
    sys.argv[1], safety_checker=None, use_safetensors=True, dtype=torch.float32)
pipe("a red circle on a blue background", width=128, height=128, num_inference_steps=20, guidance_scale=2.5,
     generator=torch.Generator().manual_seed(7)).images[0].save(sys.argv[2])
"""


async def plain(folder: Path) -> float:
    """Seconds of the script, from its start to its picture on disk."""
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PLAIN, str(MODEL), str(folder / "plain.png")),
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await process.wait() == 0, "the plain script failed"
    return time.perf_counter() - began


async def ours(folder: Path) -> tuple[float, float]:
    """Seconds until ready and until the first picture was fetched, from the start of the program."""
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", "run", "--port", "0", "--data-dir", str(folder / "data")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        url = (await process.stdout.readline()).decode().split()[-1]
        async with ClientSession(url, cookie_jar=CookieJar(unsafe=True), headers={"Origin": url}) as page:
            ready = await until_ready(page, began)
            await first_picture(page)
            return ready, time.perf_counter() - began
    finally:
        process.terminate()
        await process.wait()


async def until_ready(page: ClientSession, began: float) -> float:
    """Seconds until /readyz says 200."""
    while True:
        async with page.get("/readyz") as answer:
            if answer.status == 200:
                return time.perf_counter() - began
        await asyncio.sleep(0.05)


async def first_picture(page: ClientSession) -> None:
    """Ask as the page does, until the picture can be fetched."""
    async with page.get("/"):
        pass
    async with page.post(f"{API}/jobs", json={"event": "bench-start-1", "text": PROMPT}) as answer:
        job = (await answer.json())["id"]
    while True:
        async with page.get(f"{API}/jobs/{job}") as answer:
            seen = await answer.json()
        if seen.get("pictures"):
            name = seen["pictures"][0]["name"]
            async with page.get(f"/playground/pictures/{name}") as answer:
                assert (await answer.read()).startswith(b"\x89PNG")
            return
        await asyncio.sleep(0.05)


async def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    rows = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            rows.append((await plain(Path(folder)), *await ours(Path(folder))))
    script, ready, picture = (statistics.median(column) for column in zip(*rows, strict=True))
    ratio = statistics.median(row[2] / row[0] for row in rows)
    print(f"seconds from the start, median of {rounds} rounds in turn")
    print(f"{'fairbrush run: /readyz':34}{ready:>7.1f}  goal <= 5")
    print(f"{'fairbrush run: first picture':34}{picture:>7.1f}  goal <= 12")
    print(f"{'plain diffusers script: picture':34}{script:>7.1f}")
    print(f"{'ratio of the pictures':34}{ratio:>7.2f}")


if __name__ == "__main__":
    asyncio.run(main())
