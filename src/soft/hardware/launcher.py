"""The launcher that started this process (torchrun, SLURM or Lightning), and how its ranks find each other."""

import os
import signal
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from soft.errors import SettingError


@dataclass(frozen=True)
class Launch:
    """What a launcher says about this process, one of `nodes` × `per_node`."""

    by: str  # torchrun, SLURM or Lightning
    rank: int  # over all nodes
    per_node: int
    nodes: int
    run_id: str | None = None  # the launcher's name of the run, the same on every rank and after a restart


def find_launch(env: Mapping[str, str] = os.environ) -> Launch | None:
    """Read the launch from the environment; return None for a process that was started by hand.

    SLURM is the launcher where `srun` started several tasks. In an allocation used by hand, or in a batch script
    without `srun`, there is one process, and Lightning starts the others.
    """
    if "RANK" in env and "WORLD_SIZE" in env:
        world = int(env["WORLD_SIZE"])
        per_node = int(env.get("LOCAL_WORLD_SIZE", world))
        name = env.get("TORCHELASTIC_RUN_ID", "none")
        given = name != "none" and not _is_uuid(name)  # torchrun makes up a UUID where the user gives no --rdzv-id
        return Launch("torchrun", int(env["RANK"]), per_node, world // per_node, name if given else None)
    if int(env.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        tasks, nodes = int(env["SLURM_STEP_NUM_TASKS"]), int(env["SLURM_STEP_NUM_NODES"])
        step = env["SLURM_STEP_ID"]
        run_id = f"slurm_{env['SLURM_JOB_ID']}" + (f".{step}" if step != "0" else "")
        return Launch("SLURM", int(env["SLURM_PROCID"]), tasks // nodes, nodes, run_id)
    if "LOCAL_RANK" in env:
        return Launch("Lightning", int(env["LOCAL_RANK"]), int(env.get("WORLD_SIZE", 1)), 1)
    return None


def check_launch(launch: Launch | None, devices: int, nodes: int) -> None:
    """Refuse settings (`devices` processes on each of `nodes`) that differ from what the launcher started.

    Raises:
        SettingError: they differ, or nothing has started a run on several nodes.
    """
    if launch is None or launch.by == "Lightning":
        if nodes > 1:
            raise SettingError(
                f"trainer.num_nodes={nodes}, but nothing has started this run on several machines. Submit it with "
                "`python src/sbatch.py`, or start torchrun on each of them; docs/cluster.md has the commands."
            )
        return
    if (launch.per_node, launch.nodes) != (devices, nodes):
        raise SettingError(
            f"{launch.by} started {launch.per_node} processes on each of {launch.nodes} nodes, and the settings say "
            f"{devices} on {nodes}. Set trainer.devices={launch.per_node} and trainer.num_nodes={launch.nodes}, or "
            "both to auto; trainer=auto, cpu and gpu are for one process."
        )


def end_with_parent() -> None:
    """Kill this process soon after the process that started it has ended, for whatever reason.

    Otherwise a rank could wait half an hour for a rank that is gone, and hold its GPU meanwhile. It gets a few seconds
    to notice the end by itself and to say so.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        time.sleep(5)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def lost_another(error: BaseException) -> bool:
    """Return whether an error only says that the connection to another rank broke."""
    from torch.distributed import DistError

    return isinstance(error, DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


def agree_on_name(own: str) -> str:
    """Return the same name on all ranks of a torchrun, the `own` of one of them, and again after a restart."""
    return _agent_store().compare_set("soft/name", "", own).decode()


def fresh_store(launch: Launch):
    """Return a store for one process group of a torchrun, without what an earlier start left behind.

    torchrun keeps one store for all restarts, and ranks that come back find the addresses of processes that are dead
    (pytorch/pytorch#135712). No environment variable tells one start from another on every node. So every rank sends a
    random word to the first rank, which answers with its own word until all ranks have it; that word is the prefix of
    this start's keys.

    Returns:
        a `torch.distributed.Store` for `init_process_group`.
    """
    from torch.distributed import PrefixStore

    store, mine = _agent_store(), uuid.uuid4().hex
    if launch.rank:
        store.set(f"soft/hello/{launch.rank}", mine)
        word = store.get(f"soft/answer/{mine}").decode()  # waits for the first rank's answer
        store.set(f"soft/heard/{word}/{launch.rank}", "")
        return PrefixStore(word, store)
    waiting = set(range(1, launch.per_node * launch.nodes))
    while waiting:
        for rank in waiting:
            if store.check([f"soft/hello/{rank}"]):
                store.set(f"soft/answer/{store.get(f'soft/hello/{rank}').decode()}", mine)
        time.sleep(0.1)
        waiting = {rank for rank in waiting if not store.check([f"soft/heard/{mine}/{rank}"])}
    return PrefixStore(mine, store)


def _agent_store():
    from torch.distributed import TCPStore

    return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)


def has_agent_store(env: Mapping[str, str] = os.environ) -> bool:
    """Return whether torchrun itself keeps the store at MASTER_ADDR:MASTER_PORT, instead of the first rank."""
    return env.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _is_uuid(name: str) -> bool:
    try:
        uuid.UUID(name)
    except ValueError:
        return False
    return True
