/* A bare pair of processes over one mapping: what calls between two processes cost when nothing is done for them but what
 * must be.
 *
 *   pair CALLERS BYTES SPIN PINNED
 *
 * Each caller has a slot, a thread here and one in the other process. A call copies BYTES into the slot, hands over its
 * turn, and waits; the other side copies them to the output, as an echo does, and hands the turn back; the caller copies
 * them out. A side waits by spinning, for up to SPIN ns, of which it gives its processor away after the first 3 µs, and
 * then on a futex. PINNED is 1 where each process has a processor of its own.
 *
 * A line "MS PAUSE" on the standard input has all callers make calls for MS ms, PAUSE µs apart. The answer is a line: how
 * many calls there were, in how many ns, the median and the 99th percentile of their times in ns. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { HOST = 0x54534f48, OTHER = 0x4b524f57, MOST = 256, SAMPLES = 1 << 14, EVERY = 8 };

struct slot {
    _Alignas(64) _Atomic uint32_t turn;
    _Atomic uint32_t host_sleeps, other_sleeps;
    _Alignas(64) uint64_t length;
};

/* The input lies behind a slot, the output behind the input. Long ones begin with a page: memcpy is quicker so. */

static uint8_t *slots;
static size_t bytes, stride, head, room;
static int64_t most_spin;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void relax(void) {
#if defined __x86_64__
    __builtin_ia32_pause();
#elif defined __aarch64__
    __asm__ volatile("yield");
#endif
}

static void await(struct slot *s, uint32_t mine, _Atomic uint32_t *sleeps) {
    for (int64_t start = most_spin ? now() : 0, spent = 0; spent < most_spin; spent = now() - start) {
        for (int i = 0; i < 16; i++) {
            if (atomic_load(&s->turn) == mine) return;
            relax();
        }
        if (spent > 3000) sched_yield();
    }
    while (atomic_load(&s->turn) != mine) {
        uint32_t theirs = atomic_load(&s->turn);
        atomic_store(sleeps, 1);
        if (theirs != mine) syscall(SYS_futex, &s->turn, FUTEX_WAIT, theirs, NULL, NULL, 0);
        atomic_store(sleeps, 0);
    }
}

static void give(struct slot *s, uint32_t to, _Atomic uint32_t *sleeps) {
    atomic_store(&s->turn, to);
    if (atomic_load(sleeps)) syscall(SYS_futex, &s->turn, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void *serve(void *arg) {
    for (struct slot *s = arg;;) {
        await(s, OTHER, &s->other_sleeps);
        memcpy((uint8_t *)s + head + room, (uint8_t *)s + head, s->length);
        give(s, HOST, &s->host_sleeps);
    }
    return NULL;
}

struct caller {
    struct slot *slot;
    uint8_t *in, *out;
    uint32_t *took;
    int64_t calls, end;
};

static pthread_barrier_t begin, over;
static int64_t deadline, pause_us;

static void *make_calls(void *arg) {
    struct caller *c = arg;
    struct slot *s = c->slot;
    for (;;) {
        pthread_barrier_wait(&begin);
        c->calls = 0;
        int64_t t = 0;
        do {
            if (pause_us) usleep((useconds_t)pause_us);
            int timed = pause_us || bytes > 4096 || c->calls % EVERY == 0;
            int64_t start = timed ? now() : 0;
            memcpy((uint8_t *)s + head, c->in, bytes);
            s->length = bytes;
            give(s, OTHER, &s->other_sleeps);
            await(s, HOST, &s->host_sleeps);
            memcpy(c->out, (uint8_t *)s + head + room, s->length);
            if (timed) {
                t = now();
                c->took[c->calls / (pause_us || bytes > 4096 ? 1 : EVERY) % SAMPLES] = (uint32_t)(t - start);
            }
            c->calls++;
        } while (t < deadline);
        c->end = t;
        pthread_barrier_wait(&over);
    }
    return NULL;
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void pin(int to) {
    cpu_set_t all, one;
    int seen = 0;
    if (sched_getaffinity(0, sizeof all, &all)) exit(1);
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET(i, &all) || seen++ != to % CPU_COUNT(&all)) continue;
        CPU_ZERO(&one);
        CPU_SET(i, &one);
        if (sched_setaffinity(0, sizeof one, &one)) exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    int n = atoi(argv[1]);
    bytes = (size_t)atol(argv[2]);
    most_spin = atol(argv[3]);
    int pinned = atoi(argv[4]);
    if (n < 1 || n > MOST) return 2;
    size_t align = bytes > 4096 ? 4096 : 64;
    head = (sizeof(struct slot) + align - 1) & ~(align - 1);
    room = (bytes + align - 1) & ~(align - 1);
    stride = (head + 2 * room + 4095) & ~(size_t)4095;
    int memory = memfd_create("pair", MFD_CLOEXEC);
    if (memory < 0 || ftruncate(memory, (off_t)(stride * (size_t)n))) return 1;
    slots = mmap(NULL, stride * (size_t)n, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (slots == MAP_FAILED) return 1;
    for (int i = 0; i < n; i++) atomic_store(&((struct slot *)(slots + stride * (size_t)i))->turn, HOST);
    switch (fork()) {
    case -1: return 1;
    case 0:
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (pinned) pin(1);
        for (int i = 0; i < n; i++) {
            pthread_t t;
            if (pthread_create(&t, NULL, serve, slots + stride * (size_t)i)) _exit(1);
        }
        for (;;) pause();
    }
    if (pinned) pin(0);
    struct caller *callers = calloc((size_t)n, sizeof *callers);
    uint32_t *all = malloc((size_t)n * SAMPLES * sizeof *all);
    if (!callers || !all) return 1;
    pthread_barrier_init(&begin, NULL, (unsigned)n + 1);
    pthread_barrier_init(&over, NULL, (unsigned)n + 1);
    for (int i = 0; i < n; i++) {
        struct caller *c = &callers[i];
        c->slot = (struct slot *)(slots + stride * (size_t)i);
        c->in = aligned_alloc(align, room + align);
        c->out = aligned_alloc(align, room + align);
        c->took = malloc(SAMPLES * sizeof *c->took);
        if (!c->in || !c->out || !c->took) return 1;
        memset(c->in, 'x', bytes);
        memset(c->out, 0, bytes);
        pthread_t t;
        if (pthread_create(&t, NULL, make_calls, c)) return 1;
    }
    long ms;
    long pause_for;
    while (scanf("%ld %ld", &ms, &pause_for) == 2) {
        int64_t start = now(), end = start, calls = 0;
        size_t samples = 0;
        deadline = start + ms * 1000000LL;
        pause_us = pause_for;
        pthread_barrier_wait(&begin);
        pthread_barrier_wait(&over);
        for (int i = 0; i < n; i++) {
            struct caller *c = &callers[i];
            int64_t timed = pause_us || bytes > 4096 ? c->calls : (c->calls + EVERY - 1) / EVERY;
            size_t k = timed < SAMPLES ? (size_t)timed : SAMPLES;
            memcpy(all + samples, c->took, k * sizeof *all);
            samples += k;
            calls += c->calls;
            if (c->end > end) end = c->end;
        }
        qsort(all, samples, sizeof *all, ascending);
        printf("%ld %ld %u %u\n", (long)calls, (long)(end - start), all[samples / 2], all[samples * 99 / 100]);
        fflush(stdout);
    }
    return 0;
}
