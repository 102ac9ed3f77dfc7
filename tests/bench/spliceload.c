/* spliceload: both ends of connections through a TCP relay.
 *
 *   cc -O2 -o spliceload spliceload.c
 *   ./spliceload serve PORT                          the server: a connection's first byte says what it does
 *   ./spliceload bulk PORT CONNECTIONS SECONDS       as much as comes from the server, thrown away
 *   ./spliceload echo PORT CONNECTIONS SECONDS SIZE  messages of SIZE bytes, each sent when the one before came back
 *   ./spliceload hold PORT CONNECTIONS               one message each; then "open" on a line; each of them again when
 *                                                    standard input ends
 * The loads print one JSON line: bytes or trips within SECONDS, failed connections, the trips' p50 and p99 in µs.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 256 * 1024, MOST_FILES = 65536, MOST_TRIPS = 1 << 22 };

static char block[BLOCK];
static char does[MOST_FILES]; /* by descriptor: 'B'ulk, 'E'cho, 0 not told yet */
static double trips_us[MOST_TRIPS];

static struct { int fd, got; double sent_us; } at_work[MOST_FILES];
static int ep, n_connections, failed;
static long long bytes, trips;

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static int up(const void *a, const void *b) { double x = *(double *)a, y = *(double *)b; return (x > y) - (x < y); }

static void die(const char *what) { perror(what); exit(1); }

static void prepare(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(fd, F_SETFL, O_NONBLOCK);
}

static void serve(struct sockaddr_in at) {
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    ep = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 65535)) die("listen");
    fcntl(listener, F_SETFL, O_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = listener}, evs[256];
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev);
    for (;;) {
        int n = epoll_wait(ep, evs, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = evs[i].data.fd;
            if (fd == listener) {
                while ((fd = accept(listener, 0, 0)) >= 0) {
                    prepare(fd);
                    does[fd] = 0;
                    ev = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
                    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
                }
                continue;
            }
            ssize_t got = 1;
            if (!does[fd] && (got = recv(fd, &does[fd], 1, 0)) == 1 && does[fd] == 'B') {
                ev = (struct epoll_event){.events = EPOLLOUT, .data.fd = fd};
                epoll_ctl(ep, EPOLL_CTL_MOD, fd, &ev);
            } else if (does[fd] == 'B') {
                got = send(fd, block, BLOCK, MSG_NOSIGNAL);
            } else if (got == 1 && (got = recv(fd, block, BLOCK, 0)) > 0) {
                got = send(fd, block, got, MSG_NOSIGNAL);
            }
            if (got == 0 || (got < 0 && errno != EAGAIN)) close(fd);
        }
    }
}

static void say(int i, int size) {
    at_work[i].sent_us = now_us();
    if (send(at_work[i].fd, block, size, MSG_NOSIGNAL) != size) failed++;
}

static void start(struct sockaddr_in to, char what, int count) {
    ep = epoll_create1(0);
    for (n_connections = 0; n_connections < count; n_connections++) {
        int fd = at_work[n_connections].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0 || connect(fd, (void *)&to, sizeof to)) die("connect");
        if (send(fd, &what, 1, MSG_NOSIGNAL) != 1) die("send");
        struct epoll_event ev = {.events = EPOLLIN, .data.u32 = n_connections};
        epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
        prepare(fd);
    }
}

/* Take what comes for so long, or until so many messages have come back; size 0: throw it away. */
static void go_on(double seconds, long long until_trips, int size, int answer) {
    struct epoll_event evs[256];
    double until = now_us() + seconds * 1e6;
    while (now_us() < until && trips < until_trips) {
        int n = epoll_wait(ep, evs, 256, 10);
        for (int e = 0; e < n; e++) {
            int i = evs[e].data.u32;
            ssize_t here = recv(at_work[i].fd, size ? block : 0, size ? BLOCK : 4 * BLOCK, size ? 0 : MSG_TRUNC);
            if (here < 0 && errno == EAGAIN) continue;
            if (here <= 0) {
                epoll_ctl(ep, EPOLL_CTL_DEL, at_work[i].fd, 0);
                failed++;
                continue;
            }
            bytes += here;
            if (!size || (at_work[i].got += here) < size) continue;
            at_work[i].got = 0;
            trips_us[trips++ % MOST_TRIPS] = now_us() - at_work[i].sent_us;
            if (answer) say(i, size);
        }
    }
}

static int load(struct sockaddr_in to, const char *what, int count, double seconds, int size) {
    int holds = !strcmp(what, "hold");
    start(to, size ? 'E' : 'B', count);
    double began = now_us();
    for (int i = 0; size && i < count; i++) say(i, size);
    if (holds) {
        go_on(60, count, size, 0);
        puts("open");
        fflush(stdout);
        while (getchar() != EOF);
        for (int i = 0; i < count; i++) say(i, size);
        go_on(60, 2LL * count, size, 0);
        failed += 2LL * count - trips;
    } else go_on(seconds, 1LL << 60, size, 1);
    double lasted = (now_us() - began) / 1e6;
    long long kept = trips < MOST_TRIPS ? trips : MOST_TRIPS;
    qsort(trips_us, kept, sizeof *trips_us, up);
    printf("{\"bytes\": %lld, \"trips\": %lld, \"seconds\": %.3f, \"failed\": %d, \"p50_us\": %.1f, \"p99_us\": %.1f}\n", bytes, trips,
           lasted, failed, kept ? trips_us[kept / 2] : 0, kept ? trips_us[kept * 99 / 100] : 0);
    return 0;
}

int main(int argc, char **argv) {
    struct rlimit files = {MOST_FILES, MOST_FILES};
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    if (argc < 3) return fprintf(stderr, "usage: spliceload serve|bulk|echo|hold PORT ...\n"), 2;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (!strcmp(argv[1], "serve")) serve(at);
    if (!strcmp(argv[1], "bulk") && argc == 5) return load(at, argv[1], atoi(argv[3]), atof(argv[4]), 0);
    if (!strcmp(argv[1], "echo") && argc == 6) return load(at, argv[1], atoi(argv[3]), atof(argv[4]), atoi(argv[5]));
    if (!strcmp(argv[1], "hold") && argc == 4) return load(at, argv[1], atoi(argv[3]), 0, 64);
    return fprintf(stderr, "usage: spliceload serve|bulk|echo|hold PORT ...\n"), 2;
}
