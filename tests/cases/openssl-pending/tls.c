/* SPDX-License-Identifier: MIT */
/* tls PORT once|drains: asks an HTTPS server for a page five times a second, for ever, on one connection. It reads up to 1 KiB
 * each time poll says that the socket is readable; `drains` goes on while SSL_pending says that there is more.
 * Four pages of five fit into 1 KiB with their header. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define INTERVAL_NANOSECONDS 200000000
#define CHUNK_BYTES 1024
#define LARGE_EVERY 5

struct response {
  char data[1 << 16];
  size_t bytes;
};

static void check(bool good, const char *what)
{
  if (good)
    return;
  fprintf(stderr, "tls: %s\n", what);
  ERR_print_errors_fp(stderr);
  exit(1);
}

static SSL *connect_to(int port)
{
  const struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = htons((in_port_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  const int socket_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  check(socket_fd >= 0 && connect(socket_fd, (const struct sockaddr *)&address, sizeof address) == 0, "cannot connect");
  SSL_CTX *context = SSL_CTX_new(TLS_client_method());
  check(context != NULL, "no context");
  SSL *connection = SSL_new(context);
  check(connection != NULL && SSL_set_fd(connection, socket_fd) == 1, "no connection");
  check(SSL_connect(connection) == 1, "no handshake");
  check(fcntl(socket_fd, F_SETFL, O_NONBLOCK) == 0, "cannot make the socket non-blocking");
  return connection;
}

static __attribute__((noinline)) void read_chunk(SSL *connection, struct response *response)
{
  check(sizeof response->data - response->bytes > CHUNK_BYTES, "the response is too long");
  const int got = SSL_read(connection, response->data + response->bytes, CHUNK_BYTES);
  if (got > 0)
    response->bytes += (size_t)got;
  else
    check(SSL_get_error(connection, got) == SSL_ERROR_WANT_READ, "cannot read");
  response->data[response->bytes] = '\0';
}

static bool is_complete(const struct response *response)
{
  const char *end = strstr(response->data, "\r\n\r\n");
  const char *length = strstr(response->data, "Content-Length: ");
  return end != NULL && length != NULL &&
         response->bytes == (size_t)(end + 4 - response->data) + strtoul(length + 16, NULL, 10);
}

static void ask(SSL *connection, const char *page, bool drains)
{
  struct response response = {.bytes = 0};
  char request[128];
  const int length = snprintf(request, sizeof request, "GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n", page);
  check(SSL_write(connection, request, length) == length, "cannot write");
  while (!is_complete(&response)) {
    struct pollfd readable = {.fd = SSL_get_fd(connection), .events = POLLIN};
    check(poll(&readable, 1, -1) == 1, "cannot poll");
    read_chunk(connection, &response);
    while (drains && SSL_pending(connection) > 0)
      read_chunk(connection, &response);
  }
  check(strncmp(response.data, "HTTP/1.1 200 ", 13) == 0, response.data);
}

int main(int count, char **words)
{
  check(count == 3 && (strcmp(words[2], "once") == 0 || strcmp(words[2], "drains") == 0), "usage: tls PORT once|drains");
  setvbuf(stdout, NULL, _IOLBF, 0);
  SSL *connection = connect_to(atoi(words[1]));
  for (unsigned long number = 1;; number++) {
    ask(connection, number % LARGE_EVERY == 0 ? "small" : "tiny", strcmp(words[2], "drains") == 0);
    printf("%lu answered\n", number);
    if (number == 1)
      puts("ready");
    nanosleep(&(struct timespec){.tv_nsec = INTERVAL_NANOSECONDS}, NULL);
  }
}
