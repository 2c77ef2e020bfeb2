/* SPDX-License-Identifier: MIT */
/* hit-limit: begins and ends an operation 50000 times a second, for ever, and prints how often it did once a second. After
 * GRACE_SECONDS it ends with 1 if it falls behind. */
#include <stdio.h>
#include <time.h>

#define PER_SECOND 50000L
#define GRACE_SECONDS 10 /* until laggard has found it, and has let it go */

static double now(void)
{
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

__attribute__((noinline, noclone)) void operation_begins(long number)
{
  __asm__ volatile("" : : "r"(number));
}

__attribute__((noinline, noclone)) void operation_ends(long number)
{
  __asm__ volatile("" : : "r"(number));
}

int main(void)
{
  setvbuf(stdout, NULL, _IOLBF, 0);
  puts("ready");
  long number = 0;
  for (int second = 1;; second++) {
    const double began = now();
    long done = 0;
    for (double age = 0; age < 1; age = now() - began) {
      for (; done < PER_SECOND * age; done++) {
        operation_begins(number);
        operation_ends(number++);
      }
      nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    printf("%ld per second\n", done);
    if (second > GRACE_SECONDS && done < PER_SECOND / 2)
      return 1;
  }
}
