/* Numbers in the model's dtype, `real`, e^x, threads that share work, and weights as products read
   them. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

#ifdef BF16
typedef uint16_t real;

INLINE float wide(real x) {
    uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}

/* Rounds to the nearest, of two to the even one. */
INLINE real narrow(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (real)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
#else
typedef float real;

INLINE float wide(real x) { return x; }
INLINE real narrow(float x) { return x; }
#endif

/* e^x as 2^n times a polynomial (Cephes' expf), which compilers vectorize. Beyond 60, where a
   sigmoid is 0 or 1, it stands still: its inverse is then never a denormal, which is slow. NaN
   stays NaN. */
INLINE float exponential(float given) {
    float x = given;
    x = x > -60.0f ? x : -60.0f;
    x = x < 60.0f ? x : 60.0f;
    float n = floorf(x * 1.44269504f + 0.5f);
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return given == given ? p * power : given;
}

/* PyTorch's own threads, as GOMP_parallel of its OpenMP runtime starts them. */
typedef void share(void (*)(void *), void *, unsigned, unsigned);

/* Work on parts 0 to `count`, a `chunk` at a time: `part` does those from one to another, as the
   thread of some number. */
typedef struct {
    void (*part)(const void *, int64_t from, int64_t to, int64_t thread);
    const void *given;
    int64_t count, chunk, next, threads;
} work;

/* Takes chunks until there are none. */
static void take(void *given) {
    work *all = given;
    int64_t thread = __atomic_fetch_add(&all->threads, 1, __ATOMIC_RELAXED), at;
    while ((at = __atomic_fetch_add(&all->next, all->chunk, __ATOMIC_RELAXED)) < all->count) {
        int64_t to = at + all->chunk;
        all->part(all->given, at, to < all->count ? to : all->count, thread);
    }
}

/* Shares work among `threads`, at least `least` parts at a time. */
INLINE void divide(void (*part)(const void *, int64_t, int64_t, int64_t), const void *given,
                   int64_t count, int64_t least, share *with, int64_t threads) {
    int64_t chunk = count / (4 * threads);
    work all = {part, given, count, chunk > least ? chunk : least, 0, 0};
    if (threads > 1 && count > all.chunk) with(take, &all, threads, 0);
    else part(given, 0, count, 0);
}

#define GROUP 32   /* columns that share a scale */
#define OUTPUTS 16 /* rows of a matrix that stand side by side */

/* A matrix (outputs, columns), both filled up. For each `OUTPUTS` of its rows, and `GROUP` of its
   columns, there are:
   - words of 16 or 32 bits: column by column, one for each row; bf16 in pairs of columns;
   - 8 bits: four columns of each row, and so on; a byte is 128 more than its value. `scales` are
     fp32, one for each row;
   - 4 bits: the same, where a byte is a column of the first half and, above it, one of the second,
     each 8 more than its value. `scales` are pairs of bf16 for each row of each group: what a value
     is multiplied with, and what is added to it. */
typedef struct {
    const uint8_t *values;
    const void *scales;
    int64_t groups, outputs, bits;
} matrix;
