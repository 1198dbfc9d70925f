/* Numbers in the model's dtype, `real`, and threads that share work. */

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
