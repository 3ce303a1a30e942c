"""What EasyRec's training starts from: an encoder by name, fresh weights, or the encoder of an earlier run."""

from pathlib import Path

from torch import Tensor

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
from lexirec.text.encoders import load_encoder, parse_name
from lexirec.text.encoders.families import is_causal
from lexirec.text.encoders.hub import bundled_folder
from lexirec.text.encoders.transformer import TransformerEncoder
from lexirec.training.weights import base_encoder, pooling_of


def start_network(config: EasyRecConfig) -> tuple[TextNetwork, Tokenizer]:
    """The encoder to train and its tokenizer, as the configuration asks.

    Raises:
        InputError: if the encoder can't be trained here (no transformer, or one that reads left to right), or isn't to be trained and lacks
            the head that it is read through.
    """
    folder: Path | None = None
    pooling, with_head = own_reading(config)
    if config.encoder in SIZES:
        from transformers import AutoTokenizer

        tokenizer = Tokenizer.of(AutoTokenizer.from_pretrained(bundled_folder(), local_files_only=True, trust_remote_code=False))
        backbone = backbone_from(scratch_config(config.encoder, tokenizer.vocab_size, tokenizer.pad).to_dict())
    else:
        base = _base(config)
        if is_causal(base.config):
            raise InputError(f"encoder {config.encoder!r} reads left to right; EasyRec trains encoders of the BERT and RoBERTa kind")
        made, model = base.load()
        tokenizer, backbone = Tokenizer.of(made), without_pooler(model)
        folder = base.folder
    if config.num_layers is not None:
        keep_layers(backbone, config.num_layers)
    head = with_head and pooling == "first" if config.head is None else config.head
    network = TextNetwork(backbone, pooling, head, decoder_of(config))
    if folder is not None:
        taken = read_heads(network, folder)
        if head and not config.epochs and not config.steps and not {"head.weight", "head.bias"} <= set(taken):
            raise InputError(
                f"epochs = 0 asks for {config.encoder!r} as it is, and it has no head; a fresh one would be noise: set head=false"
            )
    return network, tokenizer


def _base(config: EasyRecConfig) -> TransformerEncoder:
    """A fresh copy of the encoder that the configuration names."""
    return base_encoder(config.encoder, pooling="mean", max_length=512, normalize=False, device="cpu")


READ = ("pooling", "revision", "normalize")
"""Options of an encoder's name that its training here reads, or that make no difference to cosines."""
POOLINGS: dict[str, Pooling] = {"cls": "first", "first": "first", "mean": "mean", "auto": "first"}


def own_reading(config: EasyRecConfig) -> tuple[Pooling, bool]:
    """The pooling of the encoder that the configuration names, and whether a head goes with its first token.

    ``hf:`` is pooled as its name says, else by the first token as published; ``st:`` as its folder says, and without a head, since it was
    trained without one.

    Raises:
        InputError: for an option behind the encoder's name that EasyRec doesn't read, or a pooling that it doesn't have.
    """
    if config.encoder in SIZES:
        return ("first" if config.pooling == "auto" else config.pooling), True
    kind, _, options = parse_name(config.encoder)
    for option in options if kind in ("minilm", "hf", "st") else ():  # no other kind can be trained, which is said where it is loaded
        if option not in READ:
            cure = {"max_length": "set max_length (in training) and read_length (afterwards) instead", "prompt": "its texts have no prompt"}
            raise InputError(f"encoder {config.encoder!r}: {option} has no effect in EasyRec; {cure.get(option, 'leave it out')}")
    said = options.get("pooling", "auto")
    if config.pooling != "auto":
        if said != "auto" and POOLINGS.get(said) != config.pooling:
            raise InputError(
                f"encoder {config.encoder!r} and pooling = {config.pooling!r} differ; take the pooling out of the encoder's name"
            )
        return config.pooling, kind != "st"
    named = "mean"
    if kind == "hf":
        named = said
    elif kind == "st":
        named = pooling_of(load_encoder(config.encoder))
    if named not in POOLINGS:
        raise InputError(
            f"encoder {config.encoder!r} is pooled by {named!r} and EasyRec by the first token or the mean; set pooling to first or mean"
            + (" and take it out of the name" if kind == "hf" else "")
        )
    return POOLINGS[named], kind != "st"


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


def kept_weights(network: TextNetwork, config: EasyRecConfig, earlier: EasyRecConfig | None = None) -> dict[str, Tensor]:
    """The weights that a trained encoder is averaged with: those that a network has before its training, or with ``start`` the encoder's.

    A head and a decoder of masked words that begin at random weights are not among them.

    Args:
        network: before its training.
        config: of this training.
        earlier: with ``start``, the earlier run's configuration.

    Raises:
        InputError: if the weights were random at first, or the earlier run began with another encoder.
    """
    if config.start is None or earlier is None:
        if config.encoder in SIZES:
            raise InputError(f"encoder = {config.encoder!r} begins at random weights, so keep has nothing to average it with; set keep=0")
        whole = network.state_dict()
        own = read_heads(network, _base(config).folder)  # reads the same weights once more
        return {name: weight.detach().clone() for name, weight in whole.items() if name.startswith("backbone.") or name in own}
    if network.head is not None:
        raise InputError(
            f"start = {config.start!r} has a head that began at random weights, so keep has nothing to average it with; set keep=0"
        )
    if config.encoder in SIZES or (earlier.start is None and earlier.encoder in SIZES):
        raise InputError(f"start = {config.start!r} began at random weights, so keep has nothing to average it with; set keep=0")
    if earlier.start is None and earlier.encoder != config.encoder:
        raise InputError(
            f"start = {config.start!r} began with encoder = {earlier.encoder!r}, not {config.encoder!r}; give keep the same encoder"
        )
    bare = EasyRecConfig(encoder=config.encoder, head=False, pooling=network.pooling, mlm_weight=0.0)
    whole = start_network(bare)[0].state_dict()
    ours = {name: weight for name, weight in network.state_dict().items() if name.startswith("backbone.")}
    if any(name not in whole or whole[name].shape != weight.shape for name, weight in ours.items()):
        raise InputError(f"start = {config.start!r} didn't begin with encoder = {config.encoder!r}, which keep averages with; set encoder")
    return {name: whole[name] for name in ours}


def decoder_of(config: EasyRecConfig) -> Decoder:
    """The decoder of masked words that a training needs."""
    return config.decoder if config.mlm_weight else "none"


__all__ = ["decoder_of", "going_on", "kept_weights", "own_reading", "start_network"]
