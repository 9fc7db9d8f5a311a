"""A proxy before a server that loses what a network loses, at the moments when it matters.

It adds latency and narrows the line, cuts connections (now, after so many bytes, by chance), leaves them open on which
nothing arrives any more (in one direction or both), and refuses new ones: with any protocol over TCP. Where it knows
the protocol (`conversation.py`; PostgreSQL so far), it also cuts exactly between a commit and its answer, or just
before the server hears of the commit.

    with FaultProxy(address) as proxy:
        proxy.cut_next(AFTER)
        client = connect(proxy.dsn(address))

From a shell: `python -m tests.servers.fault_proxy --target postgresql://... --latency 0.2`.
"""

from tests.servers.fault_proxy.conversation import Conversation, End, Piece, Unknown
from tests.servers.fault_proxy.postgresql import PostgresConversation
from tests.servers.fault_proxy.proxy import AFTER, BEFORE, FaultProxy

__all__ = ["AFTER", "BEFORE", "Conversation", "End", "FaultProxy", "Piece", "PostgresConversation", "Unknown"]
