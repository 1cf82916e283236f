// Nearest neighbours by cosine similarity, leave-one-out: for every vector of an n x d matrix of f32
// (row-major, no padding), the index of the most similar other vector, and that similarity.
//
// Two kernels, launched one after the other on one stream; README.md beside this file lists their
// parameters. Rebuild cosine.ptx, for the oldest architecture that the CUDA 12 compiler knows, with
//
//     pip install nvidia-cuda-nvrtc-cu12==12.0.140
//     python examples/kernels/build.py
//
// or, where a CUDA 12 toolkit is installed, with
//
//     nvcc -ptx -arch=compute_50 -o examples/kernels/cosine.ptx examples/kernels/cosine.cu
//
// Why a GPU and a CPU agree to the last bit on data such as the digits (64 integers from 0 to 16):
//
// - A dot product or squared norm is a sum of integers, at most 64 * 16 * 16 = 2^14. Every partial sum is
//   exact in f32 (exact to 2^24), so order of summation and fused multiply-add change nothing.
// - For one query, candidates are ordered by dot * |dot| / norm^2, which grows with the cosine. In f64 the
//   numerator (at most 2^28) is exact and the division is correctly rounded (IEEE 754, on GPUs too), so
//   equal ratios give equal numbers. Different ratios p/q and r/s are apart by a share of at least
//   1 / (p * s) >= 2^-42, far more than f64's 2^-53, so they give different numbers, in the right order.
// - Of equals the lowest index wins, whatever thread found it.
// - The similarity is dot / sqrt(norm^2 * norm^2): one exact product, a correctly rounded root, division
//   and narrowing.
//
// On other data the sums may differ in their last bits with the order of summation.

#define TILE 16

// Lanes of a warp that sum one vector's squares.
#define WARP 32

// norms[i] = |vectors[i]|^2. Blocks of 256 threads, a warp per vector: ceil(n / 8) blocks.
extern "C" __global__ void __launch_bounds__(256)
squared_norms(const float *__restrict__ vectors, unsigned n, unsigned d, float *__restrict__ norms)
{
    const unsigned row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    const unsigned lane = threadIdx.x % WARP;
    if (row >= n) return; // the whole warp leaves

    const float *vector = vectors + (size_t)row * d;
    float sum = 0.0f;
    for (unsigned k = lane; k < d; k += WARP) sum = fmaf(vector[k], vector[k], sum);
    for (unsigned offset = WARP / 2; offset > 0; offset /= 2) sum += __shfl_down_sync(0xffffffffu, sum, offset);
    if (lane == 0) norms[row] = sum;
}

// What a thread knows of one query: its best candidate so far.
struct Best {
    double rank;
    unsigned index;
    float dot;
};

__device__ static void consider(Best &best, double rank, unsigned index, float dot)
{
    if (rank > best.rank || (rank == best.rank && index < best.index)) {
        best.rank = rank;
        best.index = index;
        best.dot = dot;
    }
}

// index[i], similarity[i]: the vector nearest to i among the others, and the cosine between the two. A
// vector of zeros has similarity 0 to every other. Where there is no other vector, or none that is
// comparable (NaN), index is 2^32 - 1 and similarity NaN.
//
// A block of TILE x TILE threads takes TILE queries and walks over all vectors, TILE at a time: thread
// (x, y) keeps the best for query y among candidates x, x + TILE, x + 2 TILE, ...; at the end the row's
// TILE threads compare. ceil(n / TILE) blocks.
extern "C" __global__ void __launch_bounds__(TILE * TILE)
nearest_neighbours(const float *__restrict__ vectors, const float *__restrict__ norms, unsigned n, unsigned d,
                   unsigned *__restrict__ index, float *__restrict__ similarity)
{
    // One column more than needed, so that threads of a warp read different banks.
    __shared__ float queries[TILE][TILE + 1];
    __shared__ float candidates[TILE][TILE + 1];
    __shared__ Best found[TILE][TILE];

    const unsigned x = threadIdx.x, y = threadIdx.y;
    const unsigned query = blockIdx.x * TILE + y;
    const double none = __longlong_as_double(0xfff0000000000000LL); // minus infinity
    Best best = {none, 0xffffffffu, 0.0f};

    const unsigned tiles = n / TILE + (n % TILE != 0);
    for (unsigned tile = 0; tile < tiles; tile++) {
        const unsigned loaded = tile * TILE + y, candidate = tile * TILE + x;
        float dot = 0.0f;
        for (unsigned first = 0; first < d; first += TILE) {
            const unsigned k = first + x;
            queries[y][x] = query < n && k < d ? vectors[(size_t)query * d + k] : 0.0f;
            candidates[y][x] = loaded < n && k < d ? vectors[(size_t)loaded * d + k] : 0.0f;
            __syncthreads();
            for (unsigned i = 0; i < TILE; i++) dot = fmaf(queries[y][i], candidates[x][i], dot);
            __syncthreads();
        }
        if (candidate < n && candidate != query) {
            const double norm = norms[candidate];
            const double rank = norm == 0.0 ? 0.0 : (double)dot * fabs((double)dot) / norm;
            consider(best, rank, candidate, dot);
        }
    }

    found[y][x] = best;
    __syncthreads();
    if (x != 0 || query >= n) return;
    for (unsigned i = 1; i < TILE; i++) {
        const Best other = found[y][i];
        consider(best, other.rank, other.index, other.dot);
    }

    index[query] = best.index;
    if (best.index == 0xffffffffu) {
        similarity[query] = __int_as_float(0x7fffffff);
    } else {
        const double product = (double)norms[query] * (double)norms[best.index];
        similarity[query] = product == 0.0 ? 0.0f : (float)((double)best.dot / sqrt(product));
    }
}
