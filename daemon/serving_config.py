"""The settings of `teacherd serve`."""

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingConfig:
    """The inference server `teacherd serve`; the daemon itself does not read this."""

    root: str | None = None
    """Directory or URL of the versions, as HotTeacher takes it; null takes `public` of
    process.state_directory."""
    host: str = "127.0.0.1"
    """Address to bind; loopback, because nothing here asks who is calling."""
    port: int = 9465
    """TCP port to bind; 0 takes a free one, which the log names."""
    certificate_file: str | None = None
    """PEM file of the certificate (chain) for HTTPS; null answers plain HTTP."""
    key_file: str | None = None
    """PEM file of the certificate's private key; null where the certificate's file holds it."""
    model_name: str = "teacher"
    """Name of the model in the protocol's paths."""
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda, cuda:1."""
    num_threads: int = 0
    """Threads of a tensor operation on the CPU; 0 takes torch's default."""
    mode: Literal["double", "in_place"] = "double"
    """How a version takes the old one's place: two copies and no pause, or one and a short one."""
    poll_seconds: float = 1.0
    """How often to look for a newer version."""
    network: str | None = None
    """package.module:callable of a network of your own: a file never chooses what code runs."""
    public_key_file: str | None = None
    """PEM file: only versions that one of its keys signed are served; null asks for none."""
    cache_directory: str | None = None
    """Where versions of a remote root are kept; null takes ~/.cache/teacherd."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of a remote root: headers, ca_file, timeout_seconds, or what fsspec takes for the store."""
    option_files: dict[str, str] = field(default_factory=dict)
    """Options whose value is the content of a file: keys and tokens, by name."""
    max_batch: int = 64
    """Instances of several requests that one pass computes at most."""
    max_delay_seconds: float = 0.0
    """How long a pass waits for more requests on an idle server; while one is computed the next
    gather anyway, so 0 costs little throughput and no latency."""
    max_queue: int = 1024
    """Instances that may wait; more are refused with 429."""
    max_request_instances: int = 1024
    """Instances of one request, which are computed in one pass."""
    max_request_bytes: int = 64 * 2**20
    """Size of a request's body; 64 MiB are 400 images of 224 x 224."""
    start_seconds: float = 60.0
    """How long to wait for a first version before ending with 69."""
    shutdown_seconds: float = 25.0
    """Deadline of an orderly stop, below the 30 s after which most supervisors kill."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:  # noqa: PLR2004 (the range of TCP ports)
            raise ValueError(f"port: {self.port}: must be from 0 to 65535; take 9465")
        if not self.model_name or "/" in self.model_name:
            raise ValueError(f"model_name: {self.model_name!r}: must be a name without slashes")
        for name in ("max_batch", "max_queue", "max_request_instances", "max_request_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)}: must be at least 1")
        for name in ("poll_seconds", "start_seconds", "shutdown_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)}: must be above 0")
        for name in ("num_threads", "max_delay_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)}: must not be negative")
        if self.key_file is not None and self.certificate_file is None:
            raise ValueError(f"key_file: {self.key_file}: needs certificate_file beside it")
