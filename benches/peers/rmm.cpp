// RMM's pool over cudaMalloc. Arguments: logs to replay, in RMM's format. See README.md for how to build this.
#include "workloads.hpp"
#include <memory>
#include <rmm/cuda_stream_view.hpp>
#include <rmm/mr/cuda_memory_resource.hpp>
#include <rmm/mr/pool_memory_resource.hpp>

struct Rmm {
    static inline std::unique_ptr<rmm::mr::pool_memory_resource> pool;

    static void start() {
        pool.reset();
        pool = std::make_unique<rmm::mr::pool_memory_resource>(rmm::mr::cuda_memory_resource{}, 0);
    }
    static void* allocate(size_t bytes, cudaStream_t stream) { return pool->allocate(rmm::cuda_stream_view{stream}, bytes, 256); }
    static void free(void* pointer, size_t bytes, cudaStream_t stream) { pool->deallocate(rmm::cuda_stream_view{stream}, pointer, bytes, 256); }
    // The pool never gives memory back, so its size is its peak.
    static size_t reserved_peak() { return pool->pool_size(); }
};

int main(int count, char** arguments) {
    int result = all<Rmm>("rmm", count, arguments);
    Rmm::pool.reset();
    return result;
}
