"""A pool of four worker processes. One is killed in the middle of a job, and another one does it.

    python examples/worker_pool.py

Argument: optionally the address to listen on.
"""

import os
import signal
import subprocess
import sys

import kps
import kps.sync

JOBS = 40
WORKERS = 4
UNLUCKY = 7


def work(address: str, name: str) -> None:
    """A worker process: one member of the group."""

    def square(message: kps.Message[int]) -> int:
        if message.data == UNLUCKY and message.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)  # as the system does when there is no memory
        return message.data**2

    with kps.sync.Client(address, id=name, reconnect=False) as client:
        client.subscribe("jobs", square, group="workers")
        print("ready", flush=True)
        client.run()


def main(address: str = "127.0.0.1:0") -> None:
    """Start the workers, and give them jobs."""
    with kps.sync.Server(address) as server:
        workers = [
            subprocess.Popen(
                [sys.executable, __file__, server.address, f"worker-{number}"],
                stdout=subprocess.PIPE,
            )
            for number in range(WORKERS)
        ]
        for worker in workers:
            assert worker.stdout is not None
            worker.stdout.readline()  # it is ready
        acks = [server.publish_with_ack("jobs", number, timeout=60) for number in range(JOBS)]
        done = 0
        for job, ack in enumerate(acks):
            outcome = ack.wait()["workers of jobs"]
            assert isinstance(outcome, kps.GroupResponse)
            done += outcome.success and outcome.result == job**2
            if outcome.attempts > 1:
                earlier = ", ".join(f"{member} {error}" for member, error in outcome.failures)
                print(f"job {job}: {earlier}; executed again by {outcome.client_id}")
        print(f"{done} of {JOBS} jobs are done")
        for worker in workers:
            worker.terminate()
            worker.communicate()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        work(*sys.argv[1:])
    else:
        main(*sys.argv[1:])
