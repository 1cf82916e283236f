// cumem.hpp compiled with the headers of CCCL and RMM: its resources are theirs. Compiled by ci/capi.sh if the headers
// are there.
#include <cumem.hpp>

#ifndef CUMEM_HAS_CCCL
#  error "the headers of CCCL were not found"
#endif
#include <cuda/memory_resource>

#if __has_include(<rmm/resource_ref.hpp>)
#  include <rmm/resource_ref.hpp>
static_assert(std::is_constructible_v<rmm::device_async_resource_ref, cumem::resource &>);
static_assert(std::is_constructible_v<rmm::host_device_async_resource_ref, cumem::host_device_resource &>);
static_assert(!std::is_constructible_v<rmm::host_device_async_resource_ref, cumem::resource &>);
#endif

// An owner of any resource takes one of ours.
cuda::mr::any_resource<cuda::mr::device_accessible> erased(cumem::resource over) { return over; }

int main() {
    cumem::resource memory(cumem::stack::simulated("device | pool | limit(1MiB)", "a100"));
    auto any = erased(memory);
    void *block = any.allocate_sync(1000, 256);
    any.deallocate_sync(block, 1000, 256);
    void *ordered = any.allocate(cuda::stream_ref{cudaStream_t{}}, 1000, 256);
    any.deallocate(cuda::stream_ref{cudaStream_t{}}, ordered, 1000, 256);
    try {
        (void)any.allocate_sync(2 << 20, 256);
        return 1;
    } catch (const std::bad_alloc &error) {
        if (std::string(error.what()).find("limit reached") == std::string::npos) return 2;
    }
    return memory.get_stack().counters().live_blocks == 0 ? 0 : 3;
}
