import http.server
import re
import shutil
import socket
import threading
from collections import namedtuple

import pytest

from soft.data.sampling import EpochSampler
from soft.hardware import preflight
from soft.hardware.layout import BatchLayout
from soft.hardware.memory import GIB, Memory


def memory(training: float, validation: float = 0.0) -> Memory:
    return Memory(0, 0, 0, 0, 0, int(training * GIB), int(validation * GIB))


@pytest.mark.parametrize("layout", [BatchLayout(32, 32, 1), BatchLayout(4, 8, 3)])
def test_ranks_take_what_the_sampler_gives_them(layout):
    ranks = preflight.plan_ranks(layout, per_node=4, accelerator="cuda")
    order = [index for _, index in EpochSampler(5000, 0, layout.global_batch, layout.per_device)]
    for plan in ranks:
        sampler = EpochSampler(5000, 0, layout.global_batch, layout.per_device, layout.devices, plan.rank)
        share = [index for _, index in sampler][: layout.per_device * layout.accumulate]
        assert share == [order[position] for images in plan.images for position in images]
    assert [(plan.rank, plan.node, plan.local_rank, plan.device) for plan in ranks[:2]] == [
        (0, 0, 0, "cuda:0"),
        (1, 0, 1, "cuda:1"),
    ]
    assert (ranks[-1].node, ranks[-1].local_rank) == (layout.devices // 4 - 1, 3)


def test_chosen_devices_keep_their_indices():
    ranks = preflight.plan_ranks(BatchLayout(2, 8, 1), per_node=2, accelerator="cuda", indices=[5, 7])
    assert [plan.device for plan in ranks] == ["cuda:5", "cuda:7"]


@pytest.mark.parametrize(
    ("env", "kinds", "text"),
    [
        ({}, [], ""),
        ({"SLURM_JOB_NUM_NODES": "4"}, [], ""),
        ({"SLURM_JOB_NUM_NODES": "2"}, ["missing"], "2 nodes.*--nodes=4"),
        ({"SLURM_NNODES": "8"}, ["warning"], "8 nodes.*idle"),
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "32"}, [], ""),
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "8"}, ["missing"], "8 processes.*32"),
        ({"WORLD_SIZE": "8"}, [], ""),  # Lightning's own
    ],
)
def test_nodes_against_the_environment(env, kinds, text):
    findings = preflight.check_nodes(nodes=4, per_node=8, env=env)
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
    findings = preflight.check_memory(needed, 32 * GIB)
    assert [finding.kind for finding in findings] == ([kind] if kind else [])
    for text in texts:
        assert text in findings[0].text
    assert preflight.check_memory(needed, None) == []


def test_memory_of_devices_that_are_not_here():
    assert preflight.device_memory("cpu", 2, None) == preflight.host_memory() // 2
    assert preflight.device_memory("cpu", 2, 3) == 3 * GIB
    assert GIB / 4 < preflight.host_memory() < 2**50


def test_memory_of_a_v100_elsewhere(monkeypatch):
    monkeypatch.setattr(preflight.torch.cuda, "is_available", lambda: False)
    assert preflight.device_memory("cuda", 8, 32) == 32 * GIB
    assert preflight.device_memory("cuda", 8, None) is None


def test_disk(tmp_path, monkeypatch):
    folder = tmp_path / "not" / "made" / "yet"
    free, findings = preflight.check_disk(folder, needed=1)
    assert free > 0
    assert findings == []
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10 * GIB, 9 * GIB, GIB))
    (finding,) = preflight.check_disk(folder, needed=2 * GIB)[1]
    assert finding.kind == "warning"
    for text in ("2.00 GiB", "1.00 GiB free", str(tmp_path), "hydra.run.dir"):
        assert text in finding.text


def test_answers_of_a_server():
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    assert preflight.answers(url)
    server.shutdown()
    server.server_close()
    assert not preflight.answers(url)
    with socket.socket() as silent:  # takes the connection and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert not preflight.answers(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.3)
