"""What every test has."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own: no test finds what another one, or the user, has left."""
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "cache"))
