"""The files that run and watch a service: well-formed, hardened, and without a password."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from eventstore.deployment import monitoring_files, service_files
from eventstore.errors import EventStoreError, InvalidSubject
from tests import debian

SERVICE = service_files("shop", "shop-service", "shop.app:app")
MONITORING = monitoring_files("shop-service")
PROMTOOL = debian.file("usr/bin/promtool")


@pytest.mark.parametrize("name", [name for name in SERVICE if name.endswith(".yaml")])
def test_the_files_in_yaml_are_yaml(name: str) -> None:
    assert all(isinstance(each, dict) for each in yaml.safe_load_all(SERVICE[name]))


def test_nothing_is_left_to_fill_in() -> None:
    for name, text in {**SERVICE, **MONITORING}.items():
        left = re.findall(r"\{\{(?! ?\$| ?\w+ ?\}\}\")[^}]*\}\}", text)
        assert left == [] or name == "dashboard.json", name
        assert "nix" not in text


def test_a_container_is_not_root_and_writes_its_data_alone() -> None:
    docker = SERVICE["Dockerfile"]
    assert re.search(r"^USER [1-9]\d*$", docker, re.MULTILINE)
    assert "EVENTSTORE_APP=shop.app:app" in docker

    composed = yaml.safe_load(SERVICE["compose.yaml"])["services"]
    assert set(composed) == {"nats-1", "nats-2", "nats-3", "postgres", "shop-service"}
    assert composed["shop-service"]["read_only"]
    assert composed["shop-service"]["cap_drop"] == ["ALL"]
    assert "GOMEMLIMIT" in composed["nats-1"]["environment"]


def test_a_pod_is_hardened_and_is_probed() -> None:
    objects = {each["kind"]: each for each in yaml.safe_load_all(SERVICE["kubernetes.yaml"])}
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    probes = [container[each]["httpGet"]["path"] for each in ("livenessProbe", "readinessProbe")]
    assert probes == ["/livez", "/readyz"]
    assert objects["PodDisruptionBudget"]["spec"]["minAvailable"] == 1


def test_passwords_are_in_the_environment_alone() -> None:
    for text in (*SERVICE.values(), *MONITORING.values()):
        for line in text.splitlines():
            named: Any = re.search(r"(?i)password\s*[:=]\s*(\S+)", line)
            assert named is None or named[1].startswith(("$", "...", "@")), line


def test_each_alert_leads_to_an_entry_of_the_runbook() -> None:
    text = (Path(__file__).parents[3] / "docs" / "runbook.md").read_text()
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    entries = {f"runbook#{title.lower().replace(' ', '-')}" for title in titles}
    (group,) = yaml.safe_load(MONITORING["alerts.yml"])["groups"]
    assert {rule["annotations"]["runbook"] for rule in group["rules"]} <= entries


@pytest.mark.parametrize(
    ("domain", "service", "app", "named"),
    [
        ("Shop", "shop", "shop.app:app", "domain 'Shop'"),
        ("a.b", "shop", "shop.app:app", "domain 'a.b'"),
        ("shop", "a b", "shop.app:app", "service 'a b'"),
        ("shop", 'x"', "shop.app:app", "service 'x\"'"),
        ("shop", "shop", "shop.app", "application 'shop.app'"),
        ("shop", "shop", "a:b; rm", "application 'a:b; rm'"),
    ],
)
def test_names_that_files_cannot_have_are_refused(
    domain: str, service: str, app: str, named: str
) -> None:
    with pytest.raises(EventStoreError) as refused:
        service_files(domain, service, app)
    assert named in str(refused.value)
    if "service" in named:
        with pytest.raises(InvalidSubject, match="service"):
            monitoring_files(service)


UNITS = [name for name in SERVICE if name.endswith((".service", ".timer"))]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_units_and_finds_them_hardened(tmp_path: Path) -> None:
    assert len(UNITS) == 4
    for name in UNITS:
        text = re.sub(r"=/opt/\S+", "=/bin/true", SERVICE[name])  # nothing is installed there
        (tmp_path / name).write_text(text)
    verified = run("systemd-analyze", "verify", *(str(tmp_path / name) for name in UNITS))
    assert (verified.returncode, verified.stderr) == (0, "")
    services = [str(tmp_path / name) for name in UNITS if name.endswith(".service")]
    exposure = "--threshold=20"  # of 100; 92 without any hardening
    secure = run("systemd-analyze", "security", "--offline=true", exposure, *services)
    assert secure.returncode == 0, secure.stdout[-2000:]


def run(*command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed: make debian")
def test_the_rules_and_the_scrape_configuration_are_valid(tmp_path: Path) -> None:
    for name, text in MONITORING.items():
        (tmp_path / name).write_text(text)
    for command in (("rules", "alerts.yml"), ("config", "prometheus.yml")):
        ended = run(str(PROMTOOL), "check", *command, cwd=tmp_path)
        assert ended.returncode == 0, ended.stdout + ended.stderr
