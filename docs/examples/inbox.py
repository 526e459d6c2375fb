#!/usr/bin/env python3
"""Takes messages back from Python: each line of standard input is a row of input as JSON, and becomes one entry of recallq:inbox.

    inbox.py [--batch NAME] [--urgent] < rows.ndjson

    echo '{"provider":"jiguang","message_id":"18100287000000001","sent_at":"'"$(date -u +%FT%TZ)"'"}' | inbox.py --urgent

Redis is RECALLQ_REDIS_URL: redis://user:password@host:port, or rediss:// for TLS. The user may be limited to
ACL SETUSER push on >PASSWORD ~recallq:inbox -@all +xadd

It prints the id of each entry. An entry that is refused later is on the stream recallq:outcomes under that id. After an error, run
it again with the same input: a recall that comes twice is one recall.

It needs Python 3.9 and nothing else. With redis-py the whole of it is r.xadd("recallq:inbox", {"row": json.dumps(row)}).
"""

import argparse
import itertools
import os
import socket
import ssl
import sys
from urllib.parse import unquote, urlsplit

AT_A_TIME = 500  # rows that are sent before their answers are read


class Inbox:
    """A connection to Redis that can add entries to recallq:inbox, for one thread at a time."""

    def __init__(self, url, timeout=10):
        u = urlsplit(url)
        if u.scheme not in ("redis", "rediss") or not u.hostname:
            raise ValueError("RECALLQ_REDIS_URL is not of the form redis://user:password@host:port")
        self.socket = socket.create_connection((u.hostname, u.port or 6379), timeout)
        if u.scheme == "rediss":
            self.socket = ssl.create_default_context().wrap_socket(self.socket, server_hostname=u.hostname)
        self.answers = self.socket.makefile("rb")
        if u.password is not None:
            user = [unquote(u.username)] if u.username else []
            self.socket.sendall(command("AUTH", *user, unquote(u.password)))
            self.answer()

    def add(self, rows, batch="", priority="bulk"):
        """Adds rows, each a row of input as JSON, and returns their ids. Once it returns, all are accepted."""
        self.socket.sendall(b"".join(
            command("XADD", "recallq:inbox", "*", "row", row, "batch", batch, "priority", priority) for row in rows
        ))
        return [self.answer() for _ in rows]

    def answer(self):
        line = self.answers.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the connection to Redis broke off")
        kind, text = line[:1], line[1:-2].decode("utf-8", "replace")
        if kind == b"-":
            raise RuntimeError("not accepted: " + text)
        if kind == b"$":
            return self.answers.read(int(text) + 2)[:-2].decode()
        return text

    def close(self):
        self.answers.close()
        self.socket.close()


def command(*words):
    """One command in Redis's protocol: an array of strings, each with its length in bytes."""
    words = [w.encode() for w in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def main():
    flags = argparse.ArgumentParser(description="adds rows of input, NDJSON on standard input, to recallq:inbox")
    flags.add_argument("--batch", default="", help="the batch in which they are counted")
    flags.add_argument("--urgent", action="store_true", help="they do not wait for bulk recalls")
    args = flags.parse_args()
    sys.stdin.reconfigure(encoding="utf-8")
    rows = (line.strip() for line in sys.stdin)
    rows = (row for row in rows if row)
    try:
        inbox = Inbox(os.environ.get("RECALLQ_REDIS_URL", "redis://127.0.0.1:6379"))
        while some := list(itertools.islice(rows, AT_A_TIME)):
            for entry in inbox.add(some, args.batch, "urgent" if args.urgent else "bulk"):
                print(entry)
        inbox.close()
    except (OSError, ValueError, RuntimeError) as err:
        sys.exit(f"inbox.py: {err}")


if __name__ == "__main__":
    main()
