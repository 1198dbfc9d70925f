/* What stands between the products of a decoding step. PyTorch needs some thirty operators a layer
   for it, each of which costs a few rows more to call than to compute. compiled.py compiles this
   file where there is a C compiler; where there is none, llama.py and lanes.py do the same with
   PyTorch.

   All arithmetic is in fp32. Threads share rows. */

#include "common.h"

#define SOME 4 /* queries that read a key or a value at once */
#ifdef __AVX512F__
#define WIDTH 16   /* numbers of a register */
#define COLUMNS 64 /* of values that are summed at once, as there are registers */
#else
#define WIDTH 8
#define COLUMNS 32
#endif

typedef struct {
    real *x;
    const real *more, *weight;
    float eps;
    int64_t width;
    real *out;
} sums;

static void norm_rows(const void *given, int64_t from, int64_t to, int64_t thread) {
    const sums *all = given;
    const int64_t width = all->width;
    (void)thread;
    for (int64_t row = from; row < to; row++) {
        real *restrict x = all->x + row * width, *restrict out = all->out + row * width;
        const real *restrict weight = all->weight;
        float sum = 0;
        if (all->more) {
            const real *restrict more = all->more + row * width;
            for (int64_t i = 0; i < width; i++) x[i] = narrow(wide(x[i]) + wide(more[i]));
        }
        for (int64_t i = 0; i < width; i++) sum += wide(x[i]) * wide(x[i]);
        float scale = 1.0f / sqrtf(sum / width + all->eps);
        for (int64_t i = 0; i < width; i++) out[i] = narrow(wide(x[i]) * scale * wide(weight[i]));
    }
}

/* Adds `more` (rows, width), unless it is NULL, to x in place; then `out` is its root-mean-square
   norm, times `weight` (width,). */
void add_norm(real *x, const real *more, const real *weight, float eps, int64_t rows,
              int64_t width, real *out, share *with, int64_t threads) {
    sums all = {x, more, weight, eps, width, out};
    divide(norm_rows, &all, rows, 1, with, threads);
}

/* What `weight` rows, four at a time if there are as many, make of x (width,). */
INLINE void dots(const real *restrict x, const real *restrict weight, int64_t rows, int64_t width,
                 real *restrict out) {
    for (; rows >= 4; rows -= 4, weight += 4 * width, out += 4) {
        float a = 0, b = 0, c = 0, d = 0;
        for (int64_t i = 0; i < width; i++) {
            a += wide(x[i]) * wide(weight[i]);
            b += wide(x[i]) * wide(weight[i + width]);
            c += wide(x[i]) * wide(weight[i + 2 * width]);
            d += wide(x[i]) * wide(weight[i + 3 * width]);
        }
        out[0] = narrow(a), out[1] = narrow(b), out[2] = narrow(c), out[3] = narrow(d);
    }
    for (; rows > 0; rows--, weight += width, out++) {
        float sum = 0;
        for (int64_t i = 0; i < width; i++) sum += wide(x[i]) * wide(weight[i]);
        *out = narrow(sum);
    }
}

typedef struct {
    const real *x, *down;
    int64_t width, ranks, on, most, low, copies;
    real *out;
} adapter;

static void beside_rows(const void *given, int64_t from, int64_t to, int64_t thread) {
    const adapter *all = given;
    const int64_t size = all->most + all->copies * all->low;
    (void)thread;
    for (int64_t row = from; row < to; row++) {
        const real *x = all->x + row * all->width;
        real *out = all->out + row * size;
        memset(out, 0, size * sizeof(real));
        memcpy(out, x, all->width * sizeof(real));
        if (row >= all->on) continue;
        dots(x, all->down, all->ranks, all->width, out + all->most);
        for (int64_t copy = 1; copy < all->copies; copy++)
            memcpy(out + all->most + copy * all->low, out + all->most, all->ranks * sizeof(real));
    }
}

/* Rows that a weight with an adapter's second matrices beside it reads: x (rows, width), and
   `copies` times what the first ones, `down` (ranks, width), make of it; zeros after row `on`. Each
   part is filled up with zeros to a multiple of `group`. */
void beside(const real *x, const real *down, int64_t rows, int64_t width, int64_t ranks, int64_t on,
            int64_t group, int64_t copies, real *out, share *with, int64_t threads) {
    int64_t most = (width + group - 1) / group * group, low = (ranks + group - 1) / group * group;
    adapter all = {x, down, width, ranks, on, most, low, copies, out};
    divide(beside_rows, &all, rows, 1, with, threads);
}

typedef struct {
    const real *both;
    int64_t width;
    real *out;
} gates;

static void silu_rows(const void *given, int64_t from, int64_t to, int64_t thread) {
    const gates *all = given;
    const int64_t width = all->width;
    (void)thread;
    for (int64_t row = from; row < to; row++) {
        const real *restrict both = all->both + 2 * row * width;
        real *restrict out = all->out + row * width;
        for (int64_t i = 0; i < width; i++) {
            float gate = wide(both[i]);
            out[i] = narrow(gate / (1.0f + exponential(-gate)) * wide(both[width + i]));
        }
    }
}

/* silu(gate) * up, for rows that hold `gate` (width,) and then `up` (width,). */
void silu_times(const real *both, int64_t rows, int64_t width, real *out, share *with,
                int64_t threads) {
    gates all = {both, width, out};
    divide(silu_rows, &all, rows, 1, with, threads);
}

/* A head x (dim,) with its rotary embedding, normed before unless `weight` is NULL. */
INLINE void turned(const real *restrict x, const real *restrict weight, float eps,
                   const real *restrict cosine, const real *restrict sine, int64_t dim,
                   real *restrict out) {
    int64_t half = dim / 2;
    float scale = 1;
    if (weight) {
        float sum = 0;
        for (int64_t i = 0; i < dim; i++) sum += wide(x[i]) * wide(x[i]);
        scale = 1.0f / sqrtf(sum / dim + eps);
    }
    for (int64_t i = 0; i < half; i++) {
        float low = wide(x[i]), high = wide(x[i + half]);
        if (weight) {
            low *= scale * wide(weight[i]);
            high *= scale * wide(weight[i + half]);
        }
        out[i] = narrow(low * wide(cosine[i]) + high * wide(sine[i]));
        out[i + half] = narrow(high * wide(cosine[i + half]) + low * wide(sine[i + half]));
    }
}

typedef struct {
    const real *heads, *cosine, *sine, *query_norm, *key_norm;
    float query_eps, key_eps;
    const int64_t *slots;
    int64_t queries, pairs, dim, own;
    real *keys, *values, *out;
} tokens;

static void place_lanes(const void *given, int64_t from, int64_t to, int64_t thread) {
    const tokens *all = given;
    const int64_t dim = all->dim, own = all->own;
    (void)thread;
    for (int64_t lane = from; lane < to; lane++) {
        const real *heads = all->heads + lane * (all->queries + 2 * all->pairs) * dim;
        const real *cosine = all->cosine + lane * dim, *sine = all->sine + lane * dim;
        real *out = all->out + lane * all->queries * dim;
        const int64_t at = (lane * all->pairs * own + all->slots[lane]) * dim;
        real *keys = all->keys + at, *values = all->values + at;
        for (int64_t head = 0; head < all->queries; head++, heads += dim, out += dim)
            turned(heads, all->query_norm, all->query_eps, cosine, sine, dim, out);
        for (int64_t head = 0; head < all->pairs; head++, heads += dim, keys += own * dim)
            turned(heads, all->key_norm, all->key_eps, cosine, sine, dim, keys);
        for (int64_t head = 0; head < all->pairs; head++, heads += dim, values += own * dim)
            memcpy(values, heads, dim * sizeof(real));
    }
}

/* Reads the new token of each lane, heads of queries, keys and values (lanes, queries + 2 * pairs,
   dim): turned queries go to `out` (lanes, queries, dim), keys and values to the lane's `slots` in
   a layer's cache, `keys` and `values` (lanes, pairs, own, dim). `cosine` and `sine` are (lanes,
   dim); the norms of queries and keys are (dim,) or NULL. */
void place(const real *heads, const real *cosine, const real *sine, const real *query_norm,
           float query_eps, const real *key_norm, float key_eps, const int64_t *slots,
           int64_t lanes, int64_t queries, int64_t pairs, int64_t dim, int64_t own, real *keys,
           real *values, real *out, share *with, int64_t threads) {
    tokens all = {heads, cosine, sine, query_norm, key_norm, query_eps, key_eps, slots,
                  queries, pairs, dim, own, keys, values, out};
    divide(place_lanes, &all, lanes, 1, with, threads);
}

/* So many numbers that are added and multiplied at once. */
typedef float numbers __attribute__((vector_size(WIDTH * sizeof(float))));

INLINE numbers load(const real *from) {
    float each[WIDTH];
    numbers all;
    for (int i = 0; i < WIDTH; i++) each[i] = wide(from[i]);
    memcpy(&all, each, sizeof all);
    return all;
}

/* Scores `gap` apart, (queries, count), of keys (count, dim) with queries (queries, dim). */
INLINE void score(const float *restrict q, const real *restrict keys, const int queries,
                  int64_t count, int64_t dim, float *restrict scores, int64_t gap) {
    for (int64_t t = 0; t < count; t++, keys += dim) {
        numbers parts[SOME] = {{0}}, query;
        for (int64_t d = 0; d < dim; d += WIDTH) {
            const numbers key = load(keys + d);
            for (int i = 0; i < queries; i++) {
                memcpy(&query, q + i * dim + d, sizeof query);
                parts[i] += query * key;
            }
        }
        for (int i = 0; i < queries; i++) {
            float sum = 0;
            for (int w = 0; w < WIDTH; w++) sum += parts[i][w];
            scores[i * gap + t] = sum;
        }
    }
}

/* Adds to `size` columns of `out` (queries, dim) those of values (count, dim), weighted. */
INLINE void mix_columns(const float *restrict weights, const real *restrict values,
                        const int queries, int64_t count, int64_t dim, float *restrict out,
                        int64_t gap, const int size) {
    numbers sums[SOME][COLUMNS / WIDTH];
    for (int i = 0; i < queries; i++)
        for (int w = 0; w < size / WIDTH; w++)
            memcpy(&sums[i][w], out + i * dim + w * WIDTH, sizeof sums[i][w]);
    for (int64_t t = 0; t < count; t++, values += dim)
        for (int w = 0; w < size / WIDTH; w++) {
            const numbers value = load(values + w * WIDTH);
            for (int i = 0; i < queries; i++) sums[i][w] += weights[i * gap + t] * value;
        }
    for (int i = 0; i < queries; i++)
        for (int w = 0; w < size / WIDTH; w++)
            memcpy(out + i * dim + w * WIDTH, &sums[i][w], sizeof sums[i][w]);
}

/* Adds to `out` (queries, dim) the sums of values (count, dim), weighted. */
INLINE void mix(const float *restrict weights, const real *restrict values, const int queries,
                int64_t count, int64_t dim, float *restrict out, int64_t gap) {
    int64_t d = 0;
    for (; d + COLUMNS <= dim; d += COLUMNS)
        mix_columns(weights, values + d, queries, count, dim, out + d, gap, COLUMNS);
    for (; d < dim; d += WIDTH)
        mix_columns(weights, values + d, queries, count, dim, out + d, gap, WIDTH);
}

/* Calls `WHAT` for all `each` queries, `SOME` at a time, with their number as a constant. */
#define FOR_QUERIES(WHAT)                                                                         \
    for (int64_t i = 0; i < each; i += SOME) switch (each - i) {                                  \
        case 1: WHAT(1); break;                                                                   \
        case 2: WHAT(2); break;                                                                   \
        case 3: WHAT(3); break;                                                                   \
        default: WHAT(SOME);                                                                      \
        }

typedef struct {
    const real *q;
    const int64_t *about, *contexts;
    const real *keys, *values;
    int64_t pairs, each, dim, own;
    float scale;
    float *work;
    int64_t room;
    real *out;
} attention;

/* For pairs of key and value heads, of all lanes. */
static void attend_pairs(const void *given, int64_t from, int64_t to, int64_t thread) {
    const attention *all = given;
    const int64_t each = all->each, dim = all->dim, pairs = all->pairs, own = all->own;
    float *query = all->work + thread * all->room, *found = query + each * dim;
    float *weights = found + each * dim;
    for (int64_t at = from; at < to; at++) {
        const int64_t lane = at / pairs, pair = at % pairs;
        const int64_t *about = all->about + 3 * lane, *contexts = all->contexts + 2 * lane;
        const real *q = all->q + at * each * dim;
        real *out = all->out + at * each * dim;
        const int64_t first = about[0], mine = about[1] - first, shared = about[2];
        const int64_t count = shared + mine, base = (at * own + first) * dim;
        const real *k = (const real *)contexts[0] + pair * shared * dim;
        const real *v = (const real *)contexts[1] + pair * shared * dim;
        for (int64_t i = 0; i < each * dim; i++) query[i] = wide(q[i]) * all->scale;
#define SCORE(N)                                                                                  \
    score(query + i * dim, k, N, shared, dim, weights + i * count, count);                        \
    score(query + i * dim, all->keys + base, N, mine, dim, weights + i * count + shared, count)
        FOR_QUERIES(SCORE)
        memset(found, 0, each * dim * sizeof(float));
        for (int64_t i = 0; i < each; i++) {
            float *w = weights + i * count, most = w[0], sum = 0;
            for (int64_t t = 0; t < count; t++) most = w[t] > most ? w[t] : most;
            for (int64_t t = 0; t < count; t++) w[t] = exponential(w[t] - most);
            for (int64_t t = 0; t < count; t++) sum += w[t];
            for (int64_t t = 0; t < count; t++) w[t] /= sum;
        }
#define MIX(N)                                                                                    \
    mix(weights + i * count, v, N, shared, dim, found + i * dim, count);                          \
    mix(weights + i * count + shared, all->values + base, N, mine, dim, found + i * dim, count)
        FOR_QUERIES(MIX)
        for (int64_t i = 0; i < each * dim; i++) out[i] = narrow(found[i]);
    }
}

/* What each lane's queries (lanes, pairs * each, dim) find in `shared` tokens of a context, at
   `contexts` (lanes, 2: keys, values), and in its own from `first` to `last`. `about` (lanes, 3) is
   first, last + 1, shared; `out` as the queries. `work` has `room` for each * (2 * dim + tokens)
   for each thread. */
void attend(const real *q, const int64_t *about, const int64_t *contexts, const real *keys,
            const real *values, int64_t lanes, int64_t pairs, int64_t each, int64_t dim,
            int64_t own, float scale, float *work, int64_t room, real *out, share *with,
            int64_t threads) {
    attention all = {q, about, contexts, keys, values, pairs, each, dim, own, scale, work, room, out};
    divide(attend_pairs, &all, lanes * pairs, 1, with, threads);
}
