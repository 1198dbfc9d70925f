/* Products of bf16 by a processor's tiles (AMX): for a few rows they take as long as their weights
   are read from memory, for many as long as PyTorch's, which need a call for each of an adapter's
   matrices. Weights are words in the order of common.h, in which `OUTPUTS` rows of a group are a
   tile. */

#include "common.h"

#if defined(BF16) && defined(__AMX_BF16__) && defined(__AVX512BF16__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TILE 16                          /* rows of a tile */
#define BYTES (GROUP * sizeof(real))     /* of each of them */
#define SIZE (TILE * BYTES)
#define TOGETHER 2                       /* tiles of outputs, and of rows, that are multiplied */
#define AHEAD 4096                       /* bytes to fetch before they are read */
#ifndef KEPT
#define KEPT (1 << 18) /* bytes of weights that stay in a cache for all rows */
#endif
#define ALLOW 0x1023                     /* what asks Linux for tiles, and for which */
#define TILE_DATA 18

/* Rows (rows, width), filled up to whole tiles, and what `weight` makes of the columns that it has,
   (rows, outputs), with rows of `out` `gap` apart. */
typedef struct {
    const real *x;
    const matrix *weight;
    int64_t rows, width, outputs, gap;
    real *out;
} product;

/* Asks for tiles, which a process may not use unasked. Returns 0 if it may. */
int64_t use_tiles(void) { return syscall(SYS_arch_prctl, ALLOW, TILE_DATA); }

static void set_tiles(void) {
    struct {
        uint8_t palette, start, none[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } shape = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) shape.bytes[tile] = BYTES, shape.rows[tile] = TILE;
    _tile_loadconfig(&shape);
    __asm__ volatile("" ::: "memory"); /* compilers do not know that tiles are read from memory */
}

/* Writes a tile of rows from row `at` on, of two tiles of outputs from output `to` on. */
INLINE void write_tile(const product *p, int64_t at, int64_t to, const float *first,
                       const float *second) {
    const int64_t left = p->outputs - to, rows = p->rows - at;
    const __mmask32 there = left < 2 * OUTPUTS ? (1u << left) - 1 : ~0u;
    for (int64_t row = 0; row < TILE && row < rows; row++) {
        __m512 low = _mm512_loadu_ps(first + row * OUTPUTS);
        __m512 high = _mm512_loadu_ps(second + row * OUTPUTS);
        __m512i both = (__m512i)_mm512_cvtne2ps_pbh(high, low);
        _mm512_mask_storeu_epi16(p->out + (at + row) * p->gap + to, there, both);
    }
}

/* Two tiles of outputs at `first` and `second`, of two tiles of rows at `x` or, where there are
   no more, one. With `fetch` the weights that come next are fetched from memory. */
INLINE void multiply_tiles(const uint8_t *x, const uint8_t *first, const uint8_t *second,
                           int64_t groups, int64_t next, const int tiles, const int fetch,
                           float (*sums)[TILE * OUTPUTS]) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t group = 0; group < groups; group++, x += BYTES, first += SIZE, second += SIZE) {
        if (fetch)
            for (int64_t byte = 0; byte < SIZE; byte += 64)
                __builtin_prefetch(first + AHEAD + byte), __builtin_prefetch(second + AHEAD + byte);
        _tile_loadd(6, first, BYTES);
        _tile_loadd(4, x, next);
        _tile_dpbf16ps(0, 4, 6);
        if (tiles > 1) {
            _tile_loadd(5, x + TILE * next, next);
            _tile_dpbf16ps(2, 5, 6);
        }
        _tile_loadd(7, second, BYTES);
        _tile_dpbf16ps(1, 4, 7);
        if (tiles > 1) {
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, sums[0], BYTES);
    _tile_stored(1, sums[1], BYTES);
    if (tiles < 2) return;
    _tile_stored(2, sums[2], BYTES);
    _tile_stored(3, sums[3], BYTES);
}

/* For pairs of tiles of outputs. The last may have but one. */
static void multiply_pairs(const void *given, int64_t from, int64_t to, int64_t thread) {
    const product *p = given;
    const int64_t groups = p->weight->groups, size = groups * SIZE, next = p->width * sizeof(real);
    float sums[TOGETHER * TOGETHER][TILE * OUTPUTS] __attribute__((aligned(64)));
    (void)thread;
    set_tiles();
    int64_t some = KEPT / (TOGETHER * size) + 1;
    for (int64_t start = from; start < to; start += some)
        for (int64_t row = 0; row < p->rows; row += TOGETHER * TILE)
            for (int64_t pair = start; pair < to && pair < start + some; pair++) {
                const uint8_t *x = (const uint8_t *)p->x + row * next;
                const uint8_t *first = p->weight->values + pair * TOGETHER * size;
                const int64_t at = pair * TOGETHER * OUTPUTS;
                const uint8_t *second = at + OUTPUTS < p->weight->outputs ? first + size : first;
                if (p->rows - row > TILE) {
                    if (row) multiply_tiles(x, first, second, groups, next, 2, 0, sums);
                    else multiply_tiles(x, first, second, groups, next, 2, 1, sums);
                    write_tile(p, row + TILE, at, sums[2], sums[3]);
                } else if (row) multiply_tiles(x, first, second, groups, next, 1, 0, sums);
                else multiply_tiles(x, first, second, groups, next, 1, 1, sums);
                write_tile(p, row, at, sums[0], sums[1]);
            }
    _tile_release();
}

static void multiply_rows(const product *p, share *with, int64_t threads) {
    const int64_t each = TOGETHER * OUTPUTS;
    divide(multiply_pairs, p, (p->weight->outputs + each - 1) / each, 1, with, threads);
}

/* Rows to fill up to whole groups. */
typedef struct {
    const real *x;
    int64_t rows, width, filled;
    real *to;
} filling;

static void fill_rows(const void *given, int64_t from, int64_t to, int64_t thread) {
    const filling *all = given;
    (void)thread;
    for (int64_t row = from; row < to; row++) {
        const int64_t width = row < all->rows ? all->width : 0;
        real *out = all->to + row * all->filled;
        memcpy(out, all->x + row * all->width, width * sizeof(real));
        memset(out + width, 0, (all->filled - width) * sizeof(real));
    }
}

/* The same as `multiply` of products.c, for words. `work` has room for 64 bytes for each group of
   `weight` and row, for `TILE` rows or a multiple of them. */
void multiply_by_tiles(const real *x, int64_t rows, int64_t width, const matrix *down, int64_t on,
                       int64_t copies, const matrix *weight, share *with, int64_t threads,
                       void *work, int64_t outputs, real *out) {
    const int64_t filled = weight->groups * GROUP, all = (rows + TILE - 1) / TILE * TILE;
    filling f = {x, rows, width, filled, work};
    divide(fill_rows, &f, all, TILE, with, threads);
    const int64_t ranks = down ? down->outputs : 0, more = (ranks + GROUP - 1) / GROUP * GROUP;
    real *low = f.to + (width + GROUP - 1) / GROUP * GROUP;
    if (down && on) {
        product p = {f.to, down, on, filled, ranks, filled, low};
        multiply_rows(&p, with, threads);
    }
    for (int64_t copy = 1; copy < copies; copy++)
        for (int64_t row = 0; row < on; row++)
            memcpy(low + row * filled + copy * more, low + row * filled, ranks * sizeof(real));
    product p = {f.to, weight, rows, filled, outputs, outputs, out};
    multiply_rows(&p, with, threads);
}
#endif
