"""The real Prometheus with the shipped rules, hastened so that a test can wait for them."""

import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ports import HOST, free_port

SHIPPED = Path(__file__).parents[2] / "deploy" / "prometheus"
HASTE = 200
"""By so much every span of time in the rules is shortened."""
_LEAST_SECONDS = 3.0
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_POLL_SECONDS = 0.2


def hasten(expression: str) -> str:
    """Shorten windows and compared seconds; all numbers from 60 on are seconds, by convention."""

    def window(match: re.Match[str]) -> str:
        seconds = int(match[1]) * _UNITS[match[2]] / HASTE
        return f"[{max(seconds, _LEAST_SECONDS) * 1000:.0f}ms]"

    def compared(match: re.Match[str]) -> str:
        number = float(match[2])
        return match[0] if number < 60 else f"{match[1]}{max(number / HASTE, _LEAST_SECONDS)}"

    shortened = re.sub(r"\[(\d+)([smhd])\]", window, expression)
    return re.sub(r"([<>] )(\d+(?:\.\d+)?)", compared, shortened)


class PrometheusServer:
    """Scrapes and judges from construction until `close`.

    Args:
        program: The binary.
        directory: For configuration, data and log.
        targets: host:port of the daemons.
        loaders: host:port of inference processes.
    """

    def __init__(
        self,
        program: Path,
        directory: Path,
        targets: Sequence[str],
        loaders: Sequence[str] = (),
    ) -> None:
        directory.mkdir()
        self._write_configuration(directory, targets, loaders)
        self._address = f"{HOST}:{free_port()}"
        self._log = directory / "prometheus.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    str(program),
                    f"--config.file={directory / 'prometheus.yml'}",
                    f"--storage.tsdb.path={directory / 'data'}",
                    f"--web.listen-address={self._address}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an instant query: each with `metric` and `value`."""
        answer = self._get("query", {"query": expression})
        result: list[dict[str, Any]] = answer["result"]
        return result

    def value(self, expression: str) -> float | None:
        """Return the one value of a query; None while there is none."""
        found = self.query(expression)
        assert len(found) <= 1, f"{expression}: {found}"
        return float(found[0]["value"][1]) if found else None

    def firing(self, instance: str) -> set[str]:
        """Return the names of the alerts that fire for a daemon."""
        return {
            alert["labels"]["alertname"]
            for alert in self._get("alerts", {})["alerts"]
            if alert["state"] == "firing" and alert["labels"].get("instance") == instance
        }

    def fired(self, instance: str) -> set[str]:
        """Return the names of the alerts that have fired for a daemon, also if it is over."""
        firing = f'ALERTS{{alertstate="firing", instance="{instance}"}}'
        return {
            series["metric"]["alertname"] for series in self.query(f"last_over_time({firing}[1h])")
        }

    def wait_until(
        self,
        condition: Callable[[], bool],
        seconds: float = 300.0,
        *,
        otherwise: Callable[[], object] | None = None,
    ) -> None:
        """Wait for a condition; if it does not come true, fail with what is so otherwise."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self._process.poll() is None, self._log.read_text()[-3000:]
            assert time.monotonic() < deadline, (
                f"not within {seconds} s:\n{otherwise() if otherwise else self._alerts()}"
            )
            time.sleep(_POLL_SECONDS)

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            self.query("up")
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Leave no process behind."""
        self._process.terminate()
        self._process.wait(300)

    def _alerts(self) -> str:
        return json.dumps(self._get("alerts", {}), indent=1)[-3000:]

    def _get(self, name: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        url = f"http://{self._address}/api/v1/{name}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=60) as got:
            data: dict[str, Any] = json.load(got)["data"]
        return data

    def _write_configuration(
        self, directory: Path, targets: Sequence[str], loaders: Sequence[str]
    ) -> None:
        """Write the shipped files, only faster."""
        shipped = yaml.safe_load((SHIPPED / "prometheus.yml").read_text(encoding="utf-8"))
        shipped["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        shipped["scrape_configs"][0]["static_configs"] = [{"targets": list(targets)}]
        shipped["scrape_configs"].append(
            {"job_name": "teacherd-loader", "static_configs": [{"targets": list(loaders)}]}
        )
        (directory / "prometheus.yml").write_text(yaml.safe_dump(shipped), encoding="utf-8")
        for name in shipped["rule_files"]:
            rules = yaml.safe_load((SHIPPED / name).read_text(encoding="utf-8"))
            for rule in (each for group in rules["groups"] for each in group["rules"]):
                rule["expr"] = hasten(rule["expr"])
                if "for" in rule:
                    rule["for"] = "1s"
            (directory / name).write_text(yaml.safe_dump(rules), encoding="utf-8")
