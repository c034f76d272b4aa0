"""The manifests of deploy/kubernetes, held against Kubernetes' own schemas, the settings, and a hub and a provider."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import promql_parser
import pytest
import yaml

from common.settings import read_settings
from hub.settings import HubSettings
from provider.settings import ProviderSettings
from tests.integration.test_deploy_files import GRACE_S
from tests.support.call import get
from tests.support.grid import Chain, Grid
from tests.support.processes import PROJECT

FOLDER = PROJECT / "deploy/kubernetes"
VERSIONS = ("1.33", "1.37")
"""From the first that has sidecars for good to the newest that the validator knows."""
FOREIGN = {"HTTPRoute", "ServiceMonitor"}
"""Kinds that are not Kubernetes' own: for them there is no schema here."""
NOT_APPLIED = {"autoscaling/prometheus-adapter.yaml", "monitoring/names.yaml", "shared-gpus/provider.yaml"}
"""Values of a chart, kustomize's own, and a patch, which is no manifest by itself."""
LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def manifests() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every document and the file that it stands in."""
    for path in sorted(FOLDER.rglob("*.yaml")):
        name = str(path.relative_to(FOLDER))
        if path.name != "kustomization.yaml" and name not in NOT_APPLIED:
            for document in documents(path):
                yield name, document


ALL = [pytest.param(document, id=f"{name}-{document['kind']}") for name, document in manifests()]
PODS = {
    f"{document['kind']}/{document['metadata']['name']}": document["spec"]["template"]
    for _, document in manifests()
    if document["kind"] in ("Deployment", "DaemonSet")
}


def one(kind: str, name: str = "hub") -> dict[str, Any]:
    (found,) = [it for _, it in manifests() if it["kind"] == kind and it["metadata"]["name"] == name]
    return found


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def environment(container: dict[str, Any]) -> dict[str, str]:
    """Its variables; what Kubernetes fills in as a name such as a pod could have."""
    return {each["name"]: each.get("value", "gpu-pool-5d8c7f9b6d-x2x4q") for each in container.get("env", ())}


def main_container(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["spec"]["containers"]
    return dict(container)


def example(name: str) -> dict[str, str]:
    lines = (FOLDER / f"{name}.secret.env.example").read_text().splitlines()
    return {line.partition("=")[0]: line.partition("=")[2] for line in lines if line and not line.startswith("#")}


# what Kubernetes says


@pytest.mark.parametrize("manifest", [each for each in ALL if each.values[0]["kind"] not in FOREIGN])
def test_manifests_are_as_kubernetes_wants_them(manifest: dict[str, Any]) -> None:
    for version in VERSIONS:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_all_others_are_of_kinds_that_are_not_its_own() -> None:
    assert {document["kind"] for _, document in manifests()} >= FOREIGN
    for _, manifest in manifests():
        if manifest["kind"] in FOREIGN:
            with pytest.raises(kubernetes_validate.SchemaNotFoundError):
                kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


def test_the_validator_would_find_a_mistake() -> None:
    manifest = one("Deployment")
    manifest["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


def test_every_file_is_taken_in_somewhere() -> None:
    kustomizations = {path.parent: documents(path)[0] for path in FOLDER.rglob("kustomization.yaml")}
    named = {Path("autoscaling/prometheus-adapter.yaml")}
    for folder, read in kustomizations.items():
        files = [*read.get("resources", ()), *read.get("configurations", ())]
        files += [patch["path"] for patch in read.get("patches", ()) if "path" in patch]
        named |= {folder.relative_to(FOLDER) / name for name in [*files, "kustomization.yaml"]}
    assert named == {path.relative_to(FOLDER) for path in FOLDER.rglob("*.yaml")}
    offered = re.findall(r"^#  - ([a-z-]+) +# ", (FOLDER / "kustomization.yaml").read_text(), re.MULTILINE)
    assert {FOLDER / name for name in offered} == set(kustomizations) - {FOLDER}
    assert {kustomizations[FOLDER / name]["kind"] for name in offered} == {"Component"}


def test_what_is_selected_is_there() -> None:
    """By labels, by names of ports, of pods' owners and of services."""
    for _, document in manifests():
        spec = document.get("spec", {})
        if "template" in spec:
            labels = spec["template"]["metadata"]["labels"]
            assert spec["selector"]["matchLabels"] == labels == document["metadata"]["labels"]
            others = [name for name, pod in PODS.items() if labels.items() <= pod["metadata"]["labels"].items()]
            assert others == [f"{document['kind']}/{document['metadata']['name']}"]
            assert all(LABEL.fullmatch(value) for value in labels.values())
        if document["kind"] == "HorizontalPodAutoscaler":
            assert f"Deployment/{spec['scaleTargetRef']['name']}" in PODS
            for metric in spec["metrics"]:
                selected = metric.get("external", {}).get("metric", {}).get("selector", {"matchLabels": {}})
                assert all(LABEL.fullmatch(value) for value in selected["matchLabels"].values())
    hub = PODS["Deployment/hub"]
    assert one("Service")["spec"]["selector"] == hub["metadata"]["labels"]
    assert one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == hub["metadata"]["labels"]
    assert one("ServiceMonitor")["spec"]["selector"]["matchLabels"] == one("Service")["metadata"]["labels"]


# who may do what


@pytest.mark.parametrize("name", PODS)
def test_pods_hold_no_key_to_the_cluster_and_no_variables_of_services(name: str) -> None:
    spec = PODS[name]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert one("ServiceAccount", spec["serviceAccountName"])["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False, "GHUB_HUB_PORT would be tcp://… under a Service named ghub-hub"
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(PODS[name]):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
    ours = main_container(PODS[name])
    assert {**spec["securityContext"], **ours["securityContext"]}.items() >= {
        ("runAsNonRoot", True),
        ("runAsUser", 10001),
        ("readOnlyRootFilesystem", True),
    }


def test_no_secret_stands_in_a_file() -> None:
    for name in ("hub", "provider"):
        assert set(example(name).values()) == {""}
        done = subprocess.run(
            ["git", "check-ignore", "-q", f"deploy/kubernetes/{name}.secret.env"], cwd=PROJECT, check=False, timeout=10
        )
        assert done.returncode in (0, 128), "git would take it in"  # 128: this is no checkout
    assert not [document for _, document in manifests() if document["kind"] == "Secret"]
    generated = {each["name"] for each in documents(FOLDER / "kustomization.yaml")[0]["secretGenerator"]}
    used = {each["secretRef"]["name"] for pod in PODS.values() for each in main_container(pod)["envFrom"]}
    assert used == generated
    shown = one("ServiceMonitor")["spec"]["endpoints"][0]["authorization"]["credentials"]
    assert shown["name"] in generated
    assert shown["key"] in example("hub")


def test_only_who_should_reaches_hubs_and_providers() -> None:
    def inward(name: str) -> list[dict[str, Any]]:
        policy = one("NetworkPolicy", name)["spec"]
        assert "Ingress" in policy["policyTypes"]
        return list(policy.get("ingress", ()))

    assert one("NetworkPolicy", "nothing-else")["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert inward("provider") == []
    (hub,) = inward("hub")
    assert hub["ports"] == [{"port": "http"}]
    for name in ("hub", "provider"):
        selected = one("NetworkPolicy", name)["spec"]["podSelector"]["matchLabels"]
        assert any(selected.items() <= pod["metadata"]["labels"].items() for pod in PODS.values())


# what is set


def known(kind: type[HubSettings] | type[ProviderSettings]) -> set[str]:
    prefix = kind.model_config["env_prefix"]
    return {str(field.validation_alias or prefix + name.upper()) for name, field in kind.model_fields.items()}


def shared_gpus() -> dict[str, str]:
    (patch,) = documents(FOLDER / "shared-gpus/provider.yaml")
    return environment(main_container(patch["spec"]["template"]))


@pytest.mark.parametrize(
    ("name", "more"), [("DaemonSet/provider", {}), ("DaemonSet/provider", shared_gpus()), ("Deployment/gpu-pool", {})]
)
def test_providers_know_what_they_are_told(name: str, more: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    container = main_container(PODS[name])
    given = {**environment(container), **more, **dict.fromkeys(example("provider"), "a-token-of-a-provider")}
    ours = {variable: value for variable, value in given.items() if variable.startswith("GHUB_")}
    assert {variable.partition("__")[0] for variable in ours} <= known(ProviderSettings)
    for variable, value in ours.items():
        monkeypatch.setenv(variable, value)
    settings = read_settings(ProviderSettings)
    assert settings.registers
    hub, service = urlsplit(str(settings.hub_url)), one("Service")
    assert (hub.hostname, hub.port) == (service["metadata"]["name"], service["spec"]["ports"][0]["port"])
    engine = containers(PODS[name])[0]
    assert engine["restartPolicy"] == "Always", "a sidecar: it must outlive the provider's drain"
    assert str(settings.engine.url).startswith("http://127.0.0.1:")
    port = str(settings.engine.url).rpartition(":")[2]
    assert port in json.dumps([engine.get("args"), environment(engine)])
    needed_s = settings.drain_timeout_s + settings.broker_grace_s
    assert PODS[name]["spec"]["terminationGracePeriodSeconds"] >= needed_s + GRACE_S
    assert settings.gate.own_processes == (("ollama",) if more else ())


def test_hubs_know_what_they_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    container = main_container(PODS["Deployment/hub"])
    secrets = {
        "GHUB_REDIS_URL": "redis+sentinel://hub:p@sentinel-0:26379,sentinel-1:26379/myservice/0",
        **dict.fromkeys(set(example("hub")) - {"GHUB_REDIS_URL"}, "k1:0123456789abcdef"),
    }
    given = environment(container) | secrets
    assert set(given) <= known(HubSettings)
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    settings = read_settings(HubSettings)
    assert settings.needs_client_keys
    assert settings.admin_token is not None
    (port,) = container["ports"]
    assert port["containerPort"] == settings.port
    assert one("Service")["spec"]["ports"][0]["targetPort"] == port["name"]
    assert one("ServiceMonitor")["spec"]["endpoints"][0]["port"] == one("Service")["spec"]["ports"][0]["name"]
    spec = PODS["Deployment/hub"]["spec"]
    needed_s = settings.shutdown_delay_s + settings.shutdown_timeout_s
    assert spec["terminationGracePeriodSeconds"] >= needed_s + GRACE_S
    probe = container["readinessProbe"]
    noticed_s = probe["failureThreshold"] * (probe["periodSeconds"] + probe["timeoutSeconds"])
    assert settings.shutdown_delay_s >= noticed_s
    rollout = one("Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert (rollout["maxUnavailable"], one("Deployment")["spec"]["replicas"]) == (0, 2)
    most = HubSettings.model_fields["max_body_bytes"].default // 2**20
    annotations = one("Ingress")["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-body-size"] == f"{most}m"


# what answers


@pytest.fixture(scope="module")
def chain(module_grid: Grid) -> Chain:
    return module_grid.chain()


def test_probes_ask_for_what_is_answered(chain: Chain, module_grid: Grid) -> None:
    container = main_container(PODS["Deployment/hub"])
    for kind, path in (("startup", "live"), ("readiness", "ready"), ("liveness", "live")):
        probe = container[f"{kind}Probe"]["httpGet"]
        assert probe == {"path": f"/health/{path}", "port": "http"}
        assert get(chain.hub, probe["path"]).status == 200
    own = urlsplit(module_grid.provider_urls[chain.node]).port
    for name in ("DaemonSet/provider", "Deployment/gpu-pool"):
        for kind in ("readiness", "liveness"):
            first, *rest = main_container(PODS[name])[f"{kind}Probe"]["exec"]["command"]
            assert first == "python"
            command = [sys.executable, *(part.replace("8081", str(own)) for part in rest)]
            subprocess.run(command, check=True, timeout=20)
            broken = [part.replace("/health", "/nothing") for part in command]
            assert subprocess.run(broken, check=False, timeout=20).returncode == 1


def test_autoscalers_ask_for_metrics_that_hubs_tell(chain: Chain) -> None:
    (values,) = documents(FOLDER / "autoscaling/prometheus-adapter.yaml")
    rules = {rule["name"]["as"]: rule for rule in values["rules"]["external"]}
    asked = [
        metric["external"]["metric"]
        for _, document in manifests()
        if document["kind"] == "HorizontalPodAutoscaler"
        for metric in document["spec"]["metrics"]
        if metric["type"] == "External"
    ]
    assert {metric["name"] for metric in asked} == set(rules)
    told = get(chain.hub, "/metrics").text
    for metric in asked:
        rule, labels = rules[metric["name"]], metric.get("selector", {"matchLabels": {}})["matchLabels"]
        series = rule["seriesQuery"]
        matchers = ",".join(f'{label}="{value}"' for label, value in labels.items())
        query = rule["metricsQuery"].replace("<<.LabelMatchers>>", matchers)
        promql_parser.parse(query)
        used = set(re.findall(r"\w+(?==)", query)) | {
            label.strip() for found in re.findall(r"by \(([^)]*)\)", query) for label in found.split(",")
        }
        lines = [line for line in told.splitlines() if line.startswith(f"{series}{{")]
        assert any(used <= set(re.findall(r"(\w+)=", line)) for line in lines), (used, lines)
