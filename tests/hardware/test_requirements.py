import http.server
import re
import shutil
import socket
import threading
from collections import namedtuple

import pytest

from soft.hardware import requirements
from soft.hardware.memory import GIB
from soft.hardware.memory_estimate import MemoryEstimate


def memory(training: float, validation: float = 0.0) -> MemoryEstimate:
    return MemoryEstimate(0, 0, 0, 0, 0, int(training * GIB), int(validation * GIB))


@pytest.mark.parametrize(
    ("env", "kinds", "text"),
    [
        ({}, [], ""),
        ({"SLURM_JOB_NUM_NODES": "4"}, [], ""),
        ({"SLURM_JOB_NUM_NODES": "2"}, ["missing"], "2 nodes.*--nodes=4"),
        ({"SLURM_NNODES": "8"}, ["warning"], "8 nodes.*idle"),
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "32"}, [], ""),
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "8"}, ["missing"], "8 processes.*32"),
        ({"WORLD_SIZE": "8"}, [], ""),  # set by Lightning
    ],
)
def test_nodes_against_the_environment(env, kinds, text):
    findings = requirements.check_nodes(nodes=4, per_node=8, env=env)
    assert [finding.kind for finding in findings] == kinds
    assert all(re.search(text, finding.text) for finding in findings)


@pytest.mark.parametrize(
    ("needed", "kind", "texts"),
    [
        (memory(20), None, ()),
        (memory(30), "warning", ("30.00 GiB of the device's 32.00 GiB", "max_batch_per_device", "grad_checkpointing")),
        (memory(40), "error", ("40.00 GiB",)),
        (memory(10, 33), "error", ("Validation", "data.val_batch_size")),
    ],
)
def test_memory_against_the_device(needed, kind, texts):
    findings = requirements.check_memory(needed, 32 * GIB)
    assert [finding.kind for finding in findings] == ([kind] if kind else [])
    for text in texts:
        assert text in findings[0].text
    assert requirements.check_memory(needed, None) == []


def test_disk(tmp_path, monkeypatch):
    folder = tmp_path / "not" / "made" / "yet"
    free, findings = requirements.check_disk(folder, needed=1)
    assert free > 0
    assert findings == []
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10 * GIB, 9 * GIB, GIB))
    (finding,) = requirements.check_disk(folder, needed=2 * GIB)[1]
    assert finding.kind == "warning"
    for text in ("2.00 GiB", "1.00 GiB free", str(tmp_path), "hydra.run.dir"):
        assert text in finding.text


def test_a_server_is_reachable_whatever_it_answers():
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    assert requirements.is_reachable(url)
    server.shutdown()
    server.server_close()
    assert not requirements.is_reachable(url)
    with socket.socket() as silent:  # accepts the connection and sends nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert not requirements.is_reachable(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.3)
