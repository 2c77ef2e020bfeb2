// SPDX-License-Identifier: MIT
// edge_reader PORT: edge-triggered epoll with one read per event, of 8 bytes less than a request of 1008.
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **words)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(count > 1 ? atoi(words[1]) : 0)};
	int listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);

	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 16))
		return 1;
	puts("ready");
	fflush(stdout);

	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = accept(listener, NULL, NULL)};
	char block[1000];
	epoll_ctl(poll, EPOLL_CTL_ADD, event.data.fd, &event);
	while (epoll_wait(poll, &event, 1, -1) == 1)
		if (read(event.data.fd, block, sizeof(block)) < 0)
			return 1;
	return 0;
}
