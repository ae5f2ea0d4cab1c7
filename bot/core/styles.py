"""The style presets that come with the program: words put around a prompt. `{prompt}` stands for it."""

from collections.abc import Mapping

STYLES: Mapping[str, str] = {
    "photo": "{prompt}, photograph, natural light, sharp focus",
    "watercolor": "{prompt}, watercolor painting, soft edges, paper texture",
    "oil": "{prompt}, oil painting, visible brush strokes",
    "ink": "{prompt}, ink drawing, black and white, fine lines",
    "pixel": "{prompt}, pixel art, limited palette",
    "poster": "{prompt}, flat vector poster, bold shapes",
}
