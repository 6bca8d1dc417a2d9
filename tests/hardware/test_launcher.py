import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

from soft.errors import SettingError
from soft.hardware import launcher
from soft.hardware.devices import cores_per_process, count_devices, count_nodes
from soft.hardware.launcher import Launch, check_launch, find_launch

TORCHRUN = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "1"}
# The variables that srun sets on two nodes with two tasks each.
SRUN = {
    "SLURM_JOB_ID": "71",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "2",
}
# The variables of a batch script that does not use srun.
SBATCH = {"SLURM_JOB_ID": "71", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_NNODES": "2"}
MADE_UP = "f7747862-4cb3-4346-8b50-2a7c42d410f7"


@pytest.mark.parametrize(
    ("env", "found"),
    [
        ({}, None),
        ({**TORCHRUN, "TORCHELASTIC_RUN_ID": "none"}, Launch("torchrun", 5, 4, 2)),
        ({**TORCHRUN, "TORCHELASTIC_RUN_ID": MADE_UP}, Launch("torchrun", 5, 4, 2)),
        ({**TORCHRUN, "TORCHELASTIC_RUN_ID": "mine"}, Launch("torchrun", 5, 4, 2, "mine")),
        ({**SRUN, **TORCHRUN}, Launch("torchrun", 5, 4, 2)),
        (SRUN, Launch("SLURM", 3, 2, 2, "slurm_71")),
        ({**SRUN, "SLURM_STEP_ID": "2"}, Launch("SLURM", 3, 2, 2, "slurm_71.2")),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1"}, None),
        (SBATCH, None),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2"}, Launch("Lightning", 1, 2, 1)),
    ],
)
def test_who_started_this(env, found):
    assert find_launch(env) == found


def test_settings_have_to_say_what_the_launcher_did():
    two_by_four = Launch("torchrun", 0, 4, 2)
    check_launch(two_by_four, 4, 2)
    with pytest.raises(SettingError, match=r"torchrun started 4 processes on each of 2 nodes.*trainer\.devices=4"):
        check_launch(two_by_four, 8, 1)
    with pytest.raises(SettingError, match=r"trainer\.num_nodes=4, but nothing has started .* src/sbatch\.py"):
        check_launch(None, 8, 4)
    check_launch(None, 8, 1)


def test_auto_takes_the_launchers_numbers():
    two_by_four = Launch("SLURM", 0, 4, 2)
    assert (count_devices("cpu", "auto", launch=two_by_four), count_nodes("auto", two_by_four)) == (4, 2)
    assert (count_devices("cpu", 1, launch=two_by_four), count_nodes(3, two_by_four)) == (1, 3)
    assert count_nodes("auto") == 1
    with pytest.raises(SettingError, match=r"trainer\.num_nodes=0"):
        count_nodes(0)


def test_cores_of_a_slurm_task_are_its_own(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(12), raising=False)
    assert cores_per_process(4) == 3
    for name, value in {**SRUN, "SLURM_CPUS_PER_TASK": "6"}.items():
        monkeypatch.setenv(name, value)
    assert cores_per_process(4) == 6


def test_every_start_finds_its_own_ranks(monkeypatch):
    """What earlier starts left in torchrun's store does not reach later ones, whichever rank comes first."""
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setattr(launcher, "_agent_store", lambda: dist.TCPStore("127.0.0.1", server.port, is_master=False))

    def start(rank: int, attempt: int) -> list[str]:
        time.sleep(0.3 * ((rank + attempt) % 3))
        store = launcher.fresh_store(Launch("torchrun", rank, 3, 1))
        store.set(f"address/{rank}", f"rank {rank} of attempt {attempt}")
        return [store.get(f"address/{other}").decode() for other in range(3)]

    for attempt in range(3):
        with ThreadPoolExecutor(3) as pool:
            seen = list(pool.map(start, range(3), [attempt] * 3))
        assert seen == [[f"rank {rank} of attempt {attempt}" for rank in range(3)]] * 3

    with ThreadPoolExecutor(3) as pool:
        names = list(pool.map(launcher.agree_on_name, ("a", "b", "c")))
    assert len(set(names)) == 1
    assert launcher.agree_on_name("d") == names[0]  # after a restart


def _start_one_that_watches(pipe) -> None:
    child = os.fork()
    if child == 0:
        launcher.end_with_parent()
    else:
        pipe.send(child)
    time.sleep(60)


@pytest.mark.slow
def test_a_rank_does_not_outlive_what_started_it():
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()
    parent = fork.Process(target=_start_one_that_watches, args=(there,))
    parent.start()
    child = here.recv()
    time.sleep(2)
    assert _alive(child)
    parent.kill()
    parent.join()
    deadline = time.monotonic() + 20
    while _alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:  # nobody may be there to collect it
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"


def test_broken_connections_are_told_from_errors():
    gloo = "[third_party/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:695"
    assert launcher.lost_another(RuntimeError(gloo))
    assert launcher.lost_another(dist.DistBackendError("NCCL communicator was aborted"))
    assert not launcher.lost_another(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
