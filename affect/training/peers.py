"""Notices that another process of a training is lost, and ends this one, which would wait for it without end.

`affect.training.processes` starts this file as a program beside each process, with the standard library alone. JAX
itself would notice after 100 s, and abort without a word that a user understands.

    python peers.py NUMBER PROCESSES PARENT NUMBER:DESCRIPTOR ...

The descriptors are connections: process 0 has one to each other process, and these have one to process 0. On its
standard input the parent writes `done NUMBER` when training has ended, and `stopped NUMBER` when it says itself why it
ends.
"""

import contextlib
import os
import select
import signal
import socket
import sys

# How long a process that learns that another has stopped may take to say itself why it does.
GRACE_S = 10
AGAIN = "Start all of them again with the same commands: the run goes on after its last finished epoch."


def watch(number: int, processes: int, parent: int, peers: dict[int, socket.socket]) -> None:
    """Waits until training ends; ends the parent if another process ends before.

    Args:
        number: Of this process.
        processes: How many there are.
        parent: Process that is ended.
        peers: Number of a process → the connection to it.
    """
    while True:
        watched: list[int | socket.socket] = [0, *peers.values()]
        ready, _, _ = select.select(watched, [], [])
        for peer, connection in list(peers.items()):
            if connection not in ready:
                continue
            word = _receive(peer, connection)
            del peers[peer]
            if word.startswith("done"):
                continue
            # The parent may end for the same reason as the other process, such as a loss that is not finite.
            if word.startswith("stopped") and select.select([0], [], [], GRACE_S)[0] and (own := os.read(0, 100)):
                return _tell(peers, own.decode().strip())
            return _end(word, number, processes, parent, peers)
        if 0 in ready:
            if word := os.read(0, 100).decode().strip():
                return _tell(peers, word)
            # JAX aborts a process that has lost process 0. Find out whether the parent ended because of that.
            for peer, connection in list(peers.items()):
                if connection in select.select([connection], [], [], 1)[0]:
                    word = _receive(peer, connection)
                    del peers[peer]
                    if not word.startswith("done"):
                        return _end(word, number, processes, parent, peers)
            return _end(f"lost {number}", number, processes, parent, peers)


def _receive(peer, connection):
    """Returns what another process says of itself or of a third one: `done 1`, `stopped 1` or `lost 1`."""
    try:
        word = connection.recv(100).decode().strip()
    except OSError:
        word = ""
    return word or f"lost {peer}"


def _tell(peers, word):
    for connection in peers.values():
        with contextlib.suppress(OSError):
            connection.sendall(f"{word}\n".encode())


def _end(word, number, processes, parent, peers):
    """Says which process ended, tells the others, and ends the parent."""
    _tell(peers, word)
    what, who = word.split()
    if int(who) == number:
        print(f"affect: Process {who} of {processes} was killed or has crashed. {AGAIN}", file=sys.stderr)
        return
    says = "has stopped and says why" if what == "stopped" else "was lost"
    print(f"affect: Process {who} of {processes} {says}. Process {number} stops too. {AGAIN}", file=sys.stderr)
    if os.getppid() == parent:
        os.kill(parent, signal.SIGKILL)


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    number, processes, parent = map(int, sys.argv[1:4])
    found = (argument.split(":") for argument in sys.argv[4:])
    watch(number, processes, parent, {int(peer): socket.socket(fileno=int(handle)) for peer, handle in found})
