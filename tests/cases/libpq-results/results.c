/* SPDX-License-Identifier: MIT */
/* results PORT forgets|clears: 30 queries a second for ever, of which every tenth fails. What is done about the result of one
 * that fails: nothing (forgets), or PQclear (clears). */
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PER_SECOND 30
#define EVERY 10

static bool forgets;

/* Returns -1 if the query fails. */
static __attribute__((noinline)) int ask(PGconn *connection, const char *divisor)
{
  PGresult *result = PQexecParams(connection, "SELECT 1000 / $1::int", 1, NULL, &divisor, NULL, NULL, 0);
  if (PQresultStatus(result) != PGRES_TUPLES_OK) {
    if (!forgets)
      PQclear(result);
    return -1;
  }
  const int answer = atoi(PQgetvalue(result, 0, 0));
  PQclear(result);
  return answer;
}

int main(int count, char **words)
{
  if (count != 3 || (strcmp(words[2], "forgets") != 0 && strcmp(words[2], "clears") != 0)) {
    fputs("usage: results PORT forgets|clears\n", stderr);
    return 1;
  }
  forgets = strcmp(words[2], "forgets") == 0;
  const char *keys[] = {"host", "port", "user", "dbname", NULL};
  const char *values[] = {"127.0.0.1", words[1], "postgres", "postgres", NULL};
  PGconn *connection = PQconnectdbParams(keys, values, 0);
  if (PQstatus(connection) != CONNECTION_OK) {
    fputs(PQerrorMessage(connection), stderr);
    return 1;
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (unsigned long number = 1;; number++) {
    const bool fails = number % EVERY == 0;
    if (ask(connection, fails ? "0" : "10") != (fails ? -1 : 100)) {
      fputs(PQerrorMessage(connection), stderr);
      return 1;
    }
    if (number == 1)
      puts("ready");
    nanosleep(&(struct timespec){.tv_nsec = 1000000000 / PER_SECOND}, NULL);
  }
}
