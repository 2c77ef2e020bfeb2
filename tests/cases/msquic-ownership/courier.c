/* SPDX-License-Identifier: MIT */
#include "courier.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sdt.h>
#include <unistd.h>

#define WINDOW 4096 /* sends that are not acknowledged; more wait for none: ENOBUFS */

struct courier {
  int fd;
  int forgets;
  courier_completed completed;
  void *owner;
  uint64_t next, oldest; /* sequence numbers: sent, and not yet acknowledged */
  struct send {
    void *context;
    int done;
  } sends[WINDOW];
};

courier *courier_open(uint16_t peer_port, int forgets, courier_completed completed, void *owner)
{
  courier *self = calloc(1, sizeof *self);
  struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(peer_port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  if (!self)
    return NULL;
  self->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  self->forgets = forgets;
  self->completed = completed;
  self->owner = owner;
  self->next = self->oldest = 1;
  if (self->fd < 0 || connect(self->fd, (struct sockaddr *)&peer, sizeof peer) != 0) {
    free(self);
    return NULL;
  }
  return self;
}

__attribute__((noinline)) void courier_complete(courier *self, void *context)
{
  DTRACE_PROBE1(courier, complete, context);
  self->completed(self->owner, context);
}

__attribute__((noinline)) int courier_send(courier *self, const void *bytes, size_t length, void *context)
{
  char datagram[1400];
  DTRACE_PROBE1(courier, send, context);
  if (self->next - self->oldest >= WINDOW)
    return ENOBUFS;
  if (length > sizeof datagram - sizeof self->next)
    return EMSGSIZE;
  memcpy(datagram, &self->next, sizeof self->next);
  memcpy(datagram + sizeof self->next, bytes, length);
  struct send *slot = &self->sends[self->next++ % WINDOW];
  slot->context = context;
  slot->done = 0;
  /* A datagram that the network has no room for is lost, as any other may be. */
  (void)send(self->fd, datagram, sizeof self->next + length, 0);
  return 0;
}

/* An acknowledgement overtakes those of earlier sends that were lost on the way: these are completed as canceled. */
static void acknowledged(courier *self, uint64_t sequence)
{
  if (sequence < self->oldest || sequence >= self->next)
    return;
  for (; self->oldest <= sequence; self->oldest++) {
    struct send *slot = &self->sends[self->oldest % WINDOW];
    if (self->oldest == sequence || !self->forgets)
      courier_complete(self, slot->context);
  }
}

void courier_poll(courier *self, int milliseconds)
{
  struct pollfd ready = {.fd = self->fd, .events = POLLIN};
  uint64_t sequence;
  if (poll(&ready, 1, milliseconds) <= 0)
    return;
  while (recv(self->fd, &sequence, sizeof sequence, MSG_DONTWAIT) == (ssize_t)sizeof sequence)
    acknowledged(self, sequence);
}
