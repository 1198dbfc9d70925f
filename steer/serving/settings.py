"""How a server listens, and its limits."""

import ipaddress
from pathlib import Path

from pydantic import Field

from steer.config import Config
from steer.errors import SteerError


class ServeSettings(Config):
    """Settings of a server. `queue` texts are written or wait at the most, and beyond that a
    request is told to come again later. A request may take `timeout` seconds, and have a body of
    `body_bytes`; a text has `longest` tokens at the most. A stop waits `grace` seconds for what
    runs. Runs are saved in the folder `save`; None: not at all. The page's map is by the
    `embedder`, or all-MiniLM-L6-v2. The page masks texts with `mask`; None: where they may
    insult."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    api_key: str | None = Field(None, min_length=1)
    queue: int = Field(512, ge=1)
    timeout: float = Field(300, gt=0)
    longest: int = Field(1024, ge=1)
    body_bytes: int = Field(1 << 20, ge=1)
    grace: int = Field(30, ge=0)
    save: Path | None = None
    embedder: str | None = None
    mask: bool | None = None

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host == "localhost"

    def require_key(self) -> None:
        """Raises `SteerError` for a server that others can reach and that asks for no key."""
        if not self.local and self.api_key is None:
            raise SteerError(
                f"--host is {self.host}, which other machines can reach; give an --api-key (or "
                "STEER_API_KEY), or leave --host out"
            )
