/* A libcuda with four functions, or without cuInit three. With the setting STUB it returns no version, as the toolkit's
   stub library does. */
#include <stdint.h>
#include <stdlib.h>

#ifndef NO_INIT
int cuInit(unsigned flags) { return flags ? 1 : 0; }
#endif

int cuDriverGetVersion(int *version) { *version = 13000; return getenv("FAKE_STUB") ? 34 : 0; }

/* Writes its arguments to the array at `params`. */
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void *stream, void **params, void **extra) {
    uintptr_t got[] = {(uintptr_t)function, gx, gy, gz, bx, by, bz, shared, (uintptr_t)stream,
                       (uintptr_t)extra};
    for (int i = 0; i < 10; i++) ((uintptr_t *)params)[i] = got[i];
    return 0;
}

/* Does not have the real function's type: it has more arguments of each kind than are passed in registers. */
int cuProfilerStart(double *out, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f,
                    int64_t g, int64_t h, double p, double q, double r, double s, double t,
                    double u, double v, double w, double x) {
    double got[] = {a, b, c, d, e, f, g, h, p, q, r, s, t, u, v, w, x};
    for (int i = 0; i < 17; i++) out[i] = got[i];
    return 0;
}
