// Copies by the multiprocessors, which say when they are done.
//
// The driver copies to and from unified memory with a kernel of its own over the link, whose end the host learns by asking
// the stream. These write `value` to page-locked memory instead, where the host looks for it.
//
// All ends are aligned to 16 bytes; blocks have 1024 threads. `arrived` is zero before and after, and of no use with one block.

static const unsigned AT_ONCE = 4;

// The part of `blocks` blocks, of which this is `block`.
__device__ __forceinline__ void
copy(char *to, const char *from, unsigned long long bytes, unsigned block, unsigned blocks) {
    const unsigned long long words = bytes / sizeof(uint4);
    const unsigned long long stride = static_cast<unsigned long long>(blocks) * blockDim.x;
    const unsigned long long thread = static_cast<unsigned long long>(block) * blockDim.x + threadIdx.x;
    uint4 *const words_to = reinterpret_cast<uint4 *>(to);
    const uint4 *const words_from = reinterpret_cast<const uint4 *>(from);

    for (unsigned long long start = thread; start < words; start += AT_ONCE * stride) {
        // All reads are under way before the first is waited for: over the link each takes a microsecond.
        uint4 word[AT_ONCE];
#pragma unroll
        for (unsigned k = 0; k < AT_ONCE; k++) {
            const unsigned long long i = start + k * stride;
            // Not from the cache of this multiprocessor: a copy engine may have written there.
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
    // Whoever sees the value sees all that was written before: by the block, and by those that have arrived.
    asm volatile("st.release.sys.u32 [%0], %1;" ::"l"(done), "r"(value) : "memory");
}

extern "C" __global__ void __launch_bounds__(1024)
copy_and_tell(char *to, const char *from, unsigned long long bytes, unsigned *done, unsigned value, unsigned *arrived) {
    copy(to, from, bytes, blockIdx.x, gridDim.x);
    tell(done, value, arrived);
}

// The first `by_engine` bytes, a multiple of 16 unless they are all, come from `staged`, to which a copy engine brings them: they are there when
// `ready` is `value`. The last blocks, `over_link` of them, fetch the rest themselves meanwhile.
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
