// PyTorch takes null for memory, so a failed allocation throws. Run by ci/capi.sh with CUMEM_PROFILE and CUMEM_STACK.
#include <cumem.h>
#include <cstdio>
#include <stdexcept>
#include <string>

int main() {
    void *memory = cumem_torch_alloc(1000, 0, nullptr);
    if (!memory) return 1;
    cumem_torch_free(memory, 1000, 0, nullptr);
    for (int i = 0; i < 1000; i++) {
        try {
            cumem_torch_alloc(std::ptrdiff_t(1) << 42, 0, nullptr);
            return 2;
        } catch (const std::runtime_error &error) {
            if (std::string(error.what()).find("4 TiB") == std::string::npos) return 3;
        }
    }
    std::puts("1000 exceptions");
}
