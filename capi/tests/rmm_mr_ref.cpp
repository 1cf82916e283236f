// RMM's own tests of a memory resource, over stacks of cumem on a GPU. Compiled by ci/rmm_mr_ref.sh, which has RMM's tests
// on the include path.
#include "cccl_mr_ref_test_allocation.hpp"
#include "cccl_mr_ref_test_basic.hpp"
#include "cccl_mr_ref_test_mt.hpp"

#include <cumem.hpp>
#include <rmm/device_buffer.hpp>
#include <rmm/device_uvector.hpp>

namespace rmm::test {

// The stack is open as long as a test of it runs. A test that leaves a live block fails.
template <class Resource>
struct over_stack : public ::testing::Test {
    explicit over_stack(char const *spec) : memory(cumem::stack(spec)), ref(memory) {}
    void TearDown() override { EXPECT_EQ(memory.get_stack().counters().live_blocks, 0U); }

    Resource memory;
    rmm::device_async_resource_ref ref;
    rmm::cuda_stream stream{};
};

struct leaf : over_stack<cumem::resource> {
    leaf() : over_stack("device") {}
};
struct pool : over_stack<cumem::resource> {
    pool() : over_stack("device | pool") {}
};
struct counted : over_stack<cumem::resource> {
    counted() : over_stack("virtual | pool | limit(80%) | statistics") {}
};
struct graphs : over_stack<cumem::resource> {
    graphs() : over_stack("virtual | pool | graph_pools(detect)") {}
};
struct managed : over_stack<cumem::host_device_resource> {
    managed() : over_stack("managed | pool") {}
};
struct pinned : over_stack<cumem::host_device_resource> {
    pinned() : over_stack("pinned | pool") {}
};

#define EVERY_TEST(fixture)                                                      \
    INSTANTIATE_TYPED_TEST_SUITE_P(fixture, CcclMrRefTest, fixture);             \
    INSTANTIATE_TYPED_TEST_SUITE_P(fixture, CcclMrRefAllocationTest, fixture);   \
    INSTANTIATE_TYPED_TEST_SUITE_P(fixture, CcclMrRefTestMT, fixture)
EVERY_TEST(leaf);
EVERY_TEST(pool);
EVERY_TEST(counted);
EVERY_TEST(graphs);
EVERY_TEST(managed);
EVERY_TEST(pinned);

// What cudf does: the resource of the device is set once, and containers take it from there or as an argument.
TEST(CurrentDeviceResource, ContainersUseTheStack) {
    cumem::stack stack("device | pool | statistics");
    {
        rmm::mr::set_current_device_resource(cumem::resource(stack));
        rmm::cuda_stream stream;
        std::vector<int> const numbers{1, 2, 3, 4, 5};
        rmm::device_buffer buffer(numbers.data(), numbers.size() * sizeof(int), stream);
        rmm::device_uvector<int> copied(numbers.size(), stream);
        RMM_CUDA_TRY(cudaMemcpyAsync(copied.data(), buffer.data(), buffer.size(), cudaMemcpyDefault, stream.value()));
        EXPECT_EQ(stack.counters().live_blocks, 2U);
        buffer.resize(1 << 20, stream);
        EXPECT_GE(stack.counters().live_bytes, std::size_t{1} << 20);
        std::vector<int> back(numbers.size());
        RMM_CUDA_TRY(cudaMemcpyAsync(back.data(), copied.data(), back.size() * sizeof(int), cudaMemcpyDefault, stream.value()));
        stream.synchronize();
        EXPECT_EQ(back, numbers);
        rmm::mr::reset_current_device_resource();
        EXPECT_EQ(stack.counters().live_blocks, 2U);
    }
    EXPECT_EQ(stack.counters().live_blocks, 0U);
}

TEST(CurrentDeviceResource, ARefusalIsBadAlloc) {
    cumem::resource memory(cumem::stack("device | pool | limit(1MiB)"));
    rmm::cuda_stream stream;
    EXPECT_THROW(rmm::device_buffer(2 << 20, stream, memory), std::bad_alloc);
    EXPECT_EQ(memory.get_stack().counters().live_blocks, 0U);
}

}  // namespace rmm::test
