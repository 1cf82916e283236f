// Kernels that copy, and write `value` to `done` when the copy is complete.
//
// The driver also copies to and from unified memory with a kernel over the link, but the host has to query the stream
// to learn that the kernel has ended. Here `done` is in pinned memory, and the host polls it.
//
// All ends are aligned to 16 bytes, and blocks have 1024 threads. `arrived` is 0 before and after a kernel. A kernel of
// one block does not use it.

static const unsigned AT_ONCE = 4;

// Copies this block's share of the bytes: this is block `block` of `blocks`.
__device__ __forceinline__ void
copy(char *to, const char *from, unsigned long long bytes, unsigned block, unsigned blocks) {
    const unsigned long long words = bytes / sizeof(uint4);
    const unsigned long long stride = static_cast<unsigned long long>(blocks) * blockDim.x;
    const unsigned long long thread = static_cast<unsigned long long>(block) * blockDim.x + threadIdx.x;
    uint4 *const words_to = reinterpret_cast<uint4 *>(to);
    const uint4 *const words_from = reinterpret_cast<const uint4 *>(from);

    for (unsigned long long start = thread; start < words; start += AT_ONCE * stride) {
        // Issue all reads before waiting for the first, because each takes a microsecond over the link.
        uint4 word[AT_ONCE];
#pragma unroll
        for (unsigned k = 0; k < AT_ONCE; k++) {
            const unsigned long long i = start + k * stride;
            // Bypass this multiprocessor's cache, because a copy engine may have written the memory.
            if (i < words) word[k] = __ldcg(words_from + i);
        }
#pragma unroll
        for (unsigned k = 0; k < AT_ONCE; k++) {
            const unsigned long long i = start + k * stride;
            if (i < words) words_to[i] = word[k];
        }
    }
    const unsigned long long tail = words * sizeof(uint4) + thread;
    if (tail < bytes) to[tail] = __ldcg(from + tail);
}

__device__ __forceinline__ void tell(unsigned *done, unsigned value, unsigned *arrived) {
    __syncthreads();
    if (threadIdx.x != 0) return;
    if (gridDim.x > 1) {
        unsigned before;
        asm volatile("atom.acq_rel.gpu.add.u32 %0, [%1], 1;" : "=r"(before) : "l"(arrived) : "memory");
        if (before != gridDim.x - 1) return;
        *arrived = 0;
    }
    // A reader of the value also sees all earlier writes, by this block and by the blocks that have arrived.
    asm volatile("st.release.sys.u32 [%0], %1;" ::"l"(done), "r"(value) : "memory");
}

extern "C" __global__ void __launch_bounds__(1024)
copy_and_tell(char *to, const char *from, unsigned long long bytes, unsigned *done, unsigned value, unsigned *arrived) {
    copy(to, from, bytes, blockIdx.x, gridDim.x);
    tell(done, value, arrived);
}

// A copy engine brings the first `by_engine` bytes to `staged`. When they have arrived, `ready` becomes `value`.
// `by_engine` is a multiple of 16, unless it equals `bytes`. The last `over_link` blocks fetch the other bytes from
// `from` in the meantime.
extern "C" __global__ void __launch_bounds__(1024)
gather_and_tell(char *to, const char *from, unsigned long long bytes, unsigned *done, unsigned value, unsigned *arrived,
                const char *staged, unsigned long long by_engine, const unsigned *ready, unsigned over_link) {
    const unsigned gathering = gridDim.x - over_link;
    if (blockIdx.x >= gathering) {
        copy(to + by_engine, from + by_engine, bytes - by_engine, blockIdx.x - gathering, over_link);
    } else {
        if (threadIdx.x == 0) {
            unsigned seen;
            do {
                asm volatile("ld.acquire.sys.u32 %0, [%1];" : "=r"(seen) : "l"(ready) : "memory");
            } while (seen != value);
        }
        __syncthreads();
        copy(to, staged, by_engine, blockIdx.x, gathering);
    }
    tell(done, value, arrived);
}
