/* The contract, from C: blocks do not overlap, are aligned, and are freed once. Run by ci/capi.sh. */
#include <cumem.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

static void expect(int holds, const char *what, const char *spec) {
    if (!holds) {
        fprintf(stderr, "%s: not so: %s\n", spec, what);
        failures++;
    }
}

static uint32_t seed = 7;
static uint32_t next(uint32_t most) {
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % most;
}

enum { LIVE = 200, STEPS = 20000 };
struct block { unsigned char *at; size_t size; unsigned char mark; };

/* Replaces random blocks. If the host may use the memory, each block is filled, and checked before it is freed. */
static void program(cumem_stack *stack, void *stream, const char *spec, int host) {
    static struct block live[LIVE];
    cumem_error error;
    memset(live, 0, sizeof live);
    for (int step = 0; step < STEPS; step++) {
        struct block *block = &live[next(LIVE)];
        if (block->at) {
            int intact = 1;
            for (size_t i = 0; host && i < block->size; i += 97) intact &= block->at[i] == block->mark;
            expect(intact, "the contents are those that were written", spec);
            size_t size = next(2) ? block->size : 0;
            expect(cumem_free(stack, block->at, size, stream, &error) == CUMEM_STATUS_SUCCESS, error.text, spec);
            block->at = NULL;
            continue;
        }
        size_t size = 1 + next(20000), align = (size_t)1 << next(9);
        void *at = NULL;
        cumem_status status = cumem_allocate(stack, size, align, stream, &at, &error);
        expect(status == CUMEM_STATUS_SUCCESS, error.text, spec);
        if (status != CUMEM_STATUS_SUCCESS) continue;
        expect((uintptr_t)at % align == 0 && (uintptr_t)at % 256 == 0, "the address is aligned", spec);
        for (int i = 0; i < LIVE; i++) {
            int apart = !live[i].at || live[i].at >= (unsigned char *)at + size || (unsigned char *)at >= live[i].at + live[i].size;
            expect(apart, "blocks do not overlap", spec);
        }
        *block = (struct block){at, size, (unsigned char)step};
        if (host) {
            expect(cumem_stream_synchronize(stack, stream, &error) == CUMEM_STATUS_SUCCESS, error.text, spec);
            memset(at, block->mark, size);
        }
    }
    cumem_counters counters;
    uint64_t bytes = 0, blocks = 0;
    for (int i = 0; i < LIVE; i++) bytes += live[i].at ? live[i].size : 0, blocks += live[i].at != NULL;
    expect(cumem_get_counters(stack, &counters, &error) == CUMEM_STATUS_SUCCESS, error.text, spec);
    expect(counters.live_bytes == bytes && counters.live_blocks == blocks, "the counters are exact", spec);
    expect(cumem_stack_close(stack, &error) == CUMEM_STATUS_BUSY, "a stack with live blocks stays open", spec);
    for (int i = 0; i < LIVE; i++)
        if (live[i].at) {
            expect(cumem_free(stack, live[i].at + 1, 0, stream, &error) != CUMEM_STATUS_SUCCESS, "an inner address", spec);
            expect(cumem_free(stack, live[i].at, 0, stream, &error) == CUMEM_STATUS_SUCCESS, error.text, spec);
            expect(cumem_free(stack, live[i].at, 0, stream, &error) != CUMEM_STATUS_SUCCESS, "a double free", spec);
        }
}

int main(void) {
    const char *specs[] = {"device", "device | pool", "virtual | pool | limit(80%) | statistics", "managed | pool",
                           "pinned", "host", "device | pool(maximum=1MiB) | spill(managed | pool)"};
    expect(cumem_version() == CUMEM_VERSION, "the library has the version of the header", "");
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        cumem_error error;
        cumem_stack *stack;
        void *stream;
        unsigned access;
        if (cumem_stack_open(specs[i], 0, "a100", &stack, &error) != CUMEM_STATUS_SUCCESS) {
            expect(0, error.text, specs[i]);
            continue;
        }
        expect(cumem_stream_create(stack, &stream, &error) == CUMEM_STATUS_SUCCESS, error.text, specs[i]);
        expect(cumem_stack_access(stack, &access, &error) == CUMEM_STATUS_SUCCESS, error.text, specs[i]);
        program(stack, stream, specs[i], (access & CUMEM_ACCESS_HOST) != 0);
        expect(cumem_stream_destroy(stack, stream, &error) == CUMEM_STATUS_SUCCESS, error.text, specs[i]);
        expect(cumem_stack_close(stack, &error) == CUMEM_STATUS_SUCCESS, error.text, specs[i]);
        expect(cumem_trim(stack, 0, NULL, &error) == CUMEM_STATUS_INVALID_STACK, "a closed stack is an error", specs[i]);
    }
    printf("%d failures\n", failures);
    return failures != 0;
}
