/* A libcuda with one device, or several that share a primary context. It returns codes and lacks functions that a real
   driver returns and lacks only on other machines. With NUMA it has the functions that take a node of the host. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned code;
typedef uint64_t address;

/* The value of a setting: of the environment variable that a test has set, or the default. */
static int setting(const char *name, int otherwise) {
    const char *value = getenv(name);
    return value ? atoi(value) : otherwise;
}

/* The code of cuInit, the code of cuDevicePrimaryCtxRetain, the number of devices, the version of CUDA. */
#define INIT setting("FAKE_INIT", 0)
#define RETAIN setting("FAKE_RETAIN", 0)
#define DEVICES setting("FAKE_DEVICES", 1)
#define VERSION setting("FAKE_VERSION", 13000)
/* Which call of cuMemMap and of cuMemSetAccess is refused, counted from 1. */
#define FAIL_MAP setting("FAKE_FAIL_MAP", 0)
#define FAIL_ACCESS setting("FAKE_FAIL_ACCESS", 0)

/* Which answer is nonsense: one bit for each of the names below. */
#define NONSENSE(bit) (setting("FAKE_NONSENSE", 0) & (bit))
enum { GRANULARITY_ZERO = 1, GRANULARITY_ODD = 2, FREE_ABOVE_TOTAL = 4, NEGATIVE_COUNT = 8, NEGATIVE_DEVICES = 16,
       NAME_NO_TEXT = 32, NAME_NO_END = 64, ODD_ADDRESS = 128, HIGH_ADDRESS = 256, NULL_ADDRESS = 512, NULL_STREAM = 1024 };

static int references;
static __thread void *current;
static int last[4];

/* The arguments of the last prefetch or advice. The attributes of a range report them. */
static code note(int a, int b, int c, int d) {
    last[0] = a, last[1] = b, last[2] = c, last[3] = d;
    return 0;
}

code cuInit(unsigned flags) { return flags ? 1 : INIT; }
code cuDriverGetVersion(int *version) { *version = VERSION; return 0; }
code cuDeviceGetCount(int *count) {
    *count = NONSENSE(NEGATIVE_DEVICES) ? -1 : DEVICES;
    return 0;
}
code cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal < DEVICES ? 0 : 101; }
code cuDeviceGetName(char *name, int size, int device) {
    strncpy(name, NONSENSE(NAME_NO_TEXT) ? "fake\xff" : "fake", size);
    if (NONSENSE(NAME_NO_END)) memset(name, 'x', size);
    return 0;
}
code cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 1 << 30; return 0; }
/* The value of an attribute is its number. Before CUDA 11, attributes after VIRTUAL_ADDRESS_MANAGEMENT are unknown.
   If there are several devices, they do not use the host's page tables (attribute 100). */
code cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = DEVICES > 1 && attribute == 100 ? 0 : attribute;
    if (NONSENSE(NEGATIVE_COUNT) && attribute == 40) *value = -3;
    return VERSION < 11000 && attribute > 102 ? 1 : 0;
}

code cuDevicePrimaryCtxRetain(void **context, int device) {
    *context = &references;
    if (!RETAIN) references++;
    return RETAIN;
}
code cuDevicePrimaryCtxRelease_v2(int device) { return --references < 0 ? 201 : 0; }
code cuCtxGetCurrent(void **context) { *context = current; return 0; }
code cuCtxSetCurrent(void *context) { current = context; return 0; }
/* Mapped memory in granules of 2 MiB: the handle that each is mapped to, and the number of references to a handle.
   There are at most two reservations, and the first 32 granules of each can be used. */
#define EACH(at, bytes) for (address g = at; g < (at) + (bytes); g += 2 << 20)
static int behind[96], held[8], reservations, handles, maps, accesses;
static int *at_granule(address g) { return &behind[(g >> 40) * 32 + (g >> 21 & 31)]; }

code cuMemGetAllocationGranularity(size_t *bytes, const void *properties, int option) {
    *bytes = NONSENSE(GRANULARITY_ZERO) ? 0 : NONSENSE(GRANULARITY_ODD) ? 3 << 20 : 2 << 20;
    return 0;
}
code cuMemAddressReserve(address *at, size_t bytes, size_t alignment, address wish, unsigned long long flags) {
    *at = (address)++reservations << 40;
    return reservations > 2;
}
code cuMemAddressFree(address at, size_t bytes) { return 0; }
code cuMemCreate(unsigned long long *handle, size_t bytes, const void *properties, unsigned long long flags) {
    held[*handle = ++handles] = 1;
    return 0;
}
code cuMemRetainAllocationHandle(unsigned long long *handle, void *at) {
    held[*handle = *at_granule((address)at)]++;
    return *handle ? 0 : 1;
}
code cuMemRelease(unsigned long long handle) { return --held[handle] < 0; }
code cuMemMap(address at, size_t bytes, size_t offset, unsigned long long handle, unsigned long long flags) {
    if (++maps == FAIL_MAP) return 2;
    EACH(at, bytes) if (*at_granule(g)) return 1;
    EACH(at, bytes) *at_granule(g) = handle;
    return offset || !held[handle];
}
code cuMemSetAccess(address at, size_t bytes, const void *access, size_t count) {
    if (++accesses == FAIL_ACCESS) return 999;
    EACH(at, bytes) if (!*at_granule(g)) return 1;
    return 0;
}
code cuMemUnmap(address at, size_t bytes) {
    EACH(at, bytes) if (!*at_granule(g)) return 1;
    EACH(at, bytes) *at_granule(g) = 0;
    return 0;
}

/* Reports as free memory the number of mapped granules and of references to handles, and as total memory 1000 times
   the number of references to the primary context, which must be current. */
code cuMemGetInfo_v2(size_t *free, size_t *total) {
    *free = NONSENSE(FREE_ABOVE_TOTAL) ? 1 << 20 : 0, *total = 1000 * references;
    for (int i = 0; i < 96; i++) *free += behind[i] != 0;
    for (int i = 0; i < 8; i++) *free += held[i];
    return current == &references ? 0 : 201;
}

code cuStreamCreate(void **stream, unsigned flags) {
    *stream = NONSENSE(NULL_STREAM) ? 0 : malloc(1);
    return flags == 1 ? 0 : 1;
}
code cuStreamDestroy_v2(void *stream) { free(stream); return 0; }
code cuStreamSynchronize(void *stream) { return 0; }
/* A code that no header lists. */
code cuStreamQuery(void *stream) { return 54321; }

/* A module has a kernel of every name. Kernels do nothing. */
code cuModuleLoadDataEx(void **module, const void *image, unsigned n, int *options, void **values) {
    *module = &references;
    return 0;
}
code cuModuleUnload(void *module) { return 0; }
code cuModuleGetFunction(void **function, void *module, const char *name) { *function = module; return 0; }
code cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz,
                    unsigned shared, void *stream, void **parameters, void **extra) {
    return function == &references && current == &references ? 0 : 400;
}

code cuMemAllocManaged(address *pointer, size_t bytes, unsigned flags) {
    *pointer = (address)aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (NONSENSE(ODD_ADDRESS)) *pointer += 8;
    if (NONSENSE(HIGH_ADDRESS)) *pointer = -256;
    if (NONSENSE(NULL_ADDRESS)) *pointer = 0;
    return flags == 1 && current == &references ? 0 : 1;
}
code cuMemFree_v2(address pointer) { free((void *)pointer); return 0; }

code cuMemPrefetchAsync(address p, size_t bytes, int device, void *stream) { return note(1, bytes, device, 0); }
code cuMemAdvise(address p, size_t bytes, int advice, int device) { return note(2, bytes, advice, device); }
#ifdef NUMA
struct location { int type, id; };
code cuMemPrefetchAsync_v2(address p, size_t bytes, struct location to, unsigned flags, void *stream) {
    return flags ? 1 : note(3, bytes, to.type, to.id);
}
code cuMemAdvise_v2(address p, size_t bytes, int advice, struct location at) {
    return note(4, bytes + advice, at.type, at.id);
}
#endif
/* Reports the four numbers of the last hint as attributes of a range, in the forms of CUDA 12.2 and of the versions
   before it. */
code cuMemRangeGetAttribute(void *value, size_t size, int attribute, address p, size_t bytes) {
    int *out = value;
    if (attribute == 3) {
        out[0] = last[0];
        return size == 8 ? 0 : 1;
    }
    if (size != 4 || (VERSION < 12020) != (attribute == 2 || attribute == 4)) {
        *out = attribute == 1;
        return attribute == 1 ? 0 : 1;
    }
    *out = attribute == 2 || attribute == 6 ? last[2] : attribute == 4 || attribute == 8 ? last[3] : 3;
    return 0;
}
