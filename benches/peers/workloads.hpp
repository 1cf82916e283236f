// The workloads of the Rust benches `allocate`, `random_allocations`, `threads` and `replay`, for a peer's allocator.
// A peer has `static void* allocate(size_t, cudaStream_t)`, `static void free(void*, size_t, cudaStream_t)`,
// `static size_t reserved_peak()` and `static void start()`, which empties the allocator.
#pragma once

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cuda_runtime_api.h>
#include <fstream>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

using Clock = std::chrono::steady_clock;
constexpr size_t MIB = 1 << 20;

inline void check(cudaError_t error) {
    if (error == cudaSuccess) return;
    std::fprintf(stderr, "%s\n", cudaGetErrorString(error));
    std::exit(1);
}

inline cudaStream_t new_stream() {
    cudaStream_t stream;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream;
}

inline double since(Clock::time_point start) { return std::chrono::duration<double, std::nano>(Clock::now() - start).count(); }

// The median of ten samples of at least 40 ms, or of three if one takes longer than 0.4 s. `run` takes a count and
// returns the nanoseconds for all of them.
inline double median_of(const std::function<double(size_t)>& run, size_t count = 64) {
    double last = run(count);
    for (; last < 4e7; last = run(count)) count *= 2;
    std::vector<double> samples;
    for (int sample = 0; sample < (last > 4e8 ? 3 : 10); ++sample) samples.push_back(run(count) / count);
    std::sort(samples.begin(), samples.end());
    return samples[samples.size() / 2];
}

template <class Peer> void pairs(const char* name) {
    for (size_t bytes : {size_t(256), size_t(64) << 10, MIB}) {
        Peer::start();
        cudaStream_t stream = new_stream();
        double ns = median_of([&](size_t count) {
            auto start = Clock::now();
            for (size_t i = 0; i < count; ++i) Peer::free(Peer::allocate(bytes, stream), bytes, stream);
            return since(start);
        });
        std::printf("%s pair of %zu bytes: %.1f ns\n", name, bytes, ns);
    }
}

template <class Peer> double random_steps(size_t blocks) {
    std::default_random_engine engine;
    std::uniform_int_distribution<size_t> size(1, 4 * MIB), victim(0, blocks - 1);
    std::uniform_int_distribution<int> percent(0, 99);
    std::vector<std::pair<void*, size_t>> live;
    size_t allocated = 0, bytes = 0;
    auto start = Clock::now();
    for (size_t step = 0; step < 2 * blocks; ++step) {
        size_t wanted = size(engine);
        if (live.empty() || (percent(engine) < 73 && allocated < blocks && bytes + wanted < 16000 * MIB)) {
            live.emplace_back(Peer::allocate(wanted, nullptr), wanted);
            ++allocated;
            bytes += wanted;
        } else {
            std::swap(live[victim(engine) % live.size()], live.back());
            bytes -= live.back().second;
            Peer::free(live.back().first, live.back().second, nullptr);
            live.pop_back();
        }
    }
    double elapsed = since(start);
    for (auto [pointer, wanted] : live) Peer::free(pointer, wanted, nullptr);
    return elapsed;
}

template <class Peer> void random_allocations(const char* name) {
    for (size_t blocks : {1000, 10000, 100000}) {
        Peer::start();
        double ns = median_of([&](size_t rounds) {
            double sum = 0;
            for (size_t round = 0; round < rounds; ++round) sum += random_steps<Peer>(blocks) / (2 * blocks);
            return sum * (2 * blocks);
        }, 1) / (2 * blocks);
        std::printf("%s random_allocations of %zu blocks: %.1f ns\n", name, blocks, ns);
    }
}

// `next` frees in the next thread, through a ring with a lock for each place, as the Rust bench does.
template <class Peer> double threads_run(size_t threads, size_t count, bool next) {
    constexpr size_t LIVE = 64;
    struct alignas(128) Place { std::mutex lock; std::pair<void*, size_t> block{nullptr, 0}; };
    std::vector<std::vector<Place>> rings(threads);
    for (auto& ring : rings) ring = std::vector<Place>(LIVE);
    std::barrier barrier(static_cast<std::ptrdiff_t>(threads));
    std::vector<double> times(threads);
    std::vector<std::thread> workers;
    for (size_t thread = 0; thread < threads; ++thread) workers.emplace_back([&, thread] {
        cudaStream_t stream = new_stream();
        std::default_random_engine engine;
        std::uniform_int_distribution<int> shift(0, 11);
        std::vector<size_t> sizes(1024);
        for (auto& bytes : sizes) bytes = size_t(256) << shift(engine);
        auto allocate = [&](size_t step) { auto bytes = sizes[step % sizes.size()]; return std::pair{Peer::allocate(bytes, stream), bytes}; };
        auto release = [&](std::pair<void*, size_t> block) { if (block.first) Peer::free(block.first, block.second, stream); };
        auto replace = [&](Place& place, std::pair<void*, size_t> block) {
            std::lock_guard guard(place.lock);
            std::swap(place.block, block);
            return block;
        };
        std::vector<std::pair<void*, size_t>> live;
        auto &mine = rings[thread], &others = rings[(thread + threads - 1) % threads];
        for (size_t step = 0; step < LIVE; ++step) next ? (void)replace(mine[step], allocate(step)) : live.push_back(allocate(step));
        barrier.arrive_and_wait();
        auto start = Clock::now();
        for (size_t step = 0; step < count; ++step) {
            if (next) {
                release(replace(mine[step % LIVE], allocate(step + LIVE)));
                release(replace(others[(step + LIVE / 2) % LIVE], {nullptr, 0}));
            } else {
                release(live[step % LIVE]);
                live[step % LIVE] = allocate(step + LIVE);
            }
        }
        times[thread] = since(start);
        barrier.arrive_and_wait();
        for (auto block : live) release(block);
        if (next) for (auto& place : mine) release(replace(place, {nullptr, 0}));
        check(cudaStreamSynchronize(stream));
    });
    double sum = 0;
    for (size_t thread = 0; thread < threads; ++thread) workers[thread].join(), sum += times[thread];
    return sum / threads;
}

template <class Peer> void with_threads(const char* name) {
    for (bool next : {false, true})
        for (size_t threads : {1, 2, 4, 8, 16}) {
            Peer::start();
            double ns = median_of([&](size_t count) { return threads_run<Peer>(threads, count, next); });
            std::printf("%s %zu threads%s: %.1f ns\n", name, threads, next ? ", freed by the next thread" : "", ns);
        }
}

// Replays a log in RMM's format (Thread,Time,Action,Pointer,Size,Stream), after a pass that warms the allocator.
template <class Peer> void replay(const char* name, const std::string& path) {
    struct Step { bool allocate; size_t block, bytes, stream; };
    std::ifstream file(path);
    if (!file) { std::fprintf(stderr, "%s: cannot be read\n", path.c_str()); std::exit(1); }
    std::string line, field;
    std::getline(file, line);
    std::vector<Step> steps;
    std::unordered_map<std::string, size_t> live;
    std::map<std::string, size_t> names;
    size_t blocks = 0, requested = 0, peak = 0;
    while (std::getline(file, line)) {
        std::vector<std::string> row;
        for (std::istringstream fields(line); std::getline(fields, field, ',');) row.push_back(field);
        if (row.size() < 6) continue;
        size_t bytes = std::stoull(row[4]), stream = names.emplace(row[5], names.size()).first->second;
        if (row[2] == "allocate") {
            live[row[3]] = blocks;
            steps.push_back({true, blocks++, bytes, stream});
            peak = std::max(peak, requested += bytes);
        } else if (auto found = live.find(row[3]); found != live.end()) {
            steps.push_back({false, found->second, bytes, stream});
            live.erase(found);
            requested -= bytes;
        }
    }
    Peer::start();
    std::vector<cudaStream_t> streams;
    for (size_t i = 0; i < names.size(); ++i) streams.push_back(new_stream());
    struct Held { void* pointer = nullptr; size_t bytes = 0, stream = 0; };
    auto pass = [&] {
        std::vector<Held> held(blocks);
        auto start = Clock::now();
        for (auto& step : steps) {
            if (step.allocate) held[step.block] = {Peer::allocate(step.bytes, streams[step.stream]), step.bytes, step.stream};
            else Peer::free(held[step.block].pointer, step.bytes, streams[step.stream]), held[step.block].pointer = nullptr;
        }
        double elapsed = since(start);
        for (auto& block : held) if (block.pointer) Peer::free(block.pointer, block.bytes, streams[block.stream]);
        return elapsed / steps.size();
    };
    pass();
    std::vector<double> times;
    for (int i = 0; i < 9; ++i) times.push_back(pass());
    std::sort(times.begin(), times.end());
    std::printf("%s replay %s: %.1f ns, reserved / requested %.3f\n", name, path.substr(path.find_last_of('/') + 1).c_str(), times[4], double(Peer::reserved_peak()) / double(peak));
}

template <class Peer> int all(const char* name, int count, char** arguments) {
    pairs<Peer>(name);
    random_allocations<Peer>(name);
    with_threads<Peer>(name);
    for (int i = 1; i < count; ++i) replay<Peer>(name, arguments[i]);
    return 0;
}
