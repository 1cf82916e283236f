// PyTorch's caching allocator. Arguments: logs to replay, in RMM's format. See README.md for how to build this.
#include "workloads.hpp"
#include <c10/cuda/CUDACachingAllocator.h>

struct PyTorch {
    static c10::cuda::CUDACachingAllocator::CUDAAllocator* allocator() { return c10::cuda::CUDACachingAllocator::get(); }

    static void start() {
        allocator()->init(1);
        allocator()->emptyCache();
        allocator()->resetPeakStats(0);
    }
    static void* allocate(size_t bytes, cudaStream_t stream) { return allocator()->raw_alloc_with_stream(bytes, stream); }
    static void free(void* pointer, size_t, cudaStream_t) { allocator()->raw_delete(pointer); }
    static size_t reserved_peak() { return allocator()->getDeviceStats(0).reserved_bytes[0].peak; }
};

int main(int count, char** arguments) { return all<PyTorch>("pytorch", count, arguments); }
