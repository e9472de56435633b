/* A counting subscriber that costs next to nothing: cc -O2 -o sink sink.c; ./sink PORT [STATUS]. It prints its port.
 * POST: answered at once, not looked at; any other method: answered with how many POSTs came. One process, epoll. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SIZE = 1 << 17, MOST = 8192 };
static struct { char *data; int used; } connections[MOST];
static long taken;

/* Length of the first whole request in data, 0 where there is none yet. */
static int whole(char *data, int used) {
  char *end = memmem(data, used, "\r\n\r\n", 4);
  if (!end) return 0;
  long length = 0;
  for (char *line = data; line < end; line = memmem(line, end + 2 - line, "\r\n", 2) + 2)
    if (!strncasecmp(line, "content-length:", 15)) length = atol(line + 15);
  long size = end + 4 - data + length;
  return size <= used ? (int)size : 0;
}

static void serve(int fd, const char *answer, int answer_size) {
  char *data = connections[fd].data;
  int got = read(fd, data + connections[fd].used, SIZE - connections[fd].used), size;
  if (got <= 0) { close(fd); connections[fd].used = 0; return; }
  connections[fd].used += got;
  while ((size = whole(data, connections[fd].used))) {
    if (data[0] == 'P') {
      taken++;
      if (write(fd, answer, answer_size) < 0) return;
    } else {
      char text[160], body[32];
      int n = snprintf(body, sizeof body, "%ld", taken);
      n = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", n, body);
      if (write(fd, text, n) < 0) return;
    }
    memmove(data, data + size, connections[fd].used -= size);
  }
}

int main(int argc, char **argv) {
  char answer[96];
  int status = argc > 2 ? atoi(argv[2]) : 204, one = 1;
  int answer_size = snprintf(answer, sizeof answer, status == 204 ? "HTTP/1.1 204 No Content\r\n\r\n" : "HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n", status);
  int listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 0), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) { perror("sink"); return 1; }
  getsockname(listener, (struct sockaddr *)&address, &length);
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
  epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    int count = epoll_wait(poll, events, 256, -1);
    for (int i = 0; i < count; i++) {
      if (events[i].data.fd != listener) { serve(events[i].data.fd, answer, answer_size); continue; }
      int fd = accept(listener, 0, 0);
      if (fd < 0 || fd >= MOST) { if (fd >= 0) close(fd); continue; }
      if (!connections[fd].data) connections[fd].data = malloc(SIZE);
      connections[fd].used = 0;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
      event.data.fd = fd;
      epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
    }
  }
}
