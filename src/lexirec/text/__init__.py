"""Items' words to vectors: templates, encoders by name, and a cache that encodes each text once."""

from lexirec.text.cache import CacheError, EmbeddingCache
from lexirec.text.embed import check_vectors, item_vectors, mean_vector
from lexirec.text.encoders import Encoder, encoder_from_state, load_encoder
from lexirec.text.encoders.file import read_vectors, write_vectors
from lexirec.text.profiles import Profiles, read_profiles, write_profiles
from lexirec.text.templates import parse_template, render

__all__ = [
    "CacheError",
    "EmbeddingCache",
    "Encoder",
    "Profiles",
    "check_vectors",
    "encoder_from_state",
    "item_vectors",
    "load_encoder",
    "mean_vector",
    "parse_template",
    "read_profiles",
    "read_vectors",
    "render",
    "write_profiles",
    "write_vectors",
]
