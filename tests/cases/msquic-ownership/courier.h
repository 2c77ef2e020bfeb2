/* SPDX-License-Identifier: MIT */
/* A small UDP transport with MsQuic's contract of ownership: courier_send() takes a buffer and a context over, and the
 * completion gives the context back, once for each send. */
#ifndef COURIER_H
#define COURIER_H

#include <stddef.h>
#include <stdint.h>

typedef struct courier courier;
typedef void (*courier_completed)(void *owner, void *context);

/* `forgets`: the defect. What an acknowledgement overtakes is taken off the list and never completed. */
courier *courier_open(uint16_t peer_port, int forgets, courier_completed completed, void *owner);
/* 0: taken over. Else errno, and the caller keeps the buffer. */
int courier_send(courier *self, const void *bytes, size_t length, void *context);
/* Waits for acknowledgements, at most so long, and completes what they say. */
void courier_poll(courier *self, int milliseconds);

/* Probe points: not inlined, and not static. */
void courier_complete(courier *self, void *context);

#endif
