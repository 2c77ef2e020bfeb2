# SPDX-License-Identifier: MIT
"""results.py PORT keeps|closes|late: 30 queries a second for ever. It closes each cursor at once, but every tenth never (keeps)
or after 6 seconds (late). An open cursor has its result, which libpq made and PQclear would free."""
from __future__ import annotations

import sys
import time
from collections import deque

import psycopg2

PER_SECOND = 30
EVERY = 10
LATE_SECONDS = 6


def main() -> None:
    port, habit = sys.argv[1:]
    connection = psycopg2.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres")
    connection.autocommit = True
    kept: deque[psycopg2.extensions.cursor] = deque()
    most_kept = {"keeps": sys.maxsize, "closes": 0, "late": LATE_SECONDS * PER_SECOND // EVERY}[habit]
    began, number = time.monotonic(), 0
    while True:
        number += 1
        cursor = connection.cursor()
        cursor.execute("SELECT g, repeat('x', 20) FROM generate_series(1, 50) g")
        if cursor.fetchone() is None:
            sys.exit("no rows")
        if number % EVERY == 0:
            kept.append(cursor)
        else:
            cursor.close()
        if len(kept) > most_kept:
            kept.popleft().close()
        if number == 1:
            print("ready", flush=True)
        time.sleep(max(0.0, began + number / PER_SECOND - time.monotonic()))


main()
