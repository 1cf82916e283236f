/* Pairs through the C interface, for ci/instructions.sh: `pair N`. */
#include <cumem.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    cumem_error error;
    cumem_stack *stack;
    void *stream = NULL, *memory;
    if (argc != 3) return 2;
    if (cumem_stack_open("device | pool", 0, "h100-pcie5", &stack, &error)) return puts(error.text), 1;
    /* `capi_pair` uses the default stream, `capi_stream` a stream that other code owns. */
    if (argv[1][5] == 's' && cumem_stream_create(stack, &stream, &error)) return puts(error.text), 1;
    for (long n = atol(argv[2]); n > 0; n--) {
        if (cumem_allocate(stack, 64 << 10, 0, stream, &memory, &error)) return puts(error.text), 1;
        if (cumem_free(stack, memory, 64 << 10, stream, &error)) return puts(error.text), 1;
    }
    return 0;
}
