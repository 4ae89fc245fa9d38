// Atomics. Threads run one after the other, so plain operations do; the checked build is told that they are atomic.
#pragma once
#include "runtime.h"
#include "types.h"

namespace msl {
namespace metal {

enum memory_order { memory_order_relaxed };

template <typename T> struct atomic {
    static_assert(is_same_v<T, int> || is_same_v<T, uint> || is_same_v<T, bool> || is_same_v<T, float> ||
                      is_same_v<T, ulong>,
                  "Metal has atomic int, uint, bool, float and ulong only");
    T value;
};
template <typename T> using _atomic = atomic<T>;
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<bool> atomic_bool;
typedef atomic<float> atomic_float;
typedef atomic<ulong> atomic_ulong;

template <typename T> struct msl_same { using type = T; };
template <typename T> using msl_argument = typename msl_same<T>::type;  // takes no part in deduction

#if defined(MSL_CHECKED)
#define MSL_ATOMIC(object, writes)                                                        \
    msl_atomic_access(const_cast<const T*>(&(object)->value), sizeof(T), writes, __builtin_return_address(0))
#else
#define MSL_ATOMIC(object, writes) ((void)0)
#endif

template <typename T> MSL_UNCHECKED T atomic_load_explicit(const volatile atomic<T>* object, memory_order) {
    MSL_ATOMIC(object, 0);
    return object->value;
}
template <typename T>
MSL_UNCHECKED void atomic_store_explicit(volatile atomic<T>* object, msl_argument<T> value, memory_order) {
    MSL_ATOMIC(object, 1);
    object->value = value;
}
#define MSL_FETCH(name, result)                                                                              \
    template <typename T>                                                                                    \
    MSL_UNCHECKED T atomic_##name##_explicit(volatile atomic<T>* object, msl_argument<T> operand, memory_order) { \
        MSL_ATOMIC(object, 2);                                                                               \
        if (is_same_v<T, float>) msl_float_atomic();                                                         \
        T old = object->value;                                                                               \
        object->value = T(result);                                                                           \
        return old;                                                                                          \
    }
MSL_FETCH(exchange, operand)
MSL_FETCH(fetch_add, old + operand)
MSL_FETCH(fetch_sub, old - operand)
MSL_FETCH(fetch_min, operand < old ? operand : old)
MSL_FETCH(fetch_max, operand > old ? operand : old)
MSL_FETCH(fetch_and, static_cast<ulong>(old) & static_cast<ulong>(operand))
MSL_FETCH(fetch_or, static_cast<ulong>(old) | static_cast<ulong>(operand))
MSL_FETCH(fetch_xor, static_cast<ulong>(old) ^ static_cast<ulong>(operand))
#undef MSL_FETCH
template <typename T>
MSL_UNCHECKED bool atomic_compare_exchange_weak_explicit(volatile atomic<T>* object, T* expected,
                                                         msl_argument<T> desired, memory_order, memory_order) {
    MSL_ATOMIC(object, 2);
    if (object->value == *expected) {
        object->value = desired;
        return true;
    }
    *expected = object->value;
    return false;
}

}  // namespace metal
}  // namespace msl
