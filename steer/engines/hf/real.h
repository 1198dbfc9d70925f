/* A `real` is a number in the model's dtype. */

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
