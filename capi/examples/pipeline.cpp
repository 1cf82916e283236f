// Two stages on two streams share a buffer. The consumer's use is recorded, so the producer frees the buffer without
// waiting. Needs no GPU.
#include <cumem.hpp>
#include <cstdint>
#include <iostream>
#include <numeric>

int main() {
    cumem::stack stack = cumem::stack::simulated("managed | pool | statistics", "a100");
    cumem::host_device_resource memory(stack);
    std::cout << stack.text() << '\n';

    void *streams[2];
    cumem_error failure;
    for (void *&stream : streams) cumem::check(cumem_stream_create(stack.get(), &stream, &failure), failure);

    std::uint64_t sum = 0;
    for (int step = 0; step < 100; step++) {
        const std::size_t bytes = (1000 + step) * sizeof(std::uint32_t);
        auto *numbers = static_cast<std::uint32_t *>(stack.allocate(bytes, 0, streams[0]));
        stack.synchronize(streams[0]);
        std::iota(numbers, numbers + 1000 + step, 0);
        sum = std::accumulate(numbers, numbers + 1000 + step, sum);
        stack.record_use(numbers, streams[1]); // a GPU program enqueues the second stage there
        stack.free(numbers, bytes, streams[0]);
    }

    try {
        stack.free(&sum);
        return 1;
    } catch (const cumem::error &error) {
        std::cout << error.what() << '\n';
        if (error.status() != CUMEM_STATUS_FOREIGN_ADDRESS) return 1;
    }
    for (void *stream : streams) cumem::check(cumem_stream_destroy(stack.get(), stream, &failure), failure);
    const cumem_counters counters = stack.counters();
    std::cout << "sum " << sum << ", peak " << counters.peak_live_bytes << " bytes, " << counters.failures
              << " failures\n";
    return sum == 55061700 && counters.live_blocks == 0 ? 0 : 1;
}
