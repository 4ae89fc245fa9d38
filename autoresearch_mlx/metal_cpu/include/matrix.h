// 8x8 simdgroup matrices: two neighbouring elements of a row per lane. Products accumulate in float, in order of k, and
// are rounded once to the type of the result.
#pragma once
#include "simd.h"

namespace msl {
namespace metal {

template <typename T, int Cols, int Rows = Cols> struct simdgroup_matrix {
    static_assert(Cols == 8 && Rows == 8, "simdgroup matrices are 8x8");

    simdgroup_matrix() = default;
    explicit simdgroup_matrix(T diagonal) {
        for (int i = 0; i < 2; ++i) elements_[i] = T(row() == column() + i ? float(diagonal) : 0.0f);
    }
    vec<T, 2>& thread_elements() { return elements_; }
    const vec<T, 2>& thread_elements() const { return elements_; }

    // Where the first of this lane's elements lies in the matrix.
    static int row() { return int(msl_lane() / 16 * 4 + msl_lane() / 2 % 4); }
    static int column() { return int(msl_lane() / 8 % 2 * 4 + msl_lane() % 2 * 2); }

 private:
    vec<T, 2> elements_;
};

typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;

template <typename T, int Cols, int Rows = Cols>
inline simdgroup_matrix<T, Cols, Rows> make_filled_simdgroup_matrix(T value) {
    simdgroup_matrix<T, Cols, Rows> result;
    result.thread_elements() = vec<T, 2>(value);
    return result;
}

// Element (r, c) of the matrix lies `(y + r) * elements_per_row + x + c` elements behind the pointer, with x and y from
// `origin`; when transposed, element (c, r) does.
template <typename T> inline size_t msl_matrix_offset(int k, ulong elements_per_row, ulong2 origin, bool transpose) {
    using M = simdgroup_matrix<T, 8, 8>;
    ulong row = ulong(transpose ? M::column() + k : M::row()), column = ulong(transpose ? M::row() : M::column() + k);
    return (origin.y + row) * elements_per_row + origin.x + column;
}

template <typename T>
MSL_INLINE void simdgroup_load(simdgroup_matrix<T, 8, 8>& matrix, const T* source, ulong elements_per_row = 8,
                               ulong2 origin = ulong2(0), bool transpose = false) {
    size_t first = msl_matrix_offset<T>(0, elements_per_row, origin, transpose);
    size_t second = msl_matrix_offset<T>(1, elements_per_row, origin, transpose);
    matrix.thread_elements() = vec<T, 2>(source[first], source[second]);
}

template <typename T>
MSL_INLINE void simdgroup_store(const simdgroup_matrix<T, 8, 8>& matrix, T* target, ulong elements_per_row = 8,
                                ulong2 origin = ulong2(0), bool transpose = false) {
    size_t first = msl_matrix_offset<T>(0, elements_per_row, origin, transpose);
    size_t second = msl_matrix_offset<T>(1, elements_per_row, origin, transpose);
    target[first] = matrix.thread_elements()[0];
    target[second] = matrix.thread_elements()[1];
}

template <typename D> MSL_UNCHECKED void msl_matrix_result(simdgroup_matrix<D, 8, 8>& d, const float* mine, int line) {
    msl_rt::Round* round = ::msl_exchange(mine, 6 * sizeof(float), msl_rt::MATRIX, line);
    auto* product = reinterpret_cast<float*>(round->result);
    if (!round->computed) {
        msl_matrix_product(round, product);
        round->computed = true;
    }
    int at = d.row() * 8 + d.column();
    d.thread_elements() = vec<D, 2>(D(product[at]), D(product[at + 1]));
}

template <typename D, typename A, typename B, typename C>
inline void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8>& d, const simdgroup_matrix<A, 8, 8>& a,
                                          const simdgroup_matrix<B, 8, 8>& b, const simdgroup_matrix<C, 8, 8>& c,
                                          MSL_LINE) {
    auto x = a.thread_elements();
    auto y = b.thread_elements();
    auto z = c.thread_elements();
    const float mine[6] = {float(x[0]), float(x[1]), float(y[0]), float(y[1]), float(z[0]), float(z[1])};
    msl_matrix_result(d, mine, line);
}

template <typename D, typename A, typename B>
inline void simdgroup_multiply(simdgroup_matrix<D, 8, 8>& d, const simdgroup_matrix<A, 8, 8>& a,
                               const simdgroup_matrix<B, 8, 8>& b, MSL_LINE) {
    simdgroup_multiply_accumulate(d, a, b, make_filled_simdgroup_matrix<float, 8, 8>(0.0f), line);
}

template <typename T>
inline simdgroup_matrix<T, 8, 8> operator*(const simdgroup_matrix<T, 8, 8>& a, const simdgroup_matrix<T, 8, 8>& b) {
    simdgroup_matrix<T, 8, 8> result;
    simdgroup_multiply(result, a, b, 0);
    return result;
}

}  // namespace metal
}  // namespace msl
