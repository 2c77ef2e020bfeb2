/* SPDX-License-Identifier: MIT */
/* peer PORT [PAUSE_AFTER PAUSE_SECONDS]: acknowledges datagrams, but loses the acknowledgement of each 239th. It may pause.
 * client PORT forgets|completes COUNT PER_SECOND: sends so many, then only waits. Prints "sent N completed N". */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "courier.h"

#define LOSES_EACH 239

static double now(void)
{
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Reads always. Owes acknowledgements while it pauses, and catches up by eight for each datagram. */
static int peer(uint16_t port, long pause_after, double pause_seconds)
{
  static uint64_t owed[4096];
  unsigned owes = 0, paid = 0;
  double resumes = 0;
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}}, client;
  char datagram[1500];
  if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof here) != 0)
    return 1;
  puts("ready");
  for (long received = 1;; received++) {
    socklen_t length = sizeof client;
    uint64_t sequence;
    if (recvfrom(fd, datagram, sizeof datagram, 0, (struct sockaddr *)&client, &length) < (ssize_t)sizeof sequence)
      continue;
    memcpy(&sequence, datagram, sizeof sequence);
    if (sequence % LOSES_EACH != 0)
      owed[owes++ % 4096] = sequence;
    if (received == pause_after)
      resumes = now() + pause_seconds;
    for (int i = 0; i < 8 && paid != owes && now() >= resumes; i++)
      sendto(fd, &owed[paid++ % 4096], sizeof sequence, 0, (struct sockaddr *)&client, length);
  }
}

static long sent, completed;

static void on_completed(void *owner, void *context)
{
  (void)owner;
  completed++;
  free(context);
}

/* The program's own function, by which a person recognises who sends. */
__attribute__((noinline)) static int publish_quote(courier *to)
{
  char *context = malloc(512);
  if (!context)
    return 1;
  snprintf(context, 512, "quote %ld", sent);
  const int refused = courier_send(to, context, 512, context);
  if (refused)
    free(context);
  else
    sent++;
  return refused;
}

static int client(uint16_t port, int forgets, long count, double per_second)
{
  courier *to = courier_open(port, forgets, on_completed, NULL);
  if (!to)
    return 1;
  const double began = now();
  for (double told = began;;) {
    while (sent < count && (double)sent < (now() - began) * per_second && publish_quote(to) == 0) {
    }
    courier_poll(to, 5);
    if (now() - told >= 1) {
      told = now();
      printf("sent %ld completed %ld\n", sent, completed);
    }
  }
}

int main(int argc, char **argv)
{
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (argc == 3 && strcmp(argv[1], "peer") == 0)
    return peer((uint16_t)atoi(argv[2]), 0, 0);
  if (argc == 5 && strcmp(argv[1], "peer") == 0)
    return peer((uint16_t)atoi(argv[2]), atol(argv[3]), atof(argv[4]));
  if (argc == 6 && strcmp(argv[1], "client") == 0)
    return client((uint16_t)atoi(argv[2]), strcmp(argv[3], "forgets") == 0, atol(argv[4]), atof(argv[5]));
  return 2;
}
