// The Polar Express iteration on a stack of matrices; how is said in polar_express.h.

#include "polar_express.h"

using namespace autoresearch;

// x (count, rows, columns) bfloat16 from g, of any dtype; both contiguous.
extern "C" int newton_schulz(const void* g, void* x, int64_t count, int64_t rows, int64_t columns,
                             int64_t steps, int dtype) {
    return dispatch(dtype, [&](auto tag) {
        using T = decltype(tag);
        polar_express::stack(static_cast<const T*>(g), static_cast<bfloat16*>(x), count, rows, columns, steps);
        return 0;
    });
}
