// Buffers between red zones, stacks between guard pages, and what happens when a kernel touches either.
#pragma once
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ucontext.h>
#include <unistd.h>

#include "state.h"

namespace msl_rt {

inline size_t page_bytes() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

inline size_t whole_pages(size_t bytes) { return (bytes + page_bytes() - 1) / page_bytes() * page_bytes(); }

inline unsigned char* reserve(size_t bytes, int protection) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* memory = mmap(nullptr, bytes, protection, flags, -1, 0);
    return memory == MAP_FAILED ? nullptr : static_cast<unsigned char*>(memory);
}

// Sizes are rounded up to the largest alignment of a vector type, so that the end of a buffer may be followed by up to
// 15 bytes of slack before the guard page; the slack is poisoned.
inline size_t padded(size_t bytes) { return (bytes + 15) / 16 * 16; }

inline bool place_buffers() {
#if defined(MSL_CHECKED)
    constexpr int outside = PROT_READ | PROT_WRITE;  // the checker reports; the access itself goes on
#else
    constexpr int outside = PROT_NONE;
#endif
    heap_bytes = RED_ZONE;
    for (int i = 0; i < launch->buffer_count; ++i) {
        heap_bytes += whole_pages(padded(launch->buffers[i].bytes)) + RED_ZONE;
    }
    heap = reserve(heap_bytes, outside);
    if (!heap) return false;
    unsigned char* at = heap + RED_ZONE;
    for (int i = 0; i < launch->buffer_count; ++i) {
        Buffer& buffer = launch->buffers[i];
        size_t pages = whole_pages(padded(buffer.bytes));
        unsigned char* base = at + pages - padded(buffer.bytes);
        if (pages) mprotect(at, pages, PROT_READ | PROT_WRITE);
        memset(at, 0xff, static_cast<size_t>(base - at));
        memset(base + buffer.bytes, 0xff, padded(buffer.bytes) - buffer.bytes);
        if (buffer.writable && !buffer.initialised) {
            for (size_t k = 0; k < buffer.bytes; k += 8) {
                memcpy(base + k, &buffer.poison, buffer.bytes - k < 8 ? buffer.bytes - k : 8);
            }
        } else if (buffer.bytes) {
            memcpy(base, buffer.data, buffer.bytes);
        }
#if !defined(MSL_CHECKED)
        if (pages && !buffer.writable) mprotect(at, pages, PROT_READ);
#endif
        regions[i] = {base, buffer.bytes, &buffer};
        kernel_arguments[i] = base + buffer.first;
        at += pages + RED_ZONE;
    }
    return true;
}

inline void collect_outputs() {
    for (int i = 0; i < launch->buffer_count; ++i) {
        Buffer& buffer = launch->buffers[i];
        if (buffer.writable && buffer.bytes) memcpy(buffer.data, regions[i].base, buffer.bytes);
    }
}

inline bool place_stacks(unsigned count) {
    stacks_bytes = count * launch->stack_bytes;
    stacks = reserve(stacks_bytes, PROT_READ | PROT_WRITE);
    if (!stacks) return false;
    for (unsigned i = 0; i < count; ++i) mprotect(stacks + i * launch->stack_bytes, page_bytes(), PROT_NONE);
    return true;
}

inline void release_memory() {
    if (heap) munmap(heap, heap_bytes);
    if (stacks) munmap(stacks, stacks_bytes);
    heap = stacks = nullptr;
}

// The buffer whose own bytes or red zones hold `address`; the nearer one between two. Null outside of the heap.
inline Region* region_of(const void* address) {
    auto* at = static_cast<const unsigned char*>(address);
    if (at < heap || at >= heap + heap_bytes) return nullptr;
    int low = 0, high = launch->buffer_count - 1;
    while (low < high) {  // the last region that starts at or before the address
        int middle = (low + high + 1) / 2;
        if (regions[middle].base <= at) low = middle;
        else high = middle - 1;
    }
    if (low + 1 < launch->buffer_count && at >= regions[low].base + regions[low].bytes) {
        auto after = at - (regions[low].base + regions[low].bytes);
        if (regions[low + 1].base - at < after) ++low;
    }
    return &regions[low];
}

inline int64_t element_index(const Region& region, const void* address) {
    int64_t bytes = static_cast<const unsigned char*>(address) - (region.base + region.buffer->first);
    int64_t element = region.buffer->element;
    return (bytes - (bytes < 0 ? element - 1 : 0)) / element;
}

inline pthread_t owner;
inline struct sigaction previous[2];
inline stack_t previous_stack;
alignas(16) inline unsigned char signal_stack[65536];

inline void* fault_code(void* context) {
#if defined(__linux__) && defined(__x86_64__)
    return reinterpret_cast<void*>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]);
#elif defined(__linux__) && defined(__aarch64__)
    return reinterpret_cast<void*>(static_cast<ucontext_t*>(context)->uc_mcontext.pc);
#elif defined(__APPLE__) && defined(__x86_64__)
    return reinterpret_cast<void*>(static_cast<ucontext_t*>(context)->uc_mcontext->__ss.__rip);
#elif defined(__APPLE__) && defined(__aarch64__)
    return reinterpret_cast<void*>(static_cast<ucontext_t*>(context)->uc_mcontext->__ss.__pc);
#else
    return nullptr;
#endif
}

inline bool fault_writes(void* context) {
#if defined(__linux__) && defined(__x86_64__)
    return static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_ERR] & 2;
#else
    (void)context;
    return false;
#endif
}

// A fault of the kernel ends the launch: note it and go back to the scheduler. Any other one is not ours to handle.
inline void on_fault(int number, siginfo_t* info, void* context) {
    if (!current || !pthread_equal(owner, pthread_self())) {
        sigaction(number, &previous[number == SIGBUS], nullptr);
        return;
    }
    Finding found{};
    found.thread = static_cast<int32_t>(current->thread.index_in_threadgroup);
    found.code = code_offset(fault_code(context)) + 1;
    found.writes = fault_writes(context);
    auto* at = static_cast<unsigned char*>(info->si_addr);
    if (Region* region = region_of(at)) {
        bool inside = at >= region->base && at < region->base + region->bytes;
        found.kind = inside ? INPUT_WRITTEN : found.writes ? WRITE_OUTSIDE : READ_OUTSIDE;
        found.index = element_index(*region, at);
        copy_name(found, region->buffer->name);
    } else if (stacks && at >= stacks && at < stacks + stacks_bytes) {
        found.kind = STACK_OVERFLOW;
    } else {
        found.kind = WILD_ACCESS;
    }
    report(found);
    launch->aborted = 1;
    current = nullptr;
    static Context abandoned;
    switch_context(abandoned, scheduler);
}

inline void catch_faults() {
    owner = pthread_self();
    stack_t own{};
    own.ss_sp = signal_stack;
    own.ss_size = sizeof signal_stack;
    sigaltstack(&own, &previous_stack);
    struct sigaction action{};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &action, &previous[0]);
    sigaction(SIGBUS, &action, &previous[1]);
}

inline void release_faults() {
    sigaction(SIGSEGV, &previous[0], nullptr);
    sigaction(SIGBUS, &previous[1], nullptr);
    sigaltstack(&previous_stack, nullptr);
}

}  // namespace msl_rt
