// Vector types. The member functions `get` and `put` stand for swizzles: the source is rewritten to call them.
#pragma once
#include "types.h"

namespace msl {
namespace metal {

template <typename T, int N> struct vec;
template <typename T> constexpr int msl_width_of = 1;
template <typename T, int N> constexpr int msl_width_of<vec<T, N>> = N;

template <typename T, int N> struct msl_vec_data;
template <typename T> struct alignas(2 * sizeof(T)) msl_vec_data<T, 2> {
    union {
        T data[2];
        struct { T x, y; };
        struct { T r, g; };
    };
};
template <typename T> struct alignas(4 * sizeof(T)) msl_vec_data<T, 3> {
    union {
        T data[3];
        struct { T x, y, z; };
        struct { T r, g, b; };
    };
};
template <typename T> struct alignas(4 * sizeof(T)) msl_vec_data<T, 4> {
    union {
        T data[4];
        struct { T x, y, z, w; };
        struct { T r, g, b, a; };
    };
};

// What an assignment to a swizzle writes through.
template <typename T, int... I> struct msl_lanes {
    T* data;
    using value = vec<T, sizeof...(I)>;
    value read() const { return value(data[I]...); }
    const msl_lanes& operator=(value v) const {
        int at = 0;
        ((data[I] = v.data[at++]), ...);
        return *this;
    }
    const msl_lanes& operator+=(value v) const { return *this = read() + v; }
    const msl_lanes& operator-=(value v) const { return *this = read() - v; }
    const msl_lanes& operator*=(value v) const { return *this = read() * v; }
    const msl_lanes& operator/=(value v) const { return *this = read() / v; }
};

template <typename T, int N> struct vec : msl_vec_data<T, N> {
    using msl_vec_data<T, N>::data;

    vec() = default;
    vec(T value) {
        for (int i = 0; i < N; ++i) data[i] = value;
    }
    // From scalars and shorter vectors that have N elements together.
    template <typename A, typename B, typename... More>
    vec(const A& a, const B& b, const More&... more) {
        static_assert(msl_width_of<A> + msl_width_of<B> + (msl_width_of<More> + ... + 0) == N,
                      "wrong number of elements");
        T* at = data;
        append(at, a), append(at, b), (append(at, more), ...);
    }
    template <typename U> explicit vec(const vec<U, N>& other) {
        for (int i = 0; i < N; ++i) data[i] = T(other.data[i]);
    }
    T& operator[](size_t i) { return data[i]; }
    const T& operator[](size_t i) const { return data[i]; }
    template <int... I> vec<T, sizeof...(I)> get() const { return vec<T, sizeof...(I)>(data[I]...); }
    template <int... I> msl_lanes<T, I...> put() { return {data}; }

 private:
    template <typename A> static void append(T*& at, const A& value) { *at++ = T(value); }
    template <typename A, int M> static void append(T*& at, const vec<A, M>& value) {
        for (int i = 0; i < M; ++i) *at++ = T(value.data[i]);
    }

 public:
#define MSL_BINARY(op)                                                                      \
    friend vec operator op(const vec& a, const vec& b) {                                    \
        vec result;                                                                         \
        for (int i = 0; i < N; ++i) result.data[i] = T(a.data[i] op b.data[i]);             \
        return result;                                                                      \
    }                                                                                       \
    friend vec& operator op##=(vec& a, const vec& b) { return a = a op b; }
    MSL_BINARY(+)
    MSL_BINARY(-)
    MSL_BINARY(*)
    MSL_BINARY(/)
    MSL_BINARY(%)
    MSL_BINARY(&)
    MSL_BINARY(|)
    MSL_BINARY(^)
    MSL_BINARY(<<)
    MSL_BINARY(>>)
#undef MSL_BINARY
#define MSL_COMPARE(op)                                                                     \
    friend vec<bool, N> operator op(const vec& a, const vec& b) {                           \
        vec<bool, N> result;                                                                \
        for (int i = 0; i < N; ++i) result.data[i] = a.data[i] op b.data[i];                \
        return result;                                                                      \
    }
    MSL_COMPARE(==)
    MSL_COMPARE(!=)
    MSL_COMPARE(<)
    MSL_COMPARE(<=)
    MSL_COMPARE(>)
    MSL_COMPARE(>=)
    MSL_COMPARE(&&)
    MSL_COMPARE(||)
#undef MSL_COMPARE
    friend vec operator-(const vec& a) {
        vec result;
        for (int i = 0; i < N; ++i) result.data[i] = T(-a.data[i]);
        return result;
    }
    friend vec operator+(const vec& a) { return a; }
    friend vec operator~(const vec& a) {
        vec result;
        for (int i = 0; i < N; ++i) result.data[i] = T(~a.data[i]);
        return result;
    }
    friend vec<bool, N> operator!(const vec& a) {
        vec<bool, N> result;
        for (int i = 0; i < N; ++i) result.data[i] = !a.data[i];
        return result;
    }
};

// Vectors without padding, for memory only.
template <typename T, int N> struct packed_vec {
    T data[N];
    packed_vec() = default;
    packed_vec(const vec<T, N>& v) { *this = v; }
    packed_vec& operator=(const vec<T, N>& v) {
        for (int i = 0; i < N; ++i) data[i] = v.data[i];
        return *this;
    }
    operator vec<T, N>() const {
        vec<T, N> v;
        for (int i = 0; i < N; ++i) v.data[i] = data[i];
        return v;
    }
    T& operator[](size_t i) { return data[i]; }
    const T& operator[](size_t i) const { return data[i]; }
};

#define MSL_VECTORS(T)                                                             \
    typedef vec<T, 2> T##2;                                                        \
    typedef vec<T, 3> T##3;                                                        \
    typedef vec<T, 4> T##4;
MSL_VECTORS(bool)
MSL_VECTORS(char)
MSL_VECTORS(uchar)
MSL_VECTORS(short)
MSL_VECTORS(ushort)
MSL_VECTORS(int)
MSL_VECTORS(uint)
MSL_VECTORS(long)
MSL_VECTORS(ulong)
MSL_VECTORS(half)
MSL_VECTORS(bfloat)
MSL_VECTORS(float)
#undef MSL_VECTORS
#define MSL_PACKED(T)                                                              \
    typedef packed_vec<T, 2> packed_##T##2;                                        \
    typedef packed_vec<T, 3> packed_##T##3;                                        \
    typedef packed_vec<T, 4> packed_##T##4;
MSL_PACKED(char)
MSL_PACKED(uchar)
MSL_PACKED(short)
MSL_PACKED(ushort)
MSL_PACKED(int)
MSL_PACKED(uint)
MSL_PACKED(half)
MSL_PACKED(bfloat)
MSL_PACKED(float)
#undef MSL_PACKED

}  // namespace metal
}  // namespace msl
