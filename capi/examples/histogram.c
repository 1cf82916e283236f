/* Counts values in managed memory of a simulated device, within a limit. Needs no GPU. */
#include <cumem.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static cumem_error error;

static void must(cumem_status status) {
    if (status != CUMEM_STATUS_SUCCESS) {
        fprintf(stderr, "%s\n", error.text);
        exit(1);
    }
}

int main(void) {
    const size_t count = 100000, bins = 16;
    cumem_stack *stack;
    void *stream, *values, *counts;
    must(cumem_stack_open("managed | pool | limit(1MiB) | statistics", 0, "h100-pcie5", &stack, &error));
    must(cumem_stream_create(stack, &stream, &error));

    must(cumem_allocate(stack, count * sizeof(uint32_t), 0, stream, &values, &error));
    must(cumem_allocate(stack, bins * sizeof(uint64_t), 0, stream, &counts, &error));
    must(cumem_stream_synchronize(stack, stream, &error)); /* the host may use both from here on */
    uint32_t *value = values, seed = 1;
    uint64_t *bin = counts, total = 0;
    for (size_t i = 0; i < count; i++) value[i] = (seed = seed * 1664525u + 1013904223u) >> 28;
    for (size_t i = 0; i < bins; i++) bin[i] = 0;
    for (size_t i = 0; i < count; i++) bin[value[i]]++;
    for (size_t i = 0; i < bins; i++) total += bin[i];

    /* A request beyond the limit fails, says why, and changes nothing. */
    void *more;
    cumem_status refused = cumem_allocate(stack, 1 << 20, 0, stream, &more, &error);
    printf("%s\n", error.text);
    if (refused != CUMEM_STATUS_LIMIT_EXCEEDED || more != NULL || error.requested != 1 << 20) return 1;

    must(cumem_free(stack, values, count * sizeof(uint32_t), stream, &error));
    must(cumem_free(stack, counts, bins * sizeof(uint64_t), stream, &error));
    cumem_counters counters;
    must(cumem_get_counters(stack, &counters, &error));
    printf("%llu values in %zu bins; at most %llu bytes were in use\n", (unsigned long long)total, bins,
           (unsigned long long)counters.peak_live_bytes);
    must(cumem_stream_destroy(stack, stream, &error));
    must(cumem_stack_close(stack, &error));
    return total == count && counters.live_bytes == 0 ? 0 : 1;
}
