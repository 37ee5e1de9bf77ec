"""What the first lines between nodes are where their versions differ."""

import socket
import threading
import time

import pytest

from advisor.engine import following
from advisor.engine.nodes import Answer, Leader, Link, Nodes
from advisor.errors import LostNodeError


def make_nodes(port, **changes):
    fields = {"count": 2, "per_node": 1, "node": 0, "join_s": 30.0, "local_ranks": 1}
    return Nodes(**{**fields, "host": "127.0.0.1", "port": port, **changes})


def find_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize(
    ("greeting", "answered"),
    [
        (b'{"type": "hello", "version": "9.9", "crew": [1]}', "version 9.9"),
        (b"GET / HTTP/1.1", None),  # whatever knocks at ports
        (b'{"type": "hello"}', None),
    ],
)
def test_a_follower_whose_greeting_cannot_be_read_is_told_at_once(greeting, answered):
    nodes, notes, answers = make_nodes(find_port(), join_s=1.0), [], []

    def knock():
        link = Link(socket.create_connection((nodes.host, nodes.port)))
        link._end.sendall(greeting + b"\n")
        answers.append(link.hear(10.0))
        link.close()

    with Leader(nodes) as leader:
        knocking = threading.Thread(target=knock)
        knocking.start()
        with pytest.raises(LostNodeError, match="1 of 2 nodes came") as caught:
            leader.gather(lambda error: None, notes.append)
        knocking.join()
    (answer,) = answers
    if answered is None:
        assert answer is None
        assert notes == []
    else:
        assert isinstance(answer, Answer)
        for told in (answer.why, notes[0], str(caught.value)):
            assert answered in told


def test_a_leader_whose_answer_cannot_be_read_is_left_at_once():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            end, _ = server.accept()
            with end:
                end.makefile("rb").readline()
                end.sendall(b'{"type": "answer", "crew": {"node": 1}, "node": "first"}\n')

        threading.Thread(target=answer, daemon=True).start()
        began = time.monotonic()
        with pytest.raises(LostNodeError, match="no bsadvisor of version"):
            following._connect(make_nodes(server.getsockname()[1], node=1, join_s=600.0))
        assert time.monotonic() - began < 300.0  # it did not wait for another
