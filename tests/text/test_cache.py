"""The cache: each text once, two processes at once, damage, a full disk."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lexirec.text import EmbeddingCache, item_vectors
from lexirec.text import cache as module
from lexirec.text.cache import CacheWarning
from tests.text.worlds import HashEncoder

TEXTS = [f"text {i}" for i in range(40)]
ROOT = Path(__file__).parents[2]


def shards(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def leftovers(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.tmp-*"))


def expected(encoder: HashEncoder, texts: list[str]) -> np.ndarray:
    return np.stack([encoder.vector(text) for text in texts])


def child(script: str, *arguments: object) -> subprocess.Popen:
    """A Python process with the package and the tests' helpers on its path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    head = "import sys\nfrom lexirec.text import EmbeddingCache\nfrom tests.text.worlds import HashEncoder\n"
    return subprocess.Popen([sys.executable, "-c", head + script, *map(str, arguments)], env=environment, stdout=subprocess.PIPE, text=True)


def test_each_text_is_encoded_once(tmp_path):
    cache, encoder = EmbeddingCache(tmp_path), HashEncoder()
    texts = [*TEXTS, *TEXTS[::-1], "more"]
    first = cache.encode(encoder, texts)
    assert (first == expected(encoder, texts)).all()
    assert sorted(encoder.asked) == sorted({*texts})
    encoder.asked.clear()
    assert (cache.encode(encoder, texts[::-1]) == first[::-1]).all()
    assert encoder.asked == []
    assert (EmbeddingCache(tmp_path).encode(encoder, ["new", "text 3"])[1] == encoder.vector("text 3")).all()
    assert encoder.asked == ["new"]


def test_other_encoders_have_other_vectors(tmp_path):
    cache, first, second = EmbeddingCache(tmp_path), HashEncoder(), HashEncoder(salt="other")
    assert (cache.encode(first, TEXTS) != cache.encode(second, TEXTS)).any()
    assert len(second.asked) == len(TEXTS)
    assert cache.encode(HashEncoder(dim=3), TEXTS).shape == (40, 3)
    assert cache.encode(first, []).shape == (0, 8)


def test_an_encoder_that_depends_on_its_texts_is_never_cached(tmp_path):
    class Fitted(HashEncoder):
        cacheable = False

    encoder = Fitted()
    for _ in range(2):
        EmbeddingCache(tmp_path).encode(encoder, TEXTS)
    assert len(encoder.asked) == 80
    assert shards(tmp_path) == []


def test_the_folder_is_chosen_by_the_environment(tmp_path, monkeypatch):
    import polars as pl

    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "mine"))
    items = pl.DataFrame({"item_id": ["a"], "title": ["red"]})
    item_vectors(items, HashEncoder())
    assert len(shards(tmp_path / "mine")) == 1
    item_vectors(items, HashEncoder(), cache=False)
    monkeypatch.delenv("LEXIREC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if sys.platform == "linux":
        assert module.default_folder() == tmp_path / "xdg" / "lexirec"


@pytest.mark.parametrize("damage", ["truncated", "flipped bit", "emptied", "foreign", "header"])
def test_a_damaged_file_is_found_and_rebuilt(tmp_path, damage):
    cache, encoder = EmbeddingCache(tmp_path), HashEncoder()
    cache.encode(encoder, TEXTS)
    (file,) = shards(tmp_path)
    data = file.read_bytes()
    file.write_bytes(
        {
            "truncated": data[: len(data) // 2],
            "flipped bit": data[:-5] + bytes([data[-5] ^ 1]) + data[-4:],
            "emptied": b"",
            "foreign": b"PK\x03\x04 something else",
            "header": b"\xff" * 8 + data[8:],
        }[damage]
    )
    encoder.asked.clear()
    with pytest.warns(CacheWarning, match=rf"cache file .*{file.name} is damaged .*encoded again"):
        vectors = cache.encode(encoder, TEXTS)
    assert (vectors == expected(encoder, TEXTS)).all()
    assert len(encoder.asked) == 40
    encoder.asked.clear()
    cache.encode(encoder, TEXTS)
    assert encoder.asked == []
    assert not file.exists()


def test_many_small_files_are_merged_and_nothing_is_lost(tmp_path):
    cache, encoder = EmbeddingCache(tmp_path), HashEncoder()
    for text in TEXTS:
        cache.encode(encoder, [text, "text 0"])
    assert len(shards(tmp_path)) <= module.MERGE_ABOVE + 1
    encoder.asked.clear()
    assert (cache.encode(encoder, TEXTS) == expected(encoder, TEXTS)).all()
    assert encoder.asked == []


def test_a_file_merged_away_while_reading_is_found_in_its_new_place(tmp_path, monkeypatch):
    cache, encoder = EmbeddingCache(tmp_path), HashEncoder()
    for text in TEXTS[:10]:
        cache.encode(encoder, [text])
    (place,) = {file.parent for file in shards(tmp_path)}
    load, calls = EmbeddingCache._load, []

    def merging(self, path):
        if not calls:
            calls.append(path)
            monkeypatch.setattr(module, "MERGE_ABOVE", 2)
            EmbeddingCache(tmp_path)._merge(place)  # as another process would
            assert len(shards(tmp_path)) == 1
        return load(self, path)

    monkeypatch.setattr(EmbeddingCache, "_load", merging)
    encoder.asked.clear()
    assert (cache.encode(encoder, TEXTS[:10]) == expected(encoder, TEXTS[:10])).all()
    assert encoder.asked == []


def test_two_processes_lose_and_corrupt_nothing(tmp_path):
    """Overlapping texts, many small writes, merging all the while; then all is there, right, and read without a warning."""
    script = """
import warnings
warnings.simplefilter("error")
from lexirec.text import cache as module
module.MERGE_ABOVE = 4
folder, start = sys.argv[1], int(sys.argv[2])
for i in range(start, start + 120, 3):
    EmbeddingCache(folder).encode(HashEncoder(), [f"text {j}" for j in range(i, i + 6)])
"""
    processes = [child(script, tmp_path, start) for start in (0, 60, 0)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0, 0]
    encoder = HashEncoder()
    texts = [f"text {i}" for i in range(183)]
    assert (EmbeddingCache(tmp_path).encode(encoder, texts) == expected(encoder, texts)).all()
    assert encoder.asked == []
    assert leftovers(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process with a POSIX signal")
def test_a_killed_process_leaves_whole_files(tmp_path, recwarn):
    script = """
print("going", flush=True)
i = 0
while True:
    EmbeddingCache(sys.argv[1]).encode(HashEncoder(dim=512), [f"text {j}" for j in range(i, i + 50)])
    i += 50
"""
    process = child(script, tmp_path)
    process.stdout.readline()
    deadline = time.monotonic() + 60
    while len(shards(tmp_path)) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    encoder = HashEncoder(dim=512)
    texts = [f"text {i}" for i in range(300)]
    assert (EmbeddingCache(tmp_path).encode(encoder, texts) == expected(encoder, texts)).all()
    assert len(encoder.asked) <= 150  # three files of 50 had been written
    assert [w for w in recwarn if issubclass(w.category, CacheWarning)] == []


def test_old_leftovers_are_removed_new_ones_are_not(tmp_path):
    cache, encoder = EmbeddingCache(tmp_path), HashEncoder()
    cache.encode(encoder, ["a"])
    place = shards(tmp_path)[0].parent
    old, new = place / "x.safetensors.tmp-1-a", place / "y.safetensors.tmp-2-b"
    for file in (old, new):
        file.write_bytes(b"part")
    os.utime(old, (0, 0))
    cache.encode(encoder, ["b"])
    assert not old.exists()
    assert new.exists()  # another process may be writing it


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files as POSIX does")
def test_a_full_disk_is_named_and_leaves_no_partial_file(tmp_path):
    """The operating system itself refuses: no file of this process may exceed 20 kB."""
    script = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
import warnings
cache, encoder = EmbeddingCache(sys.argv[1]), HashEncoder(dim=256)
cache.encode(encoder, ["small"])
with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter("always")
    vectors = cache.encode(encoder, [f"text {i}" for i in range(100)])
print(*(warning.message for warning in found))
assert len(found) == 1 and (vectors[99] == encoder.vector("text 99")).all()
"""
    process = child(script, tmp_path)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert f"the cache folder {tmp_path / 'embeddings'} is on a full disk" in output
    assert "LEXIREC_CACHE" in output
    assert leftovers(tmp_path) == []
    encoder = HashEncoder(dim=256)
    EmbeddingCache(tmp_path).encode(encoder, ["small"])
    assert encoder.asked == []  # what was stored before is whole


def test_no_space_left(tmp_path, monkeypatch):
    def full(self, data):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(module, "MIN_CHUNK", 10)
    monkeypatch.setattr(module, "MAX_CHUNK", 10)
    encoder = HashEncoder()
    with pytest.warns(CacheWarning, match=r"is on a full disk \(No space left on device; .*MB free\); new vectors aren't kept") as found:
        vectors = EmbeddingCache(tmp_path).encode(encoder, TEXTS)
    assert len(found) == 1  # not one for each block
    assert (vectors == expected(encoder, TEXTS)).all()
    assert shards(tmp_path) + leftovers(tmp_path) == []


def test_an_interrupted_run_keeps_what_it_has_encoded(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MIN_CHUNK", 10)
    monkeypatch.setattr(module, "MAX_CHUNK", 10)

    class Tired(HashEncoder):
        def _encode(self, texts, progress):
            if len(self.asked) >= 20:
                raise KeyboardInterrupt
            return super()._encode(texts, progress)

    with pytest.raises(KeyboardInterrupt):
        EmbeddingCache(tmp_path).encode(Tired(), TEXTS)
    encoder = HashEncoder()
    EmbeddingCache(tmp_path).encode(encoder, TEXTS)
    assert encoder.asked == TEXTS[20:]


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.EROFS, r"can't be written \(Read-only file system\); vectors aren't kept"), (errno.ENOSPC, "is on a full disk")],
)
def test_a_folder_that_can_not_be_made_is_no_obstacle(tmp_path, monkeypatch, number, said):
    def refused(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refused)
    encoder = HashEncoder()
    with pytest.warns(CacheWarning, match=said):
        vectors = EmbeddingCache(tmp_path / "x").encode(encoder, TEXTS)
    assert (vectors == expected(encoder, TEXTS)).all()


def test_a_model_that_changed_behind_its_fingerprint_is_named(tmp_path):
    class Changed(HashEncoder):
        def description(self):
            return {"kind": "hash"}

    EmbeddingCache(tmp_path).encode(Changed(4), ["a"])
    with pytest.raises(ValueError, match=r"gives 5 dimensions, .* holds 4 for the same fingerprint"):
        EmbeddingCache(tmp_path).encode(Changed(5), ["a", "b"])
