"""Licences of known models, for the models that services name but say nothing about.

A small table by the parts of a model's name; the licence's own text decides, this only warns. Pure.
"""

from __future__ import annotations

import re
from typing import Final

_OPENRAIL: Final = ("CreativeML OpenRAIL-M", True)
_OPENRAIL_PLUS: Final = ("CreativeML OpenRAIL++-M", True)
_COMMUNITY: Final = ("Stability AI Community License", True)
_RESEARCH: Final = ("Stability AI Non-Commercial Research Community License", False)
_FLUX_DEV: Final = ("FLUX.1 [dev] Non-Commercial License", False)
_FLUX_2_DEV: Final = ("FLUX.2 [dev] Non-Commercial License", False)
_APACHE: Final = ("Apache-2.0", True)
_SERVICE: Final = ("The service's terms", True)

# The first that matches the name, in lower case with "-" between its words; turbo and dev before families.
_KNOWN: Final = tuple(
    (re.compile(pattern), licence)
    for pattern, licence in (
        (r"sd(xl)?-turbo|sd-xl-turbo|xl-turbo", _RESEARCH),
        (r"stable-cascade|wuerstchen-v3|stable-zero", _RESEARCH),
        (r"flux-?2.*(dev)", _FLUX_2_DEV),
        (r"flux.*schnell|flux-?2.*klein.*4b", _APACHE),
        (r"flux.*(pro|ultra|max|flex)", _SERVICE),
        (r"flux.*(dev|krea|kontext|fill|depth|canny|lora|redux|realism)", _FLUX_DEV),
        (r"(sd-?3|stable-diffusion-?3|sd-?35)", _COMMUNITY),
        (r"(gpt-image|dall-?e|imagen|ideogram|recraft|midjourney|nano-banana|seedream)", _SERVICE),
        (r"(sdxl|stable-diffusion-xl|sd-xl)", _OPENRAIL_PLUS),
        (r"(stable-diffusion-?2|stable-diffusion-v-?2|sd-?v?2|^v2-1)", _OPENRAIL_PLUS),
        (r"(stable-diffusion-?(v-?)?1|sd-?v?1|^v1-5|dreamshaper)", _OPENRAIL),
        (r"(qwen-image|z-image|aura-?flow|kandinsky)", _APACHE),
    )
)


def licence_of(model_id: str) -> tuple[str, bool]:
    """The licence of a model by its name, and whether it allows commercial use; ("", True) where unknown.

    The name of a file or a repository will do: "stabilityai/sdxl-turbo", "v1-5-pruned-emaonly.safetensors".
    """
    name = re.sub(r"[\s_./\\:\[\]()]+", "-", model_id.lower())
    return next((licence for pattern, licence in _KNOWN if pattern.search(name)), ("", True))
