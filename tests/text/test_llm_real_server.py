"""The client against ``transformers serve``, a real server of the protocol with a real causal model behind it."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from lexirec.text.llm import LanguageModel, Prompt, json_answer
from lexirec.text.profile_prompts import ProfileAnswer

pytest.importorskip("openai", reason="the language-model client needs the extra `llm`")
pytest.importorskip("fastapi", reason="`transformers serve` needs fastapi and uvicorn (extra `dev`)")
pytest.importorskip("uvicorn", reason="`transformers serve` needs fastapi and uvicorn (extra `dev`)")
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}Bot:"
PROFILE = '{"summarization": "A quiet toy for rainy days.", "reasoning": "Its title says so."}'
QUESTIONS = [Prompt("Tell a story.", f"A story of {animal}.") for animal in ("a dog", "a cat", "a duck", "a fish")]


def byte_model(folder, hidden_size, *words):
    """A causal model of one layer with random weights, and its saved tokenizer: bytes, ``<end>``, and further words that it can say."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    letters = [whole.pre_tokenize_str(word)[0][0] for word in words]
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate([*alphabet, "<end>", *letters])}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<end>", eos_token="<end>", pad_token="<end>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    shape = {"hidden_size": hidden_size, "intermediate_size": 2 * hidden_size, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": 256, "eos_token_id": 256, "pad_token_id": 256}
    config = LlamaConfig(vocab_size=257 + len(words), max_position_embeddings=1024, **shape, **ends)
    return LlamaForCausalLM(config)


def tiny_model(folder):
    """A causal model of 30,000 weights and a tokenizer of bytes, made here."""
    byte_model(folder, 32).save_pretrained(folder)


def answering_model(folder):
    """A causal model whose weights are set by hand so that it says one profile, whatever it is asked, and ends."""
    import torch

    model = byte_model(folder, 8, PROFILE)
    with torch.no_grad():
        for layer in model.model.layers:  # neither attention nor the layer after it adds anything
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        words, scores = model.get_input_embeddings().weight, model.lm_head.weight
        words.zero_()[:, 0] = 1.0
        words[257] = torch.eye(8)[1]
        scores.zero_()[257, 0] = 9.0  # behind any letter comes the profile,
        scores[256, 1] = 9.0  # and behind the profile the end
    model.save_pretrained(folder)


def serve(folder, log):
    """Start the server; its process and address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [Path(sys.executable).with_name("transformers"), "serve", folder, "--host", "127.0.0.1", "--port", port, "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen([str(part) for part in command], env=environment, stdout=log.open("w"), stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 120
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the server ended: {log.read_text()[-500:]}")
        try:
            opener.open(f"http://127.0.0.1:{port}/health", timeout=2).close()
            return process, f"http://127.0.0.1:{port}/v1"
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    process.kill()
    return pytest.fail("the server did not start within two minutes")


@pytest.fixture(scope="module", params=["tiny", "answering", "tinystories"])
def server(request, tmp_path_factory):
    """Name of the model and address of the server."""
    folder = tmp_path_factory.mktemp("model") / request.param
    if request.param == "tiny":
        tiny_model(folder)
    elif request.param == "answering":
        answering_model(folder)
    else:
        weights = os.environ.get("LEXIREC_WEIGHTS")
        source = Path(weights or "/nowhere") / "tinystories-instruct-3m-chat"
        if not source.is_dir():
            pytest.skip("LEXIREC_WEIGHTS names no folder with tinystories-instruct-3m-chat")
        shutil.copytree(source, folder)
        (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ 'User' }}: {{ m.content }}\n{% endfor %}Bot:")
    process, url = serve(folder, folder.parent / "log")
    yield str(folder), url
    process.terminate()
    process.wait(30)


@pytest.mark.slow  # the server alone takes ten seconds to start
def test_a_real_server(server, monkeypatch, tmp_path):
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    name, url = server

    def ask(**options):
        model = LanguageModel(name, base_url=url, max_tokens=24, temperature=0.0, concurrency=2, **options)
        return model, model.ask(QUESTIONS, str.strip, plain_text=True)

    model, stories = ask()
    assert model.spent.calls >= 4
    assert model.spent.input_tokens > 40
    assert 0 < model.spent.output_tokens <= 24 * model.spent.calls
    if name.endswith("tinystories"):
        assert all(story.error is None and len(story.value.split()) > 3 for story in stories), stories
    # Known answers come from the file: the same again, with no call.
    again, same = ask()
    assert again.spent.calls == 0
    assert [s.value for s in same] == [s.value for s in stories]
    if name.endswith("answering"):
        writer = LanguageModel(name, base_url=url, max_tokens=24, temperature=0.0)
        expected = ProfileAnswer.model_validate_json(PROFILE)
        assert [r.value for r in writer.ask(QUESTIONS, json_answer(ProfileAnswer))] == [expected] * len(QUESTIONS)
        assert writer.spent.calls == len(QUESTIONS)  # nothing was to repair
        return
    # A model of this size writes no JSON: each prompt fails its check and its one repair, and says so; nothing else comes out.
    checked = LanguageModel(name, base_url=url, max_tokens=24, temperature=0.0, concurrency=2)
    results = checked.ask(QUESTIONS[:2], json_answer(ProfileAnswer))
    assert all(result.value is None and result.error for result in results)
    assert checked.spent.calls == 4
