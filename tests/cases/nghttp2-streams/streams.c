/* SPDX-License-Identifier: MIT */
/* streams: opens 5 HTTP/2 streams a second on one connection, every third of them as HABIT says, for ever:
 *
 *   streams URL feed-forgets        GET URL/feed, pauses at its first bytes, and never takes it up again
 *   streams URL feed-cancels        the same, and removes it at once
 *   streams URL upload-forgets      POST URL/small, of which the second half never comes
 *   streams URL upload-completes    the same, and the second half comes one second later
 *
 * The others are GET URL/small, read to the end. */
#include <curl/curl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define INTERVAL 0.2 /* seconds */
#define EVERY 3
#define UPLOAD_SECONDS 1.0
#define UPLOAD_BYTES 2000

struct transfer {
  CURL *easy;
  struct transfer *next; /* of the uploads that will complete */
  double began;
  size_t sent;
  bool upload;
  bool pauses;
  bool paused;
  bool completes;
};

static CURLM *multi;
static struct transfer *uploads;

static double now(void)
{
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void check(bool good, const char *what)
{
  if (good)
    return;
  fprintf(stderr, "streams: %s\n", what);
  exit(1);
}

static size_t take(char *data, size_t size, size_t count, void *pointer)
{
  struct transfer *transfer = pointer;
  (void)data;
  if (!transfer->pauses)
    return size * count;
  transfer->paused = true;
  return CURL_WRITEFUNC_PAUSE;
}

/* The first half is there at once. */
static size_t give(char *data, size_t size, size_t count, void *pointer)
{
  struct transfer *transfer = pointer;
  const bool second = transfer->completes && now() - transfer->began >= UPLOAD_SECONDS;
  const size_t there = (second ? UPLOAD_BYTES : UPLOAD_BYTES / 2) - transfer->sent;
  const size_t bytes = there < size * count ? there : size * count;
  if (bytes == 0 && transfer->sent < UPLOAD_BYTES)
    return CURL_READFUNC_PAUSE;
  memset(data, 'x', bytes);
  transfer->sent += bytes;
  return bytes;
}

static struct transfer *begin(const char *url, const char *page)
{
  struct transfer *transfer = calloc(1, sizeof *transfer);
  char address[256];
  check(transfer != NULL, "no memory");
  snprintf(address, sizeof address, "%s/%s", url, page);
  transfer->easy = curl_easy_init();
  check(transfer->easy != NULL, "no easy handle");
  transfer->began = now();
  curl_easy_setopt(transfer->easy, CURLOPT_URL, address);
  curl_easy_setopt(transfer->easy, CURLOPT_PROXY, "");
  curl_easy_setopt(transfer->easy, CURLOPT_SSL_VERIFYPEER, 0L);
  curl_easy_setopt(transfer->easy, CURLOPT_PIPEWAIT, 1L);
  curl_easy_setopt(transfer->easy, CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt(transfer->easy, CURLOPT_PRIVATE, transfer);
  curl_easy_setopt(transfer->easy, CURLOPT_WRITEFUNCTION, take);
  curl_easy_setopt(transfer->easy, CURLOPT_WRITEDATA, transfer);
  return transfer;
}

static void submit(struct transfer *transfer)
{
  check(curl_multi_add_handle(multi, transfer->easy) == CURLM_OK, "curl_multi_add_handle failed");
}

static void end(struct transfer *transfer)
{
  curl_multi_remove_handle(multi, transfer->easy);
  curl_easy_cleanup(transfer->easy);
  free(transfer);
}

static struct transfer *begin_feed(const char *url)
{
  struct transfer *transfer = begin(url, "feed");
  transfer->pauses = true;
  submit(transfer);
  return transfer;
}

static void begin_upload(const char *url, bool completes)
{
  struct transfer *transfer = begin(url, "small");
  transfer->upload = true;
  transfer->completes = completes;
  curl_easy_setopt(transfer->easy, CURLOPT_POST, 1L);
  curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDSIZE, (long)UPLOAD_BYTES);
  curl_easy_setopt(transfer->easy, CURLOPT_READFUNCTION, give);
  curl_easy_setopt(transfer->easy, CURLOPT_READDATA, transfer);
  submit(transfer);
  if (completes) {
    transfer->next = uploads;
    uploads = transfer;
  }
}

static void go_on_with_uploads(void)
{
  for (struct transfer **at = &uploads; *at != NULL;) {
    struct transfer *transfer = *at;
    if (now() - transfer->began < UPLOAD_SECONDS) {
      at = &transfer->next;
      continue;
    }
    *at = transfer->next;
    curl_easy_pause(transfer->easy, CURLPAUSE_CONT);
  }
}

/* What is complete has been read to its end. */
static unsigned long end_complete(void)
{
  unsigned long complete = 0;
  int left;
  for (CURLMsg *message; (message = curl_multi_info_read(multi, &left)) != NULL;) {
    struct transfer *transfer;
    if (message->msg != CURLMSG_DONE)
      continue;
    check(message->data.result == CURLE_OK, curl_easy_strerror(message->data.result));
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
    end(transfer);
    complete++;
  }
  return complete;
}

int main(int count, char **words)
{
  const char *habits[] = {"feed-forgets", "feed-cancels", "upload-forgets", "upload-completes"};
  int habit = 0;
  while (count == 3 && habit < 4 && strcmp(words[2], habits[habit]) != 0)
    habit++;
  check(count == 3 && habit < 4, "usage: streams URL feed-forgets|feed-cancels|upload-forgets|upload-completes");
  setvbuf(stdout, NULL, _IOLBF, 0);
  check(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK, "curl_global_init failed");
  multi = curl_multi_init();
  check(multi != NULL, "no multi handle");
  curl_multi_setopt(multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
  curl_multi_setopt(multi, CURLMOPT_MAX_HOST_CONNECTIONS, 1L);

  struct transfer *feed = NULL;
  unsigned long begun = 0, complete = 0, cancelled = 0;
  double next = now();
  for (;;) {
    if (now() >= next) {
      next += INTERVAL;
      if (++begun % EVERY != 0)
        submit(begin(words[1], "small"));
      else if (habit < 2)
        feed = begin_feed(words[1]);
      else
        begin_upload(words[1], habit == 3);
      if (begun % 25 == 0)
        printf("%lu begun, %lu complete, %lu cancelled\n", begun, complete, cancelled);
    }
    int running;
    check(curl_multi_perform(multi, &running) == CURLM_OK, "curl_multi_perform failed");
    go_on_with_uploads();
    if (habit == 1 && feed != NULL && feed->paused) {
      end(feed);
      feed = NULL;
      cancelled++;
    }
    const bool first = complete == 0;
    complete += end_complete();
    if (first && complete > 0)
      puts("ready");
    curl_multi_poll(multi, NULL, 0, 20, NULL);
  }
}
