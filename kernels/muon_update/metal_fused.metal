// One Muon step on stacks of matrices (N, R, C), around the polar factor x (N, R, C), which newton_schulz computes.
//
// blend:  the new momentum and the Nesterov gradient, computed in the arrays' own type: the iteration magnifies how its
//         start was rounded, and so starts from the same numbers as with the other kernels of this target. Each thread
//         takes 4 neighbouring elements; grid (ceil(N R C / 4) rounded up to whole threadgroups, 1, 1). factors (2,)
//         float32: mu, 1 - mu.
// spread: mean square of each line of x and the running mean of it, second_momentum: lines are rows, (N, R, 1), where
//         R >= C (ROWS), else columns, (N, 1, C). A simdgroup per row: grid (ceil(R / 4) THREADS, N, 1); or a thread per
//         column: grid (ceil(C / THREADS) THREADS, N, 1). factors (2,) float32: beta2, 1 - beta2.
// rescale: ratio (N,) float32 that gives an evened-out matrix its Frobenius norm back; grid (THREADS, N, 1), a
//         threadgroup per matrix. squares and second as spread gives them, `width` elements to a line.
// apply:  the new weights. Each thread takes 4 neighbouring elements; grid (ceil(R C / 4) rounded up, N, 1). rates (2,)
//         float32: lr, weight_decay.
//
// THREADS = 128. All other arithmetic is float32; each result is rounded once to its array's type.

constant constexpr float FLOOR = 1e-10f;

// What evens out a line with this running mean square.
inline float line_scale(float second) {
    return precise::rsqrt(max(second, FLOOR));
}

//! kernel blend(grad, momentum, factors, size) -> (new_momentum, nesterov)
uint first = 4 * thread_position_in_grid.x;
for (uint i = first; i < min(first + 4, uint(size)); ++i) {
    T slope = grad[i];
    T kept = momentum[i];
    kept = kept + T(factors[1]) * (slope - kept);
    new_momentum[i] = kept;
    nesterov[i] = slope + T(factors[0]) * (kept - slope);
}

//! kernel spread(x, second, factors) -> (new_second, squares)
int rows = x_shape[1], columns = x_shape[2];
uint number = threadgroup_position_in_grid.y;
auto matrix = x + size_t(number) * rows * columns;
float sum = 0.0f;
int line;
bool writes;
if (ROWS) {
    line = int(threadgroup_position_in_grid.x * simdgroups_per_threadgroup + simdgroup_index_in_threadgroup);
    if (line < rows) {
        for (int column = int(thread_index_in_simdgroup); column < columns; column += 32) {
            float value = float(matrix[size_t(line) * columns + column]);
            sum += value * value;
        }
    }
    sum = simd_sum(sum) / float(columns);
    writes = line < rows && thread_index_in_simdgroup == 0;
} else {
    line = int(thread_position_in_grid.x);
    if (line < columns) {
        for (int row = 0; row < rows; ++row) {
            float value = float(matrix[size_t(row) * columns + line]);
            sum += value * value;
        }
    }
    sum /= float(rows);
    writes = line < columns;
}
if (writes) {
    size_t at = size_t(number) * (ROWS ? rows : columns) + line;
    squares[at] = sum;
    new_second[at] = static_cast<T>(factors[0] * float(second[at]) + factors[1] * sum);
}

//! kernel rescale(squares, second, width) -> (ratio)
threadgroup float shared[32];
int lines = squares_shape[1];
uint number = threadgroup_position_in_grid.y;
float before = 0.0f, after = 0.0f;
for (int line = int(thread_position_in_threadgroup.x); line < lines; line += int(threads_per_threadgroup.x)) {
    size_t at = size_t(number) * lines + line;
    float scale = line_scale(float(second[at]));
    before += squares[at];
    after += squares[at] * scale * scale;
}
before = group_sum(
    before, shared, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, simdgroups_per_threadgroup);
after = group_sum(
    after, shared, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, simdgroups_per_threadgroup);
if (thread_position_in_threadgroup.x == 0) {
    ratio[number] = precise::sqrt(before * float(width)) / max(precise::sqrt(after * float(width)), FLOOR);
}

//! kernel apply(p, x, second, ratio, rates) -> (new_p)
int columns = p_shape[2], size = p_shape[1] * columns;
uint number = thread_position_in_grid.y;
size_t start = size_t(number) * size;
size_t line_start = size_t(number) * (ROWS ? p_shape[1] : columns);
int first = 4 * int(thread_position_in_grid.x);
for (int i = first; i < min(first + 4, size); ++i) {
    int line = ROWS ? i / columns : i % columns;
    float weight = float(p[start + i]);
    float update = float(x[start + i]) * (line_scale(float(second[line_start + line])) * ratio[number]);
    // Cautious decay: only where the update and the weight have one sign, so that decay never fights the update.
    float decayed = update * weight >= 0.0f ? weight : 0.0f;
    new_p[start + i] = static_cast<T>(weight - rates[0] * (update + rates[1] * decayed));
}
