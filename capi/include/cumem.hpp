// C++ over cumem.h, header only, for C++17 and later.
//
// With the headers of CCCL on the include path, cumem::resource and cumem::host_device_resource satisfy
// cuda::mr::resource, so RMM, cudf and all of CCCL accept them. Without CCCL, streams are void*.
#ifndef CUMEM_HPP
#define CUMEM_HPP

#include "cumem.h"

#include <cstddef>
#include <cstdio>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#if defined(__has_include) && !defined(CUMEM_WITHOUT_CCCL)
#  if __has_include(<cuda/memory_resource>) && __has_include(<cuda_runtime_api.h>)
#    include <cuda/memory_resource>
#    include <cuda/stream_ref>
#    define CUMEM_HAS_CCCL 1
#  endif
#endif

namespace cumem {

// A failure that is no lack of memory.
class error : public std::runtime_error {
public:
    explicit error(const cumem_error &from) : std::runtime_error(from.text), details(from) {}
    cumem_status status() const noexcept { return details.status; }
    const cumem_error details;
};

// The device is out of memory, or a limit or a pool's maximum would be exceeded.
class out_of_memory : public std::bad_alloc {
public:
    explicit out_of_memory(const cumem_error &from) : details(from) {}
    const char *what() const noexcept override { return details.text; }
    cumem_status status() const noexcept { return details.status; }
    const cumem_error details;
};

// Throws if `status` is a failure.
inline void check(cumem_status status, const cumem_error &from) {
    switch (status) {
    case CUMEM_STATUS_SUCCESS: return;
    case CUMEM_STATUS_OUT_OF_MEMORY:
    case CUMEM_STATUS_LIMIT_EXCEEDED: throw out_of_memory(from);
    default: throw error(from);
    }
}

// Owns an open stack, and closes it. Copies share the stack, which is closed with the last copy.
class stack {
public:
    // On a GPU.
    explicit stack(const char *spec, int device = 0) : stack(spec, device, nullptr) {}
    // On a simulated device, for example "a100" or "gtx1080ti:4GiB".
    static stack simulated(const char *spec, const char *profile) { return stack(spec, 0, profile); }

    cumem_stack *get() const noexcept { return handle.get(); }

    void *allocate(std::size_t bytes, std::size_t alignment = 0, void *stream = nullptr) const {
        void *address = nullptr;
        cumem_error failure;
        check(cumem_allocate(get(), bytes, alignment, stream, &address, &failure), failure);
        return address;
    }
    void free(void *address, std::size_t bytes = 0, void *stream = nullptr) const {
        cumem_error failure;
        check(cumem_free(get(), address, bytes, stream, &failure), failure);
    }
    // The memory is not handed out again before `stream` has passed the point of its free.
    void record_use(void *address, void *stream) const {
        cumem_error failure;
        check(cumem_record_use(get(), address, stream, &failure), failure);
    }
    void synchronize(void *stream = nullptr) const {
        cumem_error failure;
        check(cumem_stream_synchronize(get(), stream, &failure), failure);
    }
    cumem_counters counters() const {
        cumem_counters result;
        cumem_error failure;
        check(cumem_get_counters(get(), &result, &failure), failure);
        return result;
    }
    void reset_peak() const {
        cumem_error failure;
        check(cumem_reset_peak(get(), &failure), failure);
    }
    // Returns the bytes that were freed.
    std::size_t trim(std::size_t keep = 0) const {
        std::size_t freed = 0;
        cumem_error failure;
        check(cumem_trim(get(), keep, &freed, &failure), failure);
        return freed;
    }
    void set_limit(std::size_t bytes) const {
        cumem_error failure;
        check(cumem_set_limit(get(), bytes, &failure), failure);
    }
    bool host_accessible() const { return (access() & CUMEM_ACCESS_HOST) != 0; }
    bool device_accessible() const { return (access() & CUMEM_ACCESS_DEVICE) != 0; }
    std::string text() const {
        char *text = nullptr;
        cumem_error failure;
        check(cumem_stack_text(get(), &text, &failure), failure);
        return take(text);
    }
    std::string snapshot(cumem_format format = CUMEM_FORMAT_JSON) const {
        char *text = nullptr;
        cumem_error failure;
        check(cumem_snapshot(get(), format, &text, &failure), failure);
        return take(text);
    }

    friend bool operator==(const stack &a, const stack &b) noexcept { return a.get() == b.get(); }
    friend bool operator!=(const stack &a, const stack &b) noexcept { return !(a == b); }

private:
    stack(const char *spec, int device, const char *profile) {
        cumem_stack *opened = nullptr;
        cumem_error failure;
        check(cumem_stack_open(spec, device, profile, &opened, &failure), failure);
        handle = std::shared_ptr<cumem_stack>(opened, close);
    }
    static void close(cumem_stack *opened) noexcept {
        cumem_error failure;
        if (cumem_stack_close(opened, &failure) != CUMEM_STATUS_SUCCESS)
            std::fprintf(stderr, "cumem: %s\n", failure.text);
    }
    unsigned access() const {
        unsigned result = 0;
        cumem_error failure;
        check(cumem_stack_access(get(), &result, &failure), failure);
        return result;
    }
    static std::string take(char *text) {
        std::unique_ptr<char, void (*)(char *)> owned(text, cumem_text_free);
        return std::string(text);
    }

    std::shared_ptr<cumem_stack> handle;
};

#ifdef CUMEM_HAS_CCCL
namespace detail {
using stream = ::cuda::stream_ref;
inline void *raw(stream of) { return of.get(); }
constexpr std::size_t alignment = ::cuda::mr::default_cuda_malloc_alignment;
} // namespace detail
#else
namespace detail {
using stream = void *;
inline void *raw(stream of) { return of; }
constexpr std::size_t alignment = 256;
} // namespace detail
#endif

// A stack as a memory resource of device-accessible memory. If Host is true, the memory is also host-accessible.
// Two resources are equal if each can free the memory of the other: if they share a stack.
template <bool Host>
class basic_resource {
public:
    explicit basic_resource(stack over) : memory(std::move(over)) {
        if (!memory.device_accessible() || (Host && !memory.host_accessible()))
            throw std::invalid_argument("the memory of the stack `" + memory.text() + "` is of another kind");
    }

    void *allocate(detail::stream on, std::size_t bytes, std::size_t alignment = detail::alignment) {
        return memory.allocate(bytes, alignment, detail::raw(on));
    }
    // A free that fails is written to standard error, and changes nothing.
    void deallocate(detail::stream on, void *address, std::size_t bytes,
                    std::size_t = detail::alignment) noexcept {
        cumem_error failure;
        if (cumem_free(memory.get(), address, bytes, detail::raw(on), &failure) != CUMEM_STATUS_SUCCESS)
            std::fprintf(stderr, "cumem: %s\n", failure.text);
    }
    // The memory may be used on every stream, and by the host, at once.
    void *allocate_sync(std::size_t bytes, std::size_t alignment = detail::alignment) {
        void *address = memory.allocate(bytes, alignment, nullptr);
        try {
            memory.synchronize(nullptr);
        } catch (...) {
            deallocate_sync(address, bytes, alignment);
            throw;
        }
        return address;
    }
    // All work with the memory is done.
    void deallocate_sync(void *address, std::size_t bytes, std::size_t = detail::alignment) noexcept {
        cumem_error failure;
        if (cumem_free(memory.get(), address, bytes, nullptr, &failure) != CUMEM_STATUS_SUCCESS)
            std::fprintf(stderr, "cumem: %s\n", failure.text);
    }

    const stack &get_stack() const noexcept { return memory; }

    friend bool operator==(const basic_resource &a, const basic_resource &b) noexcept { return a.memory == b.memory; }
    friend bool operator!=(const basic_resource &a, const basic_resource &b) noexcept { return !(a == b); }

#ifdef CUMEM_HAS_CCCL
    friend constexpr void get_property(const basic_resource &, ::cuda::mr::device_accessible) noexcept {}
#endif

private:
    stack memory;
};

#ifdef CUMEM_HAS_CCCL
template <bool Host, class = std::enable_if_t<Host>>
constexpr void get_property(const basic_resource<Host> &, ::cuda::mr::host_accessible) noexcept {}
#endif

// Over device memory, or over any memory that a device can access.
using resource = basic_resource<false>;
// Over managed or pinned memory.
using host_device_resource = basic_resource<true>;

#ifdef CUMEM_HAS_CCCL
static_assert(::cuda::mr::resource_with<resource, ::cuda::mr::device_accessible>);
static_assert(!::cuda::has_property<resource, ::cuda::mr::host_accessible>);
static_assert(
    ::cuda::mr::resource_with<host_device_resource, ::cuda::mr::device_accessible, ::cuda::mr::host_accessible>);
#endif

} // namespace cumem

#endif // CUMEM_HPP
