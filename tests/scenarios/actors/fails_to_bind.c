// SPDX-License-Identifier: MIT
// fails_to_bind PORT SIZE PER_SECOND: tries to bind a port that another process has, over and over. Each attempt leaves SIZE
// bytes of private and SIZE bytes of shared memory behind.
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int leave(size_t size, int sharing)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);

	return memory != MAP_FAILED && memset(memory, 1, size) == memory;
}

int main(int count, char **words)
{
	if (count != 4)
		return 2;

	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
	struct timespec pause = {.tv_nsec = 1000000000 / atoi(words[3])};
	size_t size = atoi(words[2]);

	puts("ready");
	fflush(stdout);
	for (;; nanosleep(&pause, NULL)) {
		int end = socket(AF_INET, SOCK_STREAM, 0);

		if (bind(end, (struct sockaddr *)&address, sizeof(address)) == 0 || errno != EADDRINUSE)
			return 1;
		close(end);
		if (!leave(size, MAP_PRIVATE) || !leave(size, MAP_SHARED))
			return 1;
	}
}
