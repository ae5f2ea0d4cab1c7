"""What a local ComfyUI knows of nodes and graphs: their inputs, and what is wrong with a graph."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

SAMPLERS = ["euler", "euler_ancestral", "dpmpp_2m", "dpmpp_2s_ancestral", "ddim", "uni_pc"]
SCHEDULES = ["normal", "karras", "exponential", "sgm_uniform", "simple"]
CHECKPOINTS = ["v1-5-pruned-emaonly.safetensors", "SDXL/sd_xl_base_1.0.safetensors"]
NUMBER: list[Any] = ["INT", {"default": 0}]


@dataclass
class Prompt:
    """One prompt. number: its place; client: who handed it in; interrupted: it is to be left."""

    number: int
    id: str
    graph: dict[str, Any]
    client: str
    extra: dict[str, Any]
    interrupted: bool = False

    def entry(self) -> list[Any]:
        """As /queue and /history show it."""
        return [self.number, self.id, self.graph, self.extra, []]

    def inputs(self, *classes: str) -> dict[str, Any]:
        """The inputs of the first node of these classes."""
        found = (node["inputs"] for node in self.graph.values() if node["class_type"] in classes)
        return next(found, {})

    @property
    def size(self) -> tuple[int, int]:
        """Width and height that the graph asks for."""
        inputs = self.inputs("EmptyLatentImage", "ImageScale")
        return int(inputs["width"]), int(inputs["height"])


class Nodes:
    """The nodes that it has. combo: choices are in the newer form; lacks: classes that it does not have."""

    def __init__(self, *, combo: bool, lacks: frozenset[str]) -> None:
        self.combo = combo
        self.lacks = lacks
        self.checkpoints = list(CHECKPOINTS)

    def _choice(self, values: list[str]) -> list[Any]:
        return ["COMBO", {"options": values}] if self.combo else [values, {}]

    def known(self) -> dict[str, dict[str, Any]]:
        """Class -> its required inputs, as /object_info lists them."""
        link = ["LATENT"]
        required: dict[str, dict[str, Any]] = {
            "CheckpointLoaderSimple": {"ckpt_name": self._choice(self.checkpoints)},
            "CLIPTextEncode": {"text": ["STRING", {"multiline": True}], "clip": link},
            "EmptyLatentImage": {"width": NUMBER, "height": NUMBER, "batch_size": NUMBER},
            "KSampler": {
                "seed": NUMBER,
                "steps": NUMBER,
                "cfg": ["FLOAT", {}],
                "sampler_name": self._choice(SAMPLERS),
                "scheduler": self._choice(SCHEDULES),
                "denoise": ["FLOAT", {}],
            },
            "VAEDecode": {"samples": link},
            "VAEEncode": {"pixels": link},
            "PreviewImage": {"images": link},
            "SaveImage": {"images": link},
            "LoadImage": {"image": self._choice(["example.png"])},
            "ImageScale": {"image": link, "width": NUMBER, "height": NUMBER},
            "ImageToMask": {"image": link},
            "SetLatentNoiseMask": {"samples": link, "mask": link},
            "ImageCompositeMasked": {"destination": link, "source": link},
        }
        return {name: inputs for name, inputs in required.items() if name not in self.lacks}

    def wrong(self, graph: dict[str, Any], uploads: Collection[str]) -> dict[str, Any]:
        """node_errors, as the real one words them."""
        errors = {}
        for node_id, node in graph.items():
            known = self.known()[node["class_type"]]
            found = [
                {
                    "type": "value_not_in_list",
                    "message": "Value not in list",
                    "details": f"{name}: '{node['inputs'].get(name)}' not in list",
                    "extra_info": {"input_name": name},
                }
                for name, spec in known.items()
                if not self._fits(node["class_type"], spec, node["inputs"].get(name), uploads)
            ]
            if found:
                errors[node_id] = {"errors": found, "dependent_outputs": [], "class_type": node["class_type"]}
        return errors

    def _fits(self, class_type: str, spec: list[Any], value: Any, uploads: Collection[str]) -> bool:
        if class_type == "LoadImage":
            return str(value).removesuffix(" [temp]") in uploads
        choices = spec[1]["options"] if spec[0] == "COMBO" else spec[0]
        if isinstance(choices, list):
            return value in choices
        kinds: dict[str, type | tuple[type, ...]] = {"INT": int, "FLOAT": (int, float), "STRING": str}
        return isinstance(value, kinds.get(choices, list))
