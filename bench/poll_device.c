/* Modbus TCP devices for bench/poll.py: one port a device, POINTS float32 in holding registers (ABCD).
 *
 *   poll_device FIRST_PORT DEVICES POINTS PERCENT
 *
 * At each read of a point its value moves by 1/16 in PERCENT of the reads, spread evenly over the
 * points. A line on standard input is answered with the totals since the start:
 * requests, points and bytes sent, connections taken. The end of standard input ends it.
 * One thread and epoll: a block costs about 2 us and the kernel's calls.
 */
#define _GNU_SOURCE /* accept4 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD = 7, REQUEST = 12, MAX_REGISTERS = 125, IN = 4096, MAX_EVENTS = 256 };

typedef struct {
    float *values;
    uint32_t *reads;
} device_t;

/* A listener has a device and no buffer in use; standard input has no device. */
typedef struct {
    int fd, is_listener;
    device_t *device;
    size_t filled;
    uint8_t in[IN];
} peer_t;

static int points, percent;
static unsigned long long requests, points_sent, bytes_sent, connections;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int poll, peer_t *peer) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, peer->fd, &event) < 0) fail("epoll_ctl");
}

static peer_t *peer_of(int fd, device_t *device, int is_listener) {
    peer_t *peer = calloc(1, sizeof *peer);
    if (!peer) fail("calloc");
    peer->fd = fd;
    peer->device = device;
    peer->is_listener = is_listener;
    return peer;
}

static void put16(uint8_t *at, unsigned value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* Return the point's value as it is read now. Each point moves in `percent` of its reads. */
static uint32_t next_bits(device_t *device, int point) {
    uint32_t read = device->reads[point]++, bits;
    if ((read * 37u + (uint32_t)point) % 100u < (uint32_t)percent) {
        device->values[point] += 0.0625f;
        if (device->values[point] > 4000.0f) device->values[point] -= 3500.0f;
    }
    memcpy(&bits, &device->values[point], 4);
    return bits;
}

/* Answer one request; return the length of the answer. */
static size_t answer(device_t *device, const uint8_t *request, uint8_t *out) {
    unsigned address = (unsigned)(request[8] << 8 | request[9]), count = (unsigned)(request[10] << 8 | request[11]);
    memcpy(out, request, HEAD + 1);
    requests++;
    if (request[7] != 3 || count < 1 || count > MAX_REGISTERS || address + count > 2u * (unsigned)points) {
        out[7] |= 0x80;
        out[8] = request[7] == 3 ? 2 : 1;
        put16(out + 4, 3);
        return HEAD + 2;
    }
    put16(out + 4, 3 + 2 * count);
    out[8] = (uint8_t)(2 * count);
    uint8_t *at = out + 9;
    uint32_t bits = 0;
    for (unsigned each = address; each < address + count; each++, at += 2) {
        if (each % 2 == 0 || each == address) bits = next_bits(device, (int)(each / 2));
        put16(at, each % 2 == 0 ? bits >> 16 : bits & 0xFFFF);
    }
    points_sent += count / 2;
    return 9 + 2 * count;
}

/* Answer what came; return 0 when the connection is to be closed. */
static int serve(peer_t *peer) {
    ssize_t got = recv(peer->fd, peer->in + peer->filled, IN - peer->filled, 0);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) return 0;
    peer->filled += (size_t)got;
    uint8_t out[(IN / REQUEST + 1) * 264];
    size_t taken = 0, made = 0;
    while (peer->filled - taken >= REQUEST) {
        if (peer->in[taken + 4] || peer->in[taken + 5] != 6) return 0;
        made += answer(peer->device, peer->in + taken, out + made);
        taken += REQUEST;
    }
    memmove(peer->in, peer->in + taken, peer->filled - taken);
    peer->filled -= taken;
    if (made && send(peer->fd, out, made, MSG_NOSIGNAL) != (ssize_t)made) return 0;
    bytes_sent += made;
    return 1;
}

static void take(int poll, peer_t *listener) {
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK), on = 1;
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connections++;
    watch(poll, peer_of(fd, listener->device, 0));
}

static device_t *make_device(int number) {
    device_t *device = calloc(1, sizeof *device);
    if (!device || !(device->values = calloc((size_t)points, 4)) || !(device->reads = calloc((size_t)points, 4)))
        fail("calloc");
    for (int each = 0; each < points; each++) device->values[each] = (float)((number * 7 + each) % 400);
    return device;
}

static void report(void) {
    char line[256];
    if (!fgets(line, sizeof line, stdin)) exit(0);
    printf("%llu %llu %llu %llu\n", requests, points_sent, bytes_sent, connections);
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 5) return fprintf(stderr, "usage: poll_device FIRST_PORT DEVICES POINTS PERCENT\n"), 2;
    int first = atoi(argv[1]), devices = atoi(argv[2]);
    points = atoi(argv[3]);
    percent = atoi(argv[4]);
    int poll = epoll_create1(0), on = 1;
    for (int number = 0; number < devices; number++) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(first + number))};
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 16) < 0) fail("listen");
        watch(poll, peer_of(fd, make_device(number), 1));
    }
    watch(poll, peer_of(STDIN_FILENO, NULL, 0));
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[MAX_EVENTS];
        int count = epoll_wait(poll, events, MAX_EVENTS, -1);
        for (int each = 0; each < count; each++) {
            peer_t *peer = events[each].data.ptr;
            if (!peer->device) report();
            else if (peer->is_listener) take(poll, peer);
            else if (!serve(peer)) {
                close(peer->fd);
                free(peer);
            }
        }
    }
}
