"""What an inference server exports; docs/metrics.md says what each means to an operator."""

from importlib.metadata import version

import torch
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_INSTANCES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)


class ServingMetrics:
    """The metrics of `teacherd serve` on a registry of their own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        prefix = "teacherd_serving_"
        self.requests = Counter(
            f"{prefix}requests_total", "Inference requests by answer.", ["code"], registry=registry
        )
        self.request_duration = Histogram(
            f"{prefix}request_duration_seconds",
            "From the whole request being here to its answer being ready.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.queue_duration = Histogram(
            f"{prefix}queue_duration_seconds",
            "How long a request waited for its pass.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.compute_duration = Histogram(
            f"{prefix}compute_duration_seconds",
            "Duration of one pass through the network.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_instances = Histogram(
            f"{prefix}batch_instances",
            "Instances of a pass.",
            buckets=_INSTANCES,
            registry=registry,
        )
        self.queue_instances = Gauge(
            f"{prefix}queue_instances", "Instances that wait for a pass.", registry=registry
        )
        build_info = Gauge(
            "teacherd_build_info", "1.", ["version", "torch", "cuda"], registry=registry
        )
        build_info.labels(version("teacherd"), torch.__version__, torch.version.cuda or "").set(1)
        self.build_info = build_info

    def exposition(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self.registry)
