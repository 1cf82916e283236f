// Prints the answer of the driver to each call of this library while a stream is being captured.
//
//   cc -O1 sim/facts/capture.c -I/usr/local/cuda/include -lcuda -o capture && ./capture > capture.csv
//
// One row per call, mode of the capture and mode of the calling thread: the code of the call, and the state of the
// capture afterwards (0 none, 1 active, 2 invalidated). `self` is the stream that is captured. `other` is another
// stream, which is not captured. `outside` is an event that was recorded before the capture, `inside` one that was
// recorded by the captured stream. The thread `capturing` is the one that began the capture.
#include <cuda.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MUST(call)                                                                                                     \
    do {                                                                                                               \
        CUresult code_ = (call);                                                                                       \
        if (code_ != CUDA_SUCCESS) {                                                                                   \
            fprintf(stderr, "%s: %d\n", #call, code_);                                                                 \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static CUcontext context;
static CUdevice device;
static CUstream self, other;
static CUevent outside, inside, timed[2];
static CUdeviceptr memory, managed, spare, reserved;
static void *pinned;
static CUmemoryPool pool;

static CUmemAllocationProp chunk_prop;
static size_t granularity;
static int blocking;

static const char *ptx = ".version 7.0\n.target sm_52\n.address_size 64\n.visible .entry nothing() { ret; }\n";

// What a call made, to be destroyed after the capture has ended.
static CUdeviceptr made_memory;
static CUstream made_stream;
static CUevent made_event;
static CUmodule made_module;
static CUmemoryPool made_pool;
static void *made_pinned;
static CUdeviceptr made_range;

static CUresult mem_alloc(void) { return cuMemAlloc(&made_memory, 1 << 16); }
static CUresult mem_alloc_managed(void) { return cuMemAllocManaged(&made_memory, 1 << 16, CU_MEM_ATTACH_GLOBAL); }
static CUresult mem_free(void) {
    CUresult code = cuMemFree(spare);
    if (code == CUDA_SUCCESS) spare = 0;
    return code;
}
static CUresult mem_alloc_host(void) { return cuMemAllocHost(&made_pinned, 1 << 12); }
static CUresult mem_free_host(void) {
    CUresult code = cuMemFreeHost(pinned);
    if (code == CUDA_SUCCESS) pinned = NULL;
    return code;
}
static CUresult mem_get_info(void) {
    size_t free, total;
    return cuMemGetInfo(&free, &total);
}
static CUresult ctx_synchronize(void) { return cuCtxSynchronize(); }
static CUresult stream_create(void) { return cuStreamCreate(&made_stream, CU_STREAM_NON_BLOCKING); }
static CUresult stream_query_other(void) { return cuStreamQuery(other); }
static CUresult stream_query_self(void) { return cuStreamQuery(self); }
static CUresult stream_synchronize_other(void) { return cuStreamSynchronize(other); }
static CUresult stream_synchronize_self(void) { return cuStreamSynchronize(self); }
static CUresult stream_id_self(void) {
    unsigned long long id;
    return cuStreamGetId(self, &id);
}
static CUresult stream_id_other(void) {
    unsigned long long id;
    return cuStreamGetId(other, &id);
}
static CUresult event_create(void) { return cuEventCreate(&made_event, CU_EVENT_DISABLE_TIMING); }
static CUresult event_record_other(void) { return cuEventRecord(outside, other); }
static CUresult event_record_self(void) { return cuEventRecord(outside, self); }
static CUresult event_query_outside(void) { return cuEventQuery(outside); }
static CUresult event_query_inside(void) { return cuEventQuery(inside); }
static CUresult event_synchronize_outside(void) { return cuEventSynchronize(outside); }
static CUresult event_synchronize_inside(void) { return cuEventSynchronize(inside); }
static CUresult event_elapsed(void) {
    float ms;
    return cuEventElapsedTime(&ms, timed[0], timed[1]);
}
static CUresult wait_self_outside(void) { return cuStreamWaitEvent(self, outside, 0); }
static CUresult wait_self_inside(void) { return cuStreamWaitEvent(self, inside, 0); }
static CUresult wait_other_outside(void) { return cuStreamWaitEvent(other, outside, 0); }
static CUresult event_destroy_inside(void) {
    CUresult code = cuEventDestroy(inside);
    if (code == CUDA_SUCCESS) inside = NULL;
    return code;
}
static CUresult ctx_record_event(void) { return cuCtxRecordEvent(context, outside); }
static CUresult alloc_async_other(void) { return cuMemAllocFromPoolAsync(&made_memory, 1 << 16, pool, other); }
static CUresult free_async_other(void) {
    CUresult code = cuMemFreeAsync(spare, other);
    if (code == CUDA_SUCCESS) spare = 0;
    return code;
}
static CUresult pool_create(void) {
    CUmemPoolProps props = {0};
    props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    props.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    props.location.id = 0;
    return cuMemPoolCreate(&made_pool, &props);
}
static CUresult pool_trim(void) { return cuMemPoolTrimTo(pool, 0); }
static CUresult pool_get(void) {
    cuuint64_t value;
    return cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &value);
}
static CUresult pool_set(void) {
    cuuint64_t value = 1 << 20;
    return cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &value);
}
static CUresult address_reserve(void) { return cuMemAddressReserve(&made_range, granularity, 0, 0, 0); }
static CUresult address_free(void) {
    CUdeviceptr range = reserved;
    CUresult code = cuMemAddressFree(range, 2 * granularity);
    if (code == CUDA_SUCCESS) reserved = 0;
    return code;
}
static CUresult create_map_unmap(void) {
    CUmemGenericAllocationHandle handle;
    CUresult code = cuMemCreate(&handle, granularity, &chunk_prop, 0);
    if (code != CUDA_SUCCESS) return code;
    code = cuMemMap(reserved + granularity, granularity, 0, handle, 0);
    if (code == CUDA_SUCCESS) {
        CUmemAccessDesc access = {chunk_prop.location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
        code = cuMemSetAccess(reserved + granularity, granularity, &access, 1);
        CUresult second = cuMemUnmap(reserved + granularity, granularity);
        if (code == CUDA_SUCCESS) code = second;
    }
    CUresult released = cuMemRelease(handle);
    return code == CUDA_SUCCESS ? released : code;
}
static CUresult advise(void) {
    CUmemLocation location = {.type = CU_MEM_LOCATION_TYPE_DEVICE};
    return cuMemAdvise(managed, 1 << 16, CU_MEM_ADVISE_SET_READ_MOSTLY, location);
}
static CUresult prefetch_on(CUstream stream) {
    CUmemLocation location = {.type = CU_MEM_LOCATION_TYPE_DEVICE};
    return cuMemPrefetchAsync(managed, 1 << 16, location, 0, stream);
}
static CUresult prefetch_self(void) { return prefetch_on(self); }
static CUresult prefetch_other(void) { return prefetch_on(other); }
static CUresult range_attribute(void) {
    int value;
    return cuMemRangeGetAttribute(&value, sizeof value, CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, managed, 1 << 16);
}
static CUresult pointer_attribute(void) {
    CUmemorytype type;
    return cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, memory);
}
static CUresult copy_self(void) { return cuMemcpyAsync(memory, memory + 4096, 4096, self); }
static CUresult copy_other(void) { return cuMemcpyAsync(memory, memory + 4096, 4096, other); }
static CUresult copy_self_from_host(void) {
    static char bytes[4096];
    return cuMemcpyHtoDAsync(memory, bytes, sizeof bytes, self);
}
static CUresult copy_self_to_host(void) {
    static char bytes[4096];
    return cuMemcpyDtoHAsync(bytes, memory, sizeof bytes, self);
}
static CUresult fill_self(void) { return cuMemsetD8Async(memory, 1, 4096, self); }
static CUresult fill_legacy(void) { return cuMemsetD8Async(memory, 1, 4096, CU_STREAM_LEGACY); }
static CUresult fill_per_thread(void) { return cuMemsetD8Async(memory, 1, 4096, CU_STREAM_PER_THREAD); }
static CUresult write_value_self(void) { return cuStreamWriteValue32(self, memory, 1, 0); }
static void CUDA_CB nothing(void *unused) { (void)unused; }
static CUresult host_function_self(void) { return cuLaunchHostFunc(self, nothing, NULL); }
static CUresult module_load(void) { return cuModuleLoadData(&made_module, ptx); }
static CUresult begin_self_again(void) { return cuStreamBeginCapture(self, CU_STREAM_CAPTURE_MODE_RELAXED); }
static CUresult begin_legacy(void) { return cuStreamBeginCapture(CU_STREAM_LEGACY, CU_STREAM_CAPTURE_MODE_RELAXED); }
static CUresult end_other(void) {
    CUgraph graph;
    return cuStreamEndCapture(other, &graph);
}

static CUresult alloc_async_self(void) {
    CUdeviceptr node;
    return cuMemAllocFromPoolAsync(&node, 1 << 16, pool, self);
}
static CUresult free_async_self(void) {
    CUresult code = cuMemFreeAsync(spare, self);
    if (code == CUDA_SUCCESS) spare = 0;
    return code;
}
static CUresult fork_other(void) { return cuStreamWaitEvent(other, inside, 0); }
static CUresult fork_work(void) {
    CUresult code = fork_other();
    return code ? code : cuMemsetD8Async(memory + 8192, 1, 4096, other);
}
static CUresult fork_work_join(void) {
    CUresult code = fork_work();
    if (!code) code = cuEventRecord(outside, other);
    return code ? code : cuStreamWaitEvent(self, outside, 0);
}
static CUresult fork_work_join_more(void) {
    CUresult code = fork_work_join();
    return code ? code : cuMemsetD8Async(memory + 8192, 1, 4096, other);
}
static CUresult fork_end_other(void) {
    CUgraph graph;
    CUresult code = fork_other();
    return code ? code : cuStreamEndCapture(other, &graph);
}
static CUresult begin_other_wait_inside(void) {
    CUresult code = cuStreamBeginCapture(other, CU_STREAM_CAPTURE_MODE_RELAXED);
    if (!code) code = cuStreamWaitEvent(other, inside, 0);
    CUgraph graph = NULL;
    cuStreamEndCapture(other, &graph);
    if (graph) cuGraphDestroy(graph);
    return code;
}
static CUresult legacy_waits_inside(void) { return cuStreamWaitEvent(CU_STREAM_LEGACY, inside, 0); }
static CUresult elapsed_inside(void) {
    float ms;
    CUresult code = cuEventRecord(timed[1], self);
    return code ? code : cuEventElapsedTime(&ms, timed[0], timed[1]);
}
static CUresult record_inside_on_other(void) { return cuEventRecord(inside, other); }
static CUresult destroy_self(void) {
    CUresult code = cuStreamDestroy(self);
    if (code == CUDA_SUCCESS) self = NULL;
    return code;
}
static CUresult end_self(void) {
    CUgraph graph = NULL;
    CUresult code = cuStreamEndCapture(self, &graph);
    if (graph) cuGraphDestroy(graph);
    return code;
}
static CUresult end_self_query_inside(void) {
    CUresult code = end_self();
    return code ? code : cuEventQuery(inside);
}
static CUresult end_self_wait_inside(void) {
    CUresult code = end_self();
    return code ? code : cuStreamWaitEvent(other, inside, 0);
}
static CUresult ready_graph(CUstream stream, int launch) {
    CUgraph graph = NULL;
    CUgraphExec exec = NULL;
    CUresult code = cuStreamBeginCapture(other, CU_STREAM_CAPTURE_MODE_RELAXED);
    if (!code) code = cuMemsetD8Async(memory, 0, 4096, other);
    if (!code) code = cuStreamEndCapture(other, &graph);
    if (!code) code = cuGraphInstantiate(&exec, graph, 0);
    if (!code && launch) code = cuGraphLaunch(exec, stream);
    if (exec) cuGraphExecDestroy(exec);
    if (graph) cuGraphDestroy(graph);
    return code;
}
static CUresult instantiate(void) { return ready_graph(other, 0); }
static CUresult launch_graph_other(void) { return ready_graph(other, 1); }
static CUresult launch_graph_self(void) { return ready_graph(self, 1); }

static const struct {
    const char *name;
    CUresult (*call)(void);
} calls[] = {
#define CALL(name) {#name, name}
    CALL(mem_alloc), CALL(mem_alloc_managed), CALL(mem_free), CALL(mem_alloc_host), CALL(mem_free_host),
    CALL(mem_get_info), CALL(ctx_synchronize), CALL(stream_create), CALL(stream_query_other), CALL(stream_query_self),
    CALL(stream_synchronize_other), CALL(stream_synchronize_self), CALL(stream_id_self), CALL(stream_id_other), CALL(event_create), CALL(event_record_other),
    CALL(event_record_self), CALL(event_query_outside), CALL(event_query_inside), CALL(event_synchronize_outside),
    CALL(event_synchronize_inside), CALL(event_elapsed), CALL(wait_self_outside), CALL(wait_self_inside),
    CALL(wait_other_outside), CALL(event_destroy_inside), CALL(ctx_record_event), CALL(alloc_async_other),
    CALL(free_async_other), CALL(pool_create), CALL(pool_trim), CALL(pool_get), CALL(pool_set), CALL(address_reserve),
    CALL(address_free), CALL(create_map_unmap), CALL(advise), CALL(prefetch_self), CALL(prefetch_other),
    CALL(range_attribute), CALL(pointer_attribute), CALL(copy_self), CALL(copy_other), CALL(copy_self_from_host),
    CALL(copy_self_to_host), CALL(fill_self), CALL(fill_legacy), CALL(fill_per_thread), CALL(write_value_self),
    CALL(host_function_self), CALL(module_load), CALL(begin_self_again), CALL(begin_legacy), CALL(end_other),
    CALL(alloc_async_self), CALL(free_async_self), CALL(fork_other), CALL(fork_work), CALL(fork_work_join),
    CALL(fork_work_join_more), CALL(fork_end_other), CALL(begin_other_wait_inside), CALL(legacy_waits_inside),
    CALL(elapsed_inside), CALL(record_inside_on_other), CALL(end_self), CALL(end_self_query_inside),
    CALL(end_self_wait_inside), CALL(instantiate), CALL(launch_graph_other), CALL(launch_graph_self),
    CALL(destroy_self),
};

static const char *const mode_names[] = {"global", "thread_local", "relaxed"};

struct row {
    CUresult (*call)(void);
    CUstreamCaptureMode mode;
    CUresult code;
};

static void *run(void *argument) {
    struct row *row = argument;
    MUST(cuCtxSetCurrent(context));
    CUstreamCaptureMode mode = row->mode;
    MUST(cuThreadExchangeStreamCaptureMode(&mode));
    row->code = row->call();
    MUST(cuThreadExchangeStreamCaptureMode(&mode));
    return NULL;
}

static void set_up(void) {
    MUST(cuStreamCreate(&self, blocking ? CU_STREAM_DEFAULT : CU_STREAM_NON_BLOCKING));
    MUST(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
    MUST(cuEventCreate(&outside, CU_EVENT_DISABLE_TIMING));
    MUST(cuEventCreate(&inside, CU_EVENT_DISABLE_TIMING));
    for (int i = 0; i < 2; i++) MUST(cuEventCreate(&timed[i], CU_EVENT_DEFAULT));
    MUST(cuMemAllocFromPoolAsync(&spare, 1 << 16, pool, other));
    MUST(cuMemAllocHost(&pinned, 1 << 12));
    MUST(cuMemAddressReserve(&reserved, 2 * granularity, 0, 0, 0));
    MUST(cuEventRecord(outside, other));
    for (int i = 0; i < 2; i++) MUST(cuEventRecord(timed[i], other));
    MUST(cuCtxSynchronize());
}

static void tear_down(void) {
    if (made_memory) cuMemFree(made_memory);
    if (made_stream) cuStreamDestroy(made_stream);
    if (made_event) cuEventDestroy(made_event);
    if (made_module) cuModuleUnload(made_module);
    if (made_pool) cuMemPoolDestroy(made_pool);
    if (made_pinned) cuMemFreeHost(made_pinned);
    if (made_range) cuMemAddressFree(made_range, granularity);
    made_memory = made_range = 0;
    made_stream = NULL;
    made_event = NULL;
    made_module = NULL;
    made_pool = NULL;
    made_pinned = NULL;
    if (spare) cuMemFree(spare);
    if (pinned) cuMemFreeHost(pinned);
    if (reserved) cuMemAddressFree(reserved, 2 * granularity);
    spare = reserved = 0;
    pinned = NULL;
    cuEventDestroy(outside);
    if (inside) cuEventDestroy(inside);
    for (int i = 0; i < 2; i++) cuEventDestroy(timed[i]);
    if (self) cuStreamDestroy(self);
    cuStreamDestroy(other);
    MUST(cuCtxSynchronize());
}

static void probe(size_t call, int capture_mode, int thread_mode, int same_thread) {
    set_up();
    MUST(cuStreamBeginCapture(self, (CUstreamCaptureMode)capture_mode));
    MUST(cuMemsetD8Async(memory, 0, 4096, self));
    MUST(cuEventRecord(inside, self));
    struct row row = {calls[call].call, (CUstreamCaptureMode)thread_mode, CUDA_SUCCESS};
    if (same_thread) {
        run(&row);
    } else {
        pthread_t thread;
        pthread_create(&thread, NULL, run, &row);
        pthread_join(thread, NULL);
    }
    CUstreamCaptureStatus status;
    CUresult asked = self ? cuStreamIsCapturing(self, &status) : CUDA_ERROR_INVALID_HANDLE;
    CUgraph graph = NULL;
    CUresult ended = self ? cuStreamEndCapture(self, &graph) : CUDA_ERROR_INVALID_HANDLE;
    printf("%s,%s,%s,%s,%s,%d,%d,%d\n", calls[call].name, blocking ? "blocking" : "non_blocking",
           mode_names[capture_mode], same_thread ? "capturing" : "another", mode_names[thread_mode], row.code,
           asked == CUDA_SUCCESS ? (int)status : -1, ended);
    fflush(stdout);
    if (graph) cuGraphDestroy(graph);
    tear_down();
}

// Prints the time of two exchanges of the mode of the thread, which surround a call.
static int exchange_cost(void) {
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < 1000000; i++) {
        CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
        MUST(cuThreadExchangeStreamCaptureMode(&mode));
        MUST(cuThreadExchangeStreamCaptureMode(&mode));
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    double ns = (end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec);
    fprintf(stderr, "two exchanges of the mode: %.1f ns\n", ns / 1000000);
    return 0;
}

int main(void) {
    MUST(cuInit(0));
    MUST(cuDeviceGet(&device, 0));
    MUST(cuDevicePrimaryCtxRetain(&context, device));
    MUST(cuCtxSetCurrent(context));
    MUST(cuMemAlloc(&memory, 1 << 16));
    MUST(cuMemAllocManaged(&managed, 1 << 16, CU_MEM_ATTACH_GLOBAL));
    MUST(cuDeviceGetDefaultMemPool(&pool, device));
    chunk_prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    chunk_prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    MUST(cuMemGetAllocationGranularity(&granularity, &chunk_prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
    int version;
    char name[64];
    MUST(cuDriverGetVersion(&version));
    MUST(cuDeviceGetName(name, sizeof name, device));
    printf("# %s, CUDA driver %d\n", name, version);
    printf("call,stream,capture_mode,thread,thread_mode,code,status,end_code\n");
    for (size_t call = 0; call < sizeof calls / sizeof *calls; call++) {
        for (int capture_mode = 0; capture_mode < 3; capture_mode++) {
            for (int same_thread = 1; same_thread >= 0; same_thread--) {
                for (int thread_mode = 0; thread_mode < 3; thread_mode++) {
                    blocking = 0;
                    probe(call, capture_mode, thread_mode, same_thread);
                }
            }
        }
        blocking = 1;
        probe(call, 2, 2, 1);
    }
    return exchange_cost();
}
