/* Calls a function of a plug-in as often as it is told, with 64 bytes of input: `calls LIBRARY SYMBOL COUNT`. */
#include <dlfcn.h>
#include <ferrule.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    static uint8_t in[64], room[256];
    static ferrule_host host; /* of version 1.0 */
    int32_t (*fn)(ferrule_call *);
    void *library, *symbol;
    long i;
    if (argc != 4) return 2;
    library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    symbol = library ? dlsym(library, argv[2]) : NULL;
    if (!symbol) return fprintf(stderr, "calls: %s\n", dlerror()), 1;
    memcpy(&fn, &symbol, sizeof fn);
    memset(in, 'a', sizeof in);
    host.size = offsetof(ferrule_host, log_fields);
    for (i = atol(argv[3]); i > 0; i--) {
        ferrule_call call;
        memset(&call, 0, sizeof call);
        call.size = sizeof call;
        call.in = in;
        call.in_len = sizeof in;
        call.out = room;
        call.out_cap = sizeof room;
        call.host = &host;
        if (fn(&call) < 0) return 1;
        if (call.release) call.release(&call);
    }
    return 0;
}
