"""compose.yaml, the Kubernetes manifests and the Dockerfile, as far as they can be checked where no container runs."""

import json
import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema.validators import validator_for

from tests.flows.conftest import REPOSITORY

INFRA = REPOSITORY / "infra"
COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text())
MANIFESTS = [
    (file.name, one)
    for file in sorted((INFRA / "kubernetes").glob("*.yaml"))
    for one in yaml.safe_load_all(file.read_text())
]
POOLS = sorted((INFRA / "kubernetes").glob("*-pool.json"))


def test_compose_is_valid_by_the_specification() -> None:
    """By the schema that check-jsonschema brings along."""
    path = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    validator = validator_for(schema)(schema)
    validator.validate(COMPOSE)
    wrong = {**COMPOSE, "services": {"one": {"image": "x", "ports": [{"no": "port"}]}}}
    assert not validator.is_valid(wrong)


def test_compose_publishes_on_loopback_and_keeps_secrets_in_files() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 4
    assert all(port.startswith("${BIND:-127.0.0.1}:") for port in ports)
    for name, service in COMPOSE["services"].items():
        for key, value in service.get("environment", {}).items():
            secret = re.search(r"PASSWORD|AUTH_STRING|SECRET", key)
            assert not secret or value.startswith("/run/secrets/"), (name, key)
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"]), name


def test_every_server_of_compose_has_a_health_check() -> None:
    ending = {"buckets", "pools"}
    assert {name for name, one in COMPOSE["services"].items() if "healthcheck" not in one} == ending
    gpu = COMPOSE["services"]["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert gpu == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]


@pytest.mark.parametrize(("file", "manifest"), MANIFESTS, ids=[f"{f}-{m['kind']}" for f, m in MANIFESTS])
def test_a_manifest_is_valid(file: str, manifest: dict[str, Any]) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    validate.validate(manifest, "1.31", strict=True)
    assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] == "secateur"


@pytest.mark.parametrize("file", POOLS, ids=lambda file: file.stem)
def test_a_pool_makes_valid_jobs(file: Path) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    from prefect.utilities.templating import apply_values

    template = json.loads(file.read_text())
    defaults = {key: one["default"] for key, one in template["variables"]["properties"].items() if "default" in one}
    job = apply_values(
        template["job_configuration"]["job_manifest"], {**defaults, "command": "prefect flow-run execute"}
    )
    container = job["spec"]["template"]["spec"]["containers"][0]
    # What Prefect's worker does with these two.
    container["args"] = str(container["args"]).split()
    container["env"] = [{"name": name, "value": value} for name, value in container["env"].items()]
    validate.validate(job, "1.31", strict=True)
    assert ("nvidia.com/gpu" in container["resources"]["limits"]) == file.stem.startswith("gpu")


def test_both_ways_make_the_same_databases() -> None:
    init = next(one for _, one in MANIFESTS if one["kind"] == "ConfigMap")["data"]["roles.sh"]
    assert init == (INFRA / "postgresql-init.sh").read_text()


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    said = (INFRA / "Dockerfile").read_text()
    copied = {word for line in re.findall(r"^COPY (?:--\S+ )?(.*)$", said, re.M) for word in line.split()[:-1]}
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert lines.index("infra/secrets") > lines.index("!infra")  # the later line wins: no password comes into an image
    for path in copied:
        assert (REPOSITORY / path).exists(), path
        assert path.partition("/")[0] in allowed, path
    assert set(COMPOSE["x-image"]["build"]["args"]) == set(re.findall(r"^ARG (\w+)$", said, re.M))


def test_secrets_come_from_files(tmp_path: Path) -> None:
    made = tmp_path / "secrets"
    from infra import keys

    keys.make(made)
    before = {file.name: file.read_text() for file in made.iterdir()}
    keys.make(made)
    assert {file.name: file.read_text() for file in made.iterdir()} == before
    assert made.stat().st_mode & 0o777 == 0o700
    wanted = {Path(one["file"]).name for one in COMPOSE["secrets"].values()}
    assert wanted <= set(before)
    script = (INFRA / "with-secrets").read_text().replace("/run/secrets/", f"{made}/")
    (tmp_path / "with-secrets").write_text(script)
    env = {**os.environ, "HOME": str(tmp_path), "SOME_PASSWORD_FILE": f"{made}/mlflow", "PGPASSFILE": f"{made}/pgpass"}
    show = "import os; print(os.environ['SOME_PASSWORD'], oct(os.stat(os.environ['PGPASSFILE']).st_mode & 0o777))"
    done = subprocess.run(
        ["sh", str(tmp_path / "with-secrets"), sys.executable, "-c", show],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [before["mlflow"], "0o600"]


@pytest.mark.long
def test_the_dockerfiles_last_steps_install_a_package_that_works(tmp_path: Path) -> None:
    """The COPY and RUN lines after PyTorch, in a virtual environment that sees the packages which are here."""
    import shutil
    import site

    for path in ("constraints.txt", "pyproject.toml", "README.md", "LICENSE", "tasks", "params", "flows", "infra"):
        source = REPOSITORY / path
        ignore = shutil.ignore_patterns("__pycache__", "secrets")
        shutil.copytree(source, tmp_path / path, ignore=ignore) if source.is_dir() else shutil.copy(source, tmp_path)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    (next((tmp_path / "venv" / "lib").glob("*/site-packages")) / "here.pth").write_text(site.getsitepackages()[0])
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--constraint", "constraints.txt", "."]
    subprocess.run(install, cwd=tmp_path, check=True)
    where = "import flows, infra, tasks, params; print(flows.__file__)"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(python), "-c", where], cwd="/", env=env, capture_output=True, text=True, check=True)
    assert str(tmp_path) in done.stdout
