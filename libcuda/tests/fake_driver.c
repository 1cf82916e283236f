/* A fake libcuda with three or four functions. The tests compile it. */
#include <stdint.h>

#ifndef NO_INIT
int cuInit(unsigned flags) { return flags ? 1 : 0; }
#endif

#ifdef STUB
int cuDriverGetVersion(int *version) { return 34; }
#else
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
#endif

/* Writes its arguments to the address in `params`. */
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void *stream, void **params, void **extra) {
    uintptr_t got[] = {(uintptr_t)function, gx, gy, gz, bx, by, bz, shared, (uintptr_t)stream,
                       (uintptr_t)extra};
    for (int i = 0; i < 10; i++) ((uintptr_t *)params)[i] = got[i];
    return 0;
}

/* Not the driver's type. It has more arguments of each kind than are passed in registers. */
int cuProfilerStart(double *out, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f,
                    int64_t g, int64_t h, double p, double q, double r, double s, double t,
                    double u, double v, double w, double x) {
    double got[] = {a, b, c, d, e, f, g, h, p, q, r, s, t, u, v, w, x};
    for (int i = 0; i < 17; i++) out[i] = got[i];
    return 0;
}
