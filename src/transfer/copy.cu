// A copy over the link by the multiprocessors, which says when it is done.
//
// The driver copies to and from unified memory with a kernel of its own, whose end the host learns by asking the
// stream. This one writes `value` to page-locked memory instead, where the host looks for it.
//
// Both ends are aligned to 16 bytes; blocks have 1024 threads. `arrived` is zero before and after, and of no use with one block.

static const unsigned AT_ONCE = 4;

extern "C" __global__ void __launch_bounds__(1024)
copy_and_tell(char *to, const char *from, unsigned long long bytes, unsigned *done, unsigned value, unsigned *arrived) {
    const unsigned long long words = bytes / sizeof(uint4);
    const unsigned long long stride = static_cast<unsigned long long>(gridDim.x) * blockDim.x;
    const unsigned long long thread = static_cast<unsigned long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    uint4 *const words_to = reinterpret_cast<uint4 *>(to);
    const uint4 *const words_from = reinterpret_cast<const uint4 *>(from);

    for (unsigned long long start = thread; start < words; start += AT_ONCE * stride) {
        // All reads are under way before the first is waited for: over the link each takes a microsecond.
        uint4 word[AT_ONCE];
#pragma unroll
        for (unsigned k = 0; k < AT_ONCE; k++) {
            const unsigned long long i = start + k * stride;
            if (i < words) word[k] = words_from[i];
        }
#pragma unroll
        for (unsigned k = 0; k < AT_ONCE; k++) {
            const unsigned long long i = start + k * stride;
            if (i < words) words_to[i] = word[k];
        }
    }
    const unsigned long long tail = words * sizeof(uint4) + thread;
    if (tail < bytes) to[tail] = from[tail];

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
