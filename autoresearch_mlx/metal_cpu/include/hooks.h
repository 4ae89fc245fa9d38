// What the compiler calls in the checked build: its own names; the sanitizer's library is not linked.
#pragma once
#include "shadow.h"

extern "C" {
#define MSL_HOOK(name, bytes, mode)                                                                     \
    void __tsan_##name(void* address) {                                                                 \
        msl_rt::access(address, bytes, msl_rt::mode, __builtin_return_address(0), false);               \
    }
#define MSL_HOOKS(bytes)                                                                                \
    MSL_HOOK(read##bytes, bytes, READ)                                                                  \
    MSL_HOOK(write##bytes, bytes, WRITE)                                                                \
    MSL_HOOK(unaligned_read##bytes, bytes, READ)                                                        \
    MSL_HOOK(unaligned_write##bytes, bytes, WRITE)                                                      \
    MSL_HOOK(volatile_read##bytes, bytes, READ)                                                         \
    MSL_HOOK(volatile_write##bytes, bytes, WRITE)                                                       \
    MSL_HOOK(unaligned_volatile_read##bytes, bytes, READ)                                               \
    MSL_HOOK(unaligned_volatile_write##bytes, bytes, WRITE)                                             \
    void __tsan_read_write##bytes(void* address) {                                                      \
        msl_rt::access(address, bytes, msl_rt::READ, __builtin_return_address(0), false);               \
        msl_rt::access(address, bytes, msl_rt::WRITE, __builtin_return_address(0), false);              \
    }                                                                                                   \
    void __tsan_unaligned_read_write##bytes(void* address) {                                            \
        msl_rt::access(address, bytes, msl_rt::READ, __builtin_return_address(0), false);               \
        msl_rt::access(address, bytes, msl_rt::WRITE, __builtin_return_address(0), false);              \
    }
MSL_HOOKS(1)
MSL_HOOKS(2)
MSL_HOOKS(4)
MSL_HOOKS(8)
MSL_HOOKS(16)
void __tsan_read_range(void* address, unsigned long bytes) {
    msl_rt::access(address, bytes, msl_rt::READ, __builtin_return_address(0), false);
}
void __tsan_write_range(void* address, unsigned long bytes) {
    msl_rt::access(address, bytes, msl_rt::WRITE, __builtin_return_address(0), false);
}
void* __tsan_memcpy(void* to, const void* from, size_t bytes) {
    msl_rt::access(from, bytes, msl_rt::READ, __builtin_return_address(0), false);
    msl_rt::access(to, bytes, msl_rt::WRITE, __builtin_return_address(0), false);
    return memcpy(to, from, bytes);
}
void* __tsan_memmove(void* to, const void* from, size_t bytes) {
    msl_rt::access(from, bytes, msl_rt::READ, __builtin_return_address(0), false);
    msl_rt::access(to, bytes, msl_rt::WRITE, __builtin_return_address(0), false);
    return memmove(to, from, bytes);
}
void* __tsan_memset(void* to, int value, size_t bytes) {
    msl_rt::access(to, bytes, msl_rt::WRITE, __builtin_return_address(0), false);
    return memset(to, value, bytes);
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

void msl_atomic_access(const void* address, unsigned bytes, int mode, void* caller) {
    msl_rt::access(address, bytes, static_cast<msl_rt::Mode>(mode), caller, true);
}
}
