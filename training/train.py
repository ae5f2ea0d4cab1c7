"""Trains the embedded model from nothing: `python -m training.train [--folder FOLDER]`.

Autoencoder, then tokenizer and text encoder, then the diffusion model; each goes on from what lies
in the folder. Times are wall-clock minutes; the folder is a cache that git does not know.
"""

from __future__ import annotations

import argparse
from pathlib import Path

STAGES = ("autoencoder", "text", "unet")
FOLDER = Path(__file__).parent.parent / ".cache" / "training"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="default: %(default)s")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--autoencoder-minutes", type=float, default=15)
    parser.add_argument("--text-minutes", type=float, default=3)
    parser.add_argument(
        "--minutes", type=float, default=90, help="of the diffusion model, resumed ones counted"
    )
    parser.add_argument("--ranks", type=int, default=2, help="processes of one thread each, one a core")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Run the stages asked for."""
    options = _arguments()
    options.folder.mkdir(parents=True, exist_ok=True)
    if "autoencoder" in options.stages:
        from training import autoencoder

        autoencoder.train(options.folder, options.autoencoder_minutes, options.ranks, options.seed)
    if "text" in options.stages:
        from training import text_encoder

        text_encoder.train(options.folder, options.text_minutes, options.seed)
    if "unet" in options.stages:
        from training import unet

        plan = unet.Plan(minutes=options.minutes, ranks=options.ranks)
        unet.train(options.folder, plan, options.seed)
    print(f"The pipeline lies in {options.folder / 'export'}.")


if __name__ == "__main__":
    main()
