"""What EasyRec's training starts from: an encoder by name, fresh weights, or the encoder of an earlier run."""

from pathlib import Path

from lexirec.errors import InputError
from lexirec.models.easyrec_config import EasyRecConfig
from lexirec.models.layers.encoder import (
    SIZES,
    Decoder,
    Pooling,
    TextNetwork,
    Tokenizer,
    backbone_from,
    config_state,
    keep_layers,
    read_heads,
    scratch_config,
    without_pooler,
)
from lexirec.text.encoders.families import is_causal
from lexirec.text.encoders.hub import bundled_folder
from lexirec.training.weights import base_encoder


def start_network(config: EasyRecConfig) -> tuple[TextNetwork, Tokenizer]:
    """The encoder to train and its tokenizer, as the configuration asks.

    Raises:
        InputError: if the encoder can't be trained here (no transformer, or one that reads left to right), or isn't to be trained and lacks
            the head that it is read through.
    """
    pooled: Pooling = "first"
    folder: Path | None = None
    if config.encoder in SIZES:
        from transformers import AutoTokenizer

        tokenizer = Tokenizer.of(AutoTokenizer.from_pretrained(bundled_folder(), local_files_only=True, trust_remote_code=False))
        backbone = backbone_from(scratch_config(config.encoder, tokenizer.vocab_size, tokenizer.pad).to_dict())
    else:
        base = base_encoder(config.encoder, pooling="mean", max_length=512, normalize=False, device="cpu")
        if is_causal(base.config):
            raise InputError(f"encoder {config.encoder!r} reads left to right; EasyRec trains encoders of the BERT and RoBERTa kind")
        made, model = base.load()
        tokenizer, backbone = Tokenizer.of(made), without_pooler(model)
        pooled = "first" if config.encoder.startswith("hf:") else "mean"
        folder = base.folder
    if config.num_layers is not None:
        keep_layers(backbone, config.num_layers)
    pooling: Pooling = pooled if config.pooling == "auto" else config.pooling
    head = pooling == "first" if config.head is None else config.head
    network = TextNetwork(backbone, pooling, head, decoder_of(config))
    if folder is not None:
        taken = read_heads(network, folder)
        if head and not config.epochs and not config.steps and not {"head.weight", "head.bias"} <= set(taken):
            raise InputError(
                f"epochs = 0 asks for {config.encoder!r} as it is, and it has no head; a fresh one would be noise: set head=false"
            )
    return network, tokenizer


def going_on(earlier: TextNetwork, config: EasyRecConfig) -> TextNetwork:
    """A network to train with the weights of an earlier run's; nothing is frozen and dropout is as the encoder was made.

    Pooling, head and layers are the earlier run's. Its decoder of masked words goes on too where the configuration asks for one of its
    kind; else the decoder starts as it would without an earlier run.
    """
    network = TextNetwork(backbone_from(config_state(earlier.backbone)), earlier.pooling, earlier.head is not None, decoder_of(config))
    ours = network.state_dict()
    if network.decoder_kind != earlier.decoder_kind:
        ours = {name: value for name, value in ours.items() if name.startswith(("backbone.", "head."))}
    network.load_state_dict({name: value for name, value in earlier.state_dict().items() if name in ours}, strict=False)
    return network


def decoder_of(config: EasyRecConfig) -> Decoder:
    """The decoder of masked words that a training needs."""
    return config.decoder if config.mlm_weight else "none"


__all__ = ["decoder_of", "going_on", "start_network"]
