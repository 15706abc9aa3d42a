"""Dask, for real: a scheduler and workers started by command line, with TLS on."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.execution.conftest import SHARDS, Place

distributed = pytest.importorskip("distributed", reason="Dask is in the extra `dask`")

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120  # that a process may take to come up on a busy machine


@dataclass(frozen=True)
class Secured:
    """A scheduler and two workers, and how to reach them."""

    address: str
    environment: dict[str, str]
    scheduler: subprocess.Popen[bytes]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def certificate(folder: Path) -> Path:
    """Make a certificate that is its own authority, in one file with its key, as Dask takes it."""
    x509 = pytest.importorskip("cryptography.x509", reason="certificates need cryptography, of the extra `test`")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "onnxmi test")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "tls.pem"
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, *form)
    pem.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + private)
    return pem


def tls_environment(pem: Path) -> dict[str, str]:
    """Dask's own configuration, as docs/scale.md has it."""
    names = {
        "CA_FILE": pem,
        **{f"{who}__{what}": pem for who in ("CLIENT", "SCHEDULER", "WORKER") for what in ("CERT", "KEY")},
    }
    return {
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
        **{f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(value) for name, value in names.items()},
    }


@contextmanager
def started(folder: Path) -> Iterator[Secured]:
    port, environment = free_port(), {**os.environ, **tls_environment(certificate(folder)), "PYTHONPATH": str(ROOT)}
    address = f"tls://127.0.0.1:{port}"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address]
    quiet: dict[str, Any] = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with ExitStack() as stack:
        where = ["--host", "127.0.0.1", "--port", str(port), "--protocol", "tls", "--no-dashboard", "--no-show"]
        scheduler = stack.enter_context(subprocess.Popen([*dask, *where], **quiet))
        stack.callback(scheduler.kill)
        for _ in range(2):
            how = ["--nthreads", "1", "--no-dashboard", "--local-directory", str(folder), "--host", "127.0.0.1"]
            one = stack.enter_context(subprocess.Popen([*worker, *how], **quiet))
            stack.callback(one.kill)
        wait_for_workers(address, environment)
        yield Secured(address, environment, scheduler)


def wait_for_workers(address: str, environment: dict[str, str]) -> None:
    program = (
        "import distributed, sys\n"
        f"with distributed.Client({address!r}, timeout={SECONDS}) as client:\n"
        f"    client.wait_for_workers(2, timeout={SECONDS})"
    )
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=2 * SECONDS)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "onnxmi", "-q", *map(str, arguments)]


def test_tls_from_the_command_line(place: Place, tmp_path: Path) -> None:
    """Capture and sweep through it; a client without a certificate is kept out; then the scheduler goes."""
    with started(tmp_path) as secured:
        capture = ["capture", place.model, place.samples, "--threads", 1, "--dask", secured.address, "--shards", SHARDS]
        run = {"env": secured.environment, "capture_output": True, "text": True, "timeout": 2 * SECONDS}
        made = subprocess.run(command(*capture, "-o", tmp_path / "s.npz"), **run)
        assert made.returncode == 0, made.stderr
        assert (tmp_path / "s.npz").read_bytes() == place.expected
        assert secured.address.encode() not in place.expected

        sweep = ["sweep", place.model, place.samples, "--threads", 1, "--by", "macs", "--at", "0.5", "--json"]
        curve = subprocess.run(command(*sweep, "--shards", SHARDS, "--dask", secured.address), **run)
        assert curve.returncode == 0, curve.stderr
        assert len(json.loads(curve.stdout)["points"]) == 1
        assert secured.address not in curve.stdout
        assert "--dask ..." in json.loads(curve.stdout)["command"]

        bare = subprocess.run(command(*capture, "-o", tmp_path / "x.npz"), **{**run, "env": dict(os.environ)})
        assert (bare.returncode, bare.stderr.count("\n")) == (3, 1)
        assert "cannot be reached" in bare.stderr
        assert not (tmp_path / "x.npz").exists()

        goes(place, tmp_path, secured)


def goes(place: Place, folder: Path, secured: Secured) -> None:
    """A scheduler that goes away in the middle: one line, exit code 3, and what is finished is kept."""
    target, shards = folder / "many.npz", 97
    capture = ["capture", place.model, place.samples, "--threads", 1, "--dask", secured.address, "--shards", shards]
    with subprocess.Popen(
        command(*capture, "-o", target), env=secured.environment, stderr=subprocess.PIPE, text=True
    ) as process:
        while not list((folder / "many.npz.shards").glob("0*.npz")):
            assert process.poll() is None
            time.sleep(0.05)
        secured.scheduler.kill()
        _, said = process.communicate(timeout=2 * SECONDS)
    assert (process.returncode, said.count("\n")) == (3, 1), said
    assert "the Dask scheduler is gone; what is finished is kept" in said
    assert not target.exists()
    assert list((folder / "many.npz.shards").glob("0*.npz"))
    assert not list((folder / "many.npz.shards").glob(".running-*"))


def test_ctrl_c_stops_workers(place: Place, tmp_path: Path) -> None:
    """Workers of other processes stop within seconds, and nothing is half-written."""
    with started(tmp_path) as secured:
        target = tmp_path / "s.npz"
        capture = ["capture", place.model, place.samples, "--threads", 1, "--dask", secured.address, "--shards", 97]
        with subprocess.Popen(
            command(*capture, "-o", target), env=secured.environment, stderr=subprocess.PIPE, text=True
        ) as process:
            shards = tmp_path / "s.npz.shards"
            while not list(shards.glob("0*.npz")):
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=SECONDS)
        assert process.returncode == 130, said
        time.sleep(5)
        finished = sorted(path.name for path in shards.iterdir())
        time.sleep(2)
        assert sorted(path.name for path in shards.iterdir()) == finished
        assert len(finished) < 97
        assert not [name for name in finished if not name.endswith(".npz")]
        assert not target.exists()
