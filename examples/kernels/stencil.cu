// What examples/auto_prefetch.rs does with a buffer. Any grid and block.

// Each element becomes what `rounds` steps of averaging with its neighbours leave of it; neighbours keep their first value.
extern "C" __global__ void stencil(const float *from, float *to, unsigned long long n, unsigned rounds) {
    const unsigned long long stride = static_cast<unsigned long long>(gridDim.x) * blockDim.x;
    for (unsigned long long i = static_cast<unsigned long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += stride) {
        const float left = from[i == 0 ? 0 : i - 1], right = from[i + 1 == n ? i : i + 1];
        float x = from[i];
        for (unsigned round = 0; round < rounds; round++) {
            x = 0.25f * left + 0.5f * x + 0.25f * right;
        }
        to[i] = x;
    }
}

// Each thread sums `reads` elements drawn at random.
extern "C" __global__ void gather(const float *from, float *to, unsigned long long n, unsigned reads, unsigned long long seed) {
    const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned long long random = seed + thread;
    float sum = 0.0f;
    for (unsigned read = 0; read < reads; read++) {
        // Knuth's generator (MMIX).
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        sum += from[(random >> 20) % n];
    }
    to[thread] = sum;
}
