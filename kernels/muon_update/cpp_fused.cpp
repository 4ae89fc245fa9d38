// One Muon step: momentum, polar factor (polar_express.h), NorMuon, cautious decay and the step.

#include <algorithm>
#include <cmath>
#include <vector>

#include "polar_express.h"

using namespace autoresearch;

namespace {

// Below this many elements starting the threads costs more than the work.
constexpr int64_t PARALLEL_ELEMENTS = 16384;
constexpr float FLOOR = 1e-10f;

// Lets NaN through.
inline float at_least(float value, float least) { return value < least ? least : value; }

// squares[r] = mean over the columns of x^2
void mean_squares_of_rows(const bfloat16* x, float* squares, int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; ++r) {
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < columns; ++c) sum += widen(x[r * columns + c]) * widen(x[r * columns + c]);
        squares[r] = sum / float(columns);
    }
}

// squares[c] = mean over the rows of x^2
void mean_squares_of_columns(const bfloat16* x, float* squares, int64_t rows, int64_t columns) {
    std::fill(squares, squares + columns, 0.0f);
    for (int64_t r = 0; r < rows; ++r) {
#pragma omp simd
        for (int64_t c = 0; c < columns; ++c) squares[c] += widen(x[r * columns + c]) * widen(x[r * columns + c]);
    }
    for (int64_t c = 0; c < columns; ++c) squares[c] /= float(rows);
}

// Updates the running mean squares and turns `squares` into the factor of each row or column: 1 / root of the running
// mean, rescaled so that the matrix keeps its Frobenius norm.
void even_out(float* squares, float* second, int64_t count, float beta2, float rest2) {
    double before = 0.0, after = 0.0;
    for (int64_t i = 0; i < count; ++i) {
        const float square = squares[i];
        second[i] = beta2 * second[i] + rest2 * square;
        const float step = 1.0f / std::sqrt(at_least(second[i], FLOOR));
        before += double(square);
        after += double(square) * double(step) * double(step);
        squares[i] = step;
    }
    // Both norms lack the same factor, the root of the reduced length, which cancels.
    const float scale = float(std::sqrt(before)) / at_least(float(std::sqrt(after)), FLOOR);
    for (int64_t i = 0; i < count; ++i) squares[i] *= scale;
}

inline float stepped(float p, float update, float lr, float decay) {
    return p - lr * (update + (update * p >= 0.0f ? decay * p : 0.0f));
}

// One matrix: p -= lr (u + decay p [u p >= 0]) with u = x times the factor of its row or column.
void apply(float* p, const bfloat16* x, float* second, float* factors, int64_t rows, int64_t columns, float lr,
           float decay, float beta2, float rest2) {
    const bool tall = rows >= columns;
    if (tall) {
        mean_squares_of_rows(x, factors, rows, columns);
    } else {
        mean_squares_of_columns(x, factors, rows, columns);
    }
    even_out(factors, second, tall ? rows : columns, beta2, rest2);
    for (int64_t r = 0; r < rows; ++r) {
        float* out = p + r * columns;
        const bfloat16* in = x + r * columns;
        const float factor = tall ? factors[r] : 1.0f;
        if (tall) {
#pragma omp simd
            for (int64_t c = 0; c < columns; ++c) out[c] = stepped(out[c], widen(in[c]) * factor, lr, decay);
        } else {
#pragma omp simd
            for (int64_t c = 0; c < columns; ++c) out[c] = stepped(out[c], widen(in[c]) * factors[c], lr, decay);
        }
    }
}

// momentum <- mu momentum + (1 - mu) grad; nesterov = (1 - mu) grad + mu momentum.
void look_ahead(const float* grad, float* momentum, float* nesterov, int64_t count, float mu, float rest) {
#pragma omp parallel for simd schedule(static) if (count > PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < count; ++i) {
        const float m = mu * momentum[i] + rest * grad[i];
        momentum[i] = m;
        nesterov[i] = rest * grad[i] + mu * m;
    }
}

}  // namespace

// All float32: p, grad, momentum (N,R,C), second (N, max(R,C)); p, momentum and second are written. Scratch: nesterov
// (N,R,C) float32, x (N,R,C) bfloat16. rates: mu, 1 - mu, lr, weight decay, beta2, 1 - beta2. steps: of
// the iteration.
extern "C" int muon_update(float* p, const float* grad, float* momentum, float* second, float* nesterov, void* x,
                           int64_t count, int64_t rows, int64_t columns, const double* rates, int64_t steps) {
    const float mu = float(rates[0]), rest = float(rates[1]), lr = float(rates[2]), decay = float(rates[3]);
    const float beta2 = float(rates[4]), rest2 = float(rates[5]);
    const int64_t states = std::max(rows, columns), elements = rows * columns;
    bfloat16* polar = static_cast<bfloat16*>(x);
    look_ahead(grad, momentum, nesterov, count * elements, mu, rest);
    polar_express::stack(nesterov, polar, count, rows, columns, steps);
#pragma omp parallel if (count * elements > PARALLEL_ELEMENTS)
    {
        std::vector<float> factors(states);
#pragma omp for schedule(static)
        for (int64_t n = 0; n < count; ++n)
            apply(p + n * elements, polar + n * elements, second + n * states, factors.data(), rows, columns, lr,
                  decay, beta2, rest2);
    }
    return 0;
}
