// Root-mean-square normalisation of rows, forward and backward.
//
// x, g (rows, width) of T: float, half or bfloat, row-major; eps a number; y and dx as x.
// Launch: one threadgroup per row, a simdgroup for every 128 elements of it, at most 32 (`row_launch`): grid
// (threads, rows, 1), threadgroup (threads, 1, 1). The threads of a group step through the row together. Threadgroup
// memory: 128 bytes.

//! kernel normalise(x, eps) -> (y)
threadgroup float partials[32];
const int width = x_shape[1];
const int threads = int(threads_per_threadgroup.x);
const int first = int(thread_position_in_threadgroup.x);
const size_t row = size_t(threadgroup_position_in_grid.y) * size_t(width);
float squares = 0.0f;
for (int column = first; column < width; column += threads) {
    const float value = float(x[row + column]);
    squares += value * value;
}
squares = group_sum(
    squares, partials, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, simdgroups_per_threadgroup);
const float reciprocal = reciprocal_rms(squares, width, eps);
for (int column = first; column < width; column += threads) {
    y[row + column] = T(float(x[row + column]) * reciprocal);
}

//! kernel differentiate(g, x, eps) -> (dx)
// r is computed again: that costs nothing, for the row is read anyway.
threadgroup float partials[32];
const int width = x_shape[1];
const int threads = int(threads_per_threadgroup.x);
const int first = int(thread_position_in_threadgroup.x);
const size_t row = size_t(threadgroup_position_in_grid.y) * size_t(width);
float squares = 0.0f, products = 0.0f;
for (int column = first; column < width; column += threads) {
    const float value = float(x[row + column]);
    squares += value * value;
    products += float(g[row + column]) * value;
}
squares = group_sum(
    squares, partials, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, simdgroups_per_threadgroup);
products = group_sum(
    products, partials, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, simdgroups_per_threadgroup);
const float reciprocal = reciprocal_rms(squares, width, eps);
const float share = norm_share(products, squares, width, eps);
for (int column = first; column < width; column += threads) {
    const size_t place = row + column;
    dx[place] = T(norm_gradient(float(g[place]), float(x[place]), share, reciprocal));
}
