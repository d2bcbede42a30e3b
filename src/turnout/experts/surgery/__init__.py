"""Surgery on transformers models: a dense one made sparse, experts added, removed and merged.

All change what a model is made of, its configuration included, so that it can be saved, loaded and
trained like any other. An optimiser made before holds the old parameters: make it anew.
"""

from turnout.experts.surgery.merging import merge_experts
from turnout.experts.surgery.resizing import Which, add_experts, least_loaded, remove_experts
from turnout.experts.surgery.upcycling import upcycle

__all__ = [
    "Which",
    "add_experts",
    "least_loaded",
    "merge_experts",
    "remove_experts",
    "upcycle",
]
