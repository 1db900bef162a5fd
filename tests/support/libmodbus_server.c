/* A Modbus server of libmodbus, for tests: `server tcp PORT`, or `server rtu DEVICE BAUD UNIT`.
 * Holding register n of 0..999 holds 1000 + n, input register n 2000 + n, coil and input n are n % 2.
 * It says "ready" once it serves, and serves until its standard input ends. */
#include <errno.h>
#include <modbus/modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

static int serve(modbus_t *context, modbus_mapping_t *mapping, int once)
{
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    for (;;) {
        fd_set ready;
        int link = modbus_get_socket(context);
        FD_ZERO(&ready);
        FD_SET(0, &ready);
        FD_SET(link, &ready);
        if (select(link + 1, &ready, NULL, NULL, NULL) < 0)
            return -1;
        if (FD_ISSET(0, &ready))
            exit(0);
        int length = modbus_receive(context, query);
        if (length > 0)
            modbus_reply(context, query, length, mapping);
        else if (length < 0 && once)
            return 0;
    }
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    modbus_mapping_t *mapping = modbus_mapping_new(1000, 1000, 1000, 1000);
    for (int n = 0; n < 1000; n++) {
        mapping->tab_registers[n] = 1000 + n;
        mapping->tab_input_registers[n] = 2000 + n;
        mapping->tab_bits[n] = mapping->tab_input_bits[n] = n % 2;
    }
    if (!strcmp(argv[1], "tcp")) {
        modbus_t *context = modbus_new_tcp("127.0.0.1", atoi(argv[2]));
        int listener = modbus_tcp_listen(context, 1);
        if (listener < 0)
            return 1;
        puts("ready");
        fflush(stdout);
        for (;;) {
            fd_set ready;
            FD_ZERO(&ready);
            FD_SET(0, &ready);
            FD_SET(listener, &ready);
            select(listener + 1, &ready, NULL, NULL, NULL);
            if (FD_ISSET(0, &ready))
                return 0;
            modbus_tcp_accept(context, &listener);
            serve(context, mapping, 1);
            modbus_close(context);
        }
    }
    if (argc < 5)
        return 2;
    modbus_t *context = modbus_new_rtu(argv[2], atoi(argv[3]), 'N', 8, 1);
    modbus_set_slave(context, atoi(argv[4]));
    if (modbus_connect(context) < 0) {
        fprintf(stderr, "%s: %s\n", argv[2], modbus_strerror(errno));
        return 1;
    }
    puts("ready");
    fflush(stdout);
    return serve(context, mapping, 0);
}
