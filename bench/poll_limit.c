/* The physical limit for bench/poll.py: poll the same devices and feed the same call, in C.
 *
 *   poll_limit SECONDS REDIS_SOCKET FIRST_PORT DEVICES POINTS FIRST_CHANNEL EPOCH...
 *
 * One thread and epoll: one request in flight a device, at most FLIGHT calls of comsrv_ingest in flight
 * over one connection to Redis. As comsrv it decodes, compares, formats what changed with six decimals,
 * builds the msgpack document and the text to publish; a block without a change costs no call.
 * Prints: points polled, points sent, calls, seconds, all as Redis has answered them.
 */
#include <arpa/inet.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 62, ANSWER = 512, FLIGHT = 32, MAX_EVENTS = 128, OUT = 1 << 20 };

typedef struct {
    int fd, channel, epoch, block, waiting;
    unsigned seq;
    size_t filled;
    uint32_t *last;
    uint8_t *sent, in[ANSWER];
    long long *good_at_ms;
} device_t;

static int points, blocks, in_flight, redis_fd;
static unsigned long long polled, sent_points, calls;
static uint8_t out[OUT];
static size_t out_filled;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static long long wall_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* --- msgpack and text ------------------------------------------------------------------------ */

static uint8_t *pack_text(uint8_t *at, const char *text, size_t length) {
    if (length < 32) *at++ = (uint8_t)(0xA0 | length);
    else *at++ = 0xD9, *at++ = (uint8_t)length;
    memcpy(at, text, length);
    return at + length;
}

static uint8_t *pack_word(uint8_t *at, const char *text) {
    return pack_text(at, text, strlen(text));
}

static uint8_t *pack_number(uint8_t *at, unsigned long long value) {
    *at++ = 0xCF;
    for (int shift = 56; shift >= 0; shift -= 8) *at++ = (uint8_t)(value >> shift);
    return at;
}

static uint8_t *pack_array(uint8_t *at, unsigned length) {
    *at++ = 0xDC;
    *at++ = (uint8_t)(length >> 8);
    *at++ = (uint8_t)length;
    return at;
}

/* Write a value with six decimals; the same text as "%.6f", six times as fast. */
static size_t format_value(char *at, float value) {
    long long micros = llrint((double)value * 1e6);
    char digits[32], *start = at;
    if (micros < 0) *at++ = '-', micros = -micros;
    int count = 0;
    for (; micros || count < 7; micros /= 10) digits[count++] = (char)('0' + micros % 10);
    while (count) {
        *at++ = digits[--count];
        if (count == 6) *at++ = '.';
    }
    return (size_t)(at - start);
}

static size_t format_id(char *at, int id) {
    return (size_t)sprintf(at, "%d", id);
}

/* --- Redis ----------------------------------------------------------------------------------- */

static void flush_redis(void) {
    size_t done = 0;
    while (done < out_filled) {
        ssize_t wrote = send(redis_fd, out + done, out_filled - done, MSG_NOSIGNAL);
        if (wrote < 0) fail("send to Redis");
        done += (size_t)wrote;
    }
    out_filled = 0;
}

static void argument(const void *data, size_t length) {
    if (out_filled + length + 32 > OUT) flush_redis();
    out_filled += (size_t)sprintf((char *)out + out_filled, "$%zu\r\n", length);
    memcpy(out + out_filled, data, length);
    out_filled += length;
    memcpy(out + out_filled, "\r\n", 2);
    out_filled += 2;
}

/* Count the replies in what came; a reply is a bulk string. Returns how many are whole. */
static int replies(void) {
    static uint8_t in[1 << 16];
    static size_t filled;
    ssize_t got = recv(redis_fd, in + filled, sizeof in - filled, 0);
    if (got <= 0) fail("Redis");
    filled += (size_t)got;
    int count = 0;
    size_t at = 0;
    for (;;) {
        uint8_t *end = memchr(in + at, '\n', filled - at);
        if (!end) break;
        if (in[at] == '-') exit((fprintf(stderr, "%.*s\n", (int)(end - in - (long)at), in + at), 1));
        size_t whole = (size_t)(end - in) + 1;
        if (in[at] == '$') whole += (size_t)atoi((char *)in + at + 1) + 2;
        if (whole > filled) break;
        at = whole;
        count++;
    }
    memmove(in, in + at, filled - at);
    filled -= at;
    return count;
}

static void ingest(device_t *device, int first, int count, const int *changed, int changes) {
    static uint8_t document[16384];
    static char text[16384];
    char name[32], channel[16], values[BLOCK][32], ids[BLOCK][8];
    size_t value_lengths[BLOCK], id_lengths[BLOCK];
    long long at_ms = wall_ms(), *good = &device->good_at_ms[first / BLOCK];
    char *write = text + sprintf(text, "\"points\":{");
    for (int each = 0; each < changes; each++) {
        float value;
        memcpy(&value, &device->last[changed[each]], 4);
        id_lengths[each] = format_id(ids[each], changed[each] + 1);
        value_lengths[each] = format_value(values[each], value);
        *write++ = '"';
        write = (char *)memcpy(write, ids[each], id_lengths[each]) + id_lengths[each];
        *write++ = '"';
        *write++ = ':';
        write = (char *)memcpy(write, values[each], value_lengths[each]) + value_lengths[each];
        *write++ = ',';
    }
    write += sprintf(write - 1, "},\"quality\":{}") - 1;
    sprintf(name, "1-holding-%d-%d", 2 * first, 2 * count);
    uint8_t *at = document;
    *at++ = (uint8_t)(0x80 | (*good ? 10 : 9));
    at = pack_number(pack_word(at, "epoch"), (unsigned)device->epoch);
    at = pack_number(pack_word(at, "seq"), ++device->seq);
    at = pack_number(pack_word(at, "now_ms"), (unsigned long long)at_ms);
    at = pack_word(pack_word(at, "origin"), "poll");
    at = pack_number(pack_word(at, "channel"), (unsigned)device->channel);
    at = pack_word(pack_word(at, "block"), name);
    at = pack_number(pack_word(at, "at_ms"), (unsigned long long)at_ms);
    if (*good) at = pack_number(pack_word(at, "previous_at_ms"), (unsigned long long)*good);
    *good = at_ms;
    at = pack_word(at, "sections");
    *at++ = 0x91;
    *at++ = 0x83;
    at = pack_word(pack_word(at, "type"), "T");
    at = pack_array(pack_word(at, "ids"), (unsigned)changes);
    for (int each = 0; each < changes; each++) at = pack_text(at, ids[each], id_lengths[each]);
    at = pack_array(pack_word(at, "values"), (unsigned)changes);
    for (int each = 0; each < changes; each++) at = pack_text(at, values[each], value_lengths[each]);
    at = pack_word(at, "counters");
    *at++ = 0x82;
    at = pack_number(pack_word(at, "polled"), (unsigned)count);
    at = pack_number(pack_word(at, "unchanged"), (unsigned)(count - changes));
    sprintf(channel, "%d", device->channel);
    if (out_filled + 64 > OUT) flush_redis();
    out_filled += (size_t)sprintf((char *)out + out_filled, "*6\r\n$5\r\nFCALL\r\n$13\r\ncomsrv_ingest\r\n$1\r\n1\r\n");
    argument(channel, strlen(channel));
    argument(document, (size_t)(at - document));
    argument(text, (size_t)(write - text));
    in_flight++;
    calls++;
}

/* --- the devices ----------------------------------------------------------------------------- */

static void request(device_t *device) {
    int first = device->block * BLOCK, count = points - first < BLOCK ? points - first : BLOCK;
    uint8_t frame[12] = {0, 1, 0, 0, 0, 6, 1, 3, (uint8_t)(2 * first >> 8), (uint8_t)(2 * first), 0, (uint8_t)(2 * count)};
    if (send(device->fd, frame, sizeof frame, MSG_NOSIGNAL) != sizeof frame) fail("send to a device");
    device->waiting = 0;
}

static void answered(device_t *device) {
    ssize_t got = recv(device->fd, device->in + device->filled, ANSWER - device->filled, 0);
    if (got <= 0) fail("device");
    device->filled += (size_t)got;
    int first = device->block * BLOCK, count = points - first < BLOCK ? points - first : BLOCK;
    if (device->filled < (size_t)(9 + 4 * count)) return;
    device->filled = 0;
    int changed[BLOCK], changes = 0;
    for (int each = 0; each < count; each++) {
        uint32_t bits;
        memcpy(&bits, device->in + 9 + 4 * each, 4);
        bits = ntohl(bits);
        int point = first + each;
        if (!device->sent[point] || bits != device->last[point]) changed[changes++] = point;
        device->last[point] = bits;
        device->sent[point] = 1;
    }
    polled += (unsigned)count;
    sent_points += (unsigned)changes;
    if (changes) ingest(device, first, count, changed, changes);
    device->block = (device->block + 1) % blocks;
    device->waiting = 1;
}

static int connect_device(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) fail("connect to a device");
    return fd;
}

static void connect_redis(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    redis_fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(redis_fd, (struct sockaddr *)&address, sizeof address) < 0) fail("connect to Redis");
}

int main(int argc, char **argv) {
    if (argc < 8) return fprintf(stderr, "usage: see the head of poll_limit.c\n"), 2;
    double seconds = atof(argv[1]);
    int first_port = atoi(argv[3]), count = atoi(argv[4]), first_channel = atoi(argv[6]);
    points = atoi(argv[5]);
    blocks = (points + BLOCK - 1) / BLOCK;
    connect_redis(argv[2]);
    int poll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poll, EPOLL_CTL_ADD, redis_fd, &event);
    device_t *devices = calloc((size_t)count, sizeof *devices);
    for (int each = 0; each < count; each++) {
        device_t *device = &devices[each];
        device->fd = connect_device(first_port + each);
        device->channel = first_channel + each;
        device->epoch = atoi(argv[7 + each]);
        device->last = calloc((size_t)points, 4);
        device->sent = calloc((size_t)points, 1);
        device->good_at_ms = calloc((size_t)blocks, sizeof(long long));
        event.data.ptr = device;
        epoll_ctl(poll, EPOLL_CTL_ADD, device->fd, &event);
        request(device);
    }
    double began = now_s(), end = began + seconds;
    int asking = 1, outstanding = count;
    unsigned turn = 0;
    while (outstanding || in_flight) {
        struct epoll_event events[MAX_EVENTS];
        int ready = epoll_wait(poll, events, MAX_EVENTS, 1000);
        for (int each = 0; each < ready; each++) {
            device_t *device = events[each].data.ptr;
            if (!device) in_flight -= replies();
            else {
                answered(device);
                outstanding -= device->waiting;
            }
        }
        flush_redis();
        asking = asking && now_s() < end;
        for (int each = 0; asking && each < count && in_flight < FLIGHT; each++, turn++)
            if (devices[turn % (unsigned)count].waiting) request(&devices[turn % (unsigned)count]), outstanding++;
    }
    printf("%llu %llu %llu %.6f\n", polled, sent_points, calls, now_s() - began);
    return 0;
}
