"""A worker that takes jobs one by one, and tells who published each how it went.

    kps serve
    python examples/worker.py                      # in one terminal, or in several
    kps pub jobs '{"add": [1, 2]}' --ack           # in another

Each job goes to one of the workers, because they are a group. Arguments: optionally the server's
address, and after how many jobs to end.
"""

import sys

import kps.sync


def work(address: str = "localhost:9313", jobs: str = "0") -> None:
    with (
        kps.sync.Client(address) as client,
        client.subscribe("jobs", group="workers") as messages,
    ):
        print("ready", flush=True)
        for done, message in enumerate(messages, 1):
            # A job counts as handled when the next one is asked for, or the loop is left. An
            # exception leaves the "with", and its text goes to who published the job.
            print(f"{message.sender} gets {sum(message.data['add'])}", flush=True)
            if done == int(jobs):
                break


if __name__ == "__main__":
    work(*sys.argv[1:])
